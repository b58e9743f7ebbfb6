// A block's share of a matrix product, 16-bit types on tensor cores:
//   out[128 rows, 64 columns] += sum over depth of A[row, depth] * B[column, depth]
//
// 256 threads. Depth passes through shared memory in layers of 64 bytes (32 values of 16 bits, 16 floats):
// every thread fetches 16 bytes for each of two rows of A and one of B while the block multiplies the layers
// before. Two stages take turns, one barrier per step.
//   16 bits  8 warps, 4 x 2, each 32 x 32 outputs: per 16 layers four ldmatrix feed eight mma.m16n8k16.
//   float    a thread 8 x 4 outputs: per layer three 16-byte loads feed 32 fused multiply-adds.
// Either way a thread ends with 32 sums in registers.
//
// A step fetches (128 + 64) * 64 bytes for 2 * 128 * 64 * 32 FLOPs (16 bits): 43 FLOPs per byte fetched,
// mostly from L2. The networks' 1x1 convolutions have 16 to 600 channels, so that DRAM is the limit below
// about 270 channels on an H100 (798 TFLOP/s over 3.0 TB/s).
//
// Where the operands come from is the caller's business. An operand is an object with
//   Pack load(int pass);   // 16 bytes of row gemm_row(pass), at depth gemm_lane() within the current step
//   void advance();        // to the next step
// and gives zeros outside the matrix.
#pragma once
#include "kernels/common/finish.h"
#include "kernels/common/kernel.h"
#include "kernels/common/mma.h"
#include "kernels/common/vector.h"

namespace plume::PLUME_KERNELS {

inline constexpr int kGemmThreads = 256, kGemmRows = 128, kGemmColumns = 64;

// Depth of a step: four lanes of 16 bytes.
template <class T>
inline constexpr int kGemmDepth = 4 * kVectorWidth<T>;

// The row of an operand that this thread fetches in pass 0, 1, ..., and its first value within a step. Four
// threads fetch a row; of the two rows that a quarter warp stores at once one lies four below the other,
// where the tile's padding puts it into the other 64 bytes of the banks.
__device__ __forceinline__ int gemm_row(int pass) {
  const int row = int(threadIdx.x) / 4;
  return row / 8 * 8 + row % 2 * 4 + row % 8 / 2 + 64 * pass;
}
template <class T>
__device__ __forceinline__ int gemm_lane() {
  return int(threadIdx.x) % 4 * kVectorWidth<T>;
}

// An operand's piece in shared memory, in the layout that multiply() reads: rows of 16-bit values with 16
// bytes of padding, so that the eight rows of an ldmatrix lie in different banks; floats with the depth
// outermost.
template <class T, int kRows, int kDepth>
struct OperandTile {
  alignas(16) T values[kRows][kDepth + 8];  // of 16-byte rows

  __device__ void put(int row, int depth, const Pack<T, kVectorWidth<T>>& pack) {
    pack.store(&values[row][depth]);
  }
  __device__ void put(int row, int depth, T value) { values[row][depth] = value; }
};
template <int kRows, int kDepth>
struct OperandTile<float, kRows, kDepth> {
  float values[kDepth][kRows + 4];

  __device__ void put(int row, int depth, const Pack<float, 4>& pack) {
#pragma unroll
    for (int i = 0; i < 4; ++i) values[depth + i][row] = pack[i];
  }
  __device__ void put(int row, int depth, float value) { values[depth][row] = value; }
};

// A thread's 32 sums; they come in pairs of neighbouring columns.
template <class T>
struct GemmSums {
  float values[32] = {};

  // f(row, column, value, value of column + 1) for the 16 pairs.
  template <class F>
  __device__ __forceinline__ void for_each_pair(F&& f) const {
    const int thread = int(threadIdx.x);
#pragma unroll
    for (int i = 0; i < 16; ++i) {
      int row, column;
      if constexpr (sizeof(T) == 2) {
        const int lane = thread % 32, warp = thread / 32;
        row = warp % 4 * 32 + i / 8 * 16 + i % 2 * 8 + lane / 4;
        column = warp / 4 * 32 + i / 2 % 4 * 8 + lane % 4 * 2;
      } else {
        row = thread / 16 * 8 + i / 2;
        column = thread % 16 * 4 + i % 2 * 2;
      }
      f(row, column, values[2 * i], values[2 * i + 1]);
    }
  }
};

// sums += a b over the tiles' whole depth.
template <class T, int kDepth>
__device__ __forceinline__ void multiply(const OperandTile<T, kGemmRows, kDepth>& a,
                                         const OperandTile<T, kGemmColumns, kDepth>& b, GemmSums<T>& sums) {
  const int thread = int(threadIdx.x);
  if constexpr (sizeof(T) == 2) {
    const int lane = thread % 32, row0 = thread / 32 % 4 * 32, column0 = thread / 128 * 32;
#pragma unroll
    for (int d = 0; d < kDepth; d += 16) {
      uint32_t left[2][4], right[2][4];
#pragma unroll
      for (int m = 0; m < 2; ++m)  // matrices: rows 0-7 and 8-15, then the same at depth + 8
        ldmatrix_x4(left[m], &a.values[row0 + 16 * m + lane % 16][d + lane / 16 * 8]);
#pragma unroll
      for (int n = 0; n < 2; ++n)  // columns 0-7 at depth 0 and 8, then columns 8-15
        ldmatrix_x4(right[n], &b.values[column0 + 16 * n + lane / 16 * 8 + lane % 8][d + lane / 8 % 2 * 8]);
#pragma unroll
      for (int m = 0; m < 2; ++m)
#pragma unroll
        for (int n = 0; n < 4; ++n) {
          float(&d4)[4] = *reinterpret_cast<float(*)[4]>(&sums.values[(m * 4 + n) * 4]);
          const uint32_t fragment[2] = {right[n / 2][n % 2 * 2], right[n / 2][n % 2 * 2 + 1]};
          mma_m16n8k16(T{}, d4, left[m], fragment);
        }
    }
  } else {
    const int row = thread / 16 * 8, column = thread % 16 * 4;
#pragma unroll 8
    for (int d = 0; d < kDepth; ++d) {
      const auto top = Pack<float, 4>::load(&a.values[d][row]),
                 bottom = Pack<float, 4>::load(&a.values[d][row + 4]);
      const auto right = Pack<float, 4>::load(&b.values[d][column]);
#pragma unroll
      for (int i = 0; i < 8; ++i) {
        const float left = i < 4 ? top[i] : bottom[i - 4];
#pragma unroll
        for (int j = 0; j < 4; ++j) sums.values[i * 4 + j] += left * right[j];
      }
    }
  }
}

template <class T>
struct GemmStage {
  OperandTile<T, kGemmRows, kGemmDepth<T>> a;
  OperandTile<T, kGemmColumns, kGemmDepth<T>> b;
};

// sums += the product over `steps` steps. All threads of the block must call; `stages` may hold anything.
template <class T, class A, class B>
__device__ __forceinline__ void block_gemm(A& a, B& b, int steps, GemmStage<T> (&stages)[2],
                                           GemmSums<T>& sums) {
  using Vector = Pack<T, kVectorWidth<T>>;
  const int lane = gemm_lane<T>();
  typename Vector::Word next_a[2], next_b;
  const auto fetch = [&] {
    next_a[0] = a.load(0).word();
    next_a[1] = a.load(1).word();
    next_b = b.load(0).word();
    a.advance();
    b.advance();
  };
  const auto put = [&](GemmStage<T>& stage) {
    stage.a.put(gemm_row(0), lane, Vector::of(next_a[0]));
    stage.a.put(gemm_row(1), lane, Vector::of(next_a[1]));
    stage.b.put(gemm_row(0), lane, Vector::of(next_b));
  };
  if (steps == 0) return;
  fetch();
  __syncthreads();  // whatever was done with the stages before is over
  put(stages[0]);
  for (int step = 0; step < steps; ++step) {
    __syncthreads();  // this stage is in place, and nobody reads the other any more
    const bool more = step + 1 < steps;
    if (more) fetch();
    multiply(stages[step & 1].a, stages[step & 1].b, sums);
    if (more) put(stages[1 - (step & 1)]);
  }
}

// 16 bytes at `from`, of which `valid` values exist. kVector: all or none exist, and the address allows one
// access.
template <bool kVector, class T>
__device__ __forceinline__ Pack<T, kVectorWidth<T>> load_pack(const T* from, int valid) {
  using Vector = Pack<T, kVectorWidth<T>>;
  if constexpr (kVector) {
    typename Vector::Word word{};
    if (valid > 0) word = Vector::load(from).word();
    return Vector::of(word);
  }
  Vector pack = Vector::filled(T(0.0f));
#pragma unroll
  for (int i = 0; i < kVectorWidth<T>; ++i)
    if (i < valid) pack[i] = from[i];
  return pack;
}

// Where a step stands in a depth of (filter row, filter column, channels), channels in pieces of a step.
template <class T>
struct TapSteps {
  int filter_width, channels, r = 0, t = 0, c = 0;

  __device__ TapSteps(int filter_width_, int channels_) : filter_width(filter_width_), channels(channels_) {}
  __device__ void advance() {
    c += kGemmDepth<T>;
    if (c < channels) return;
    c = 0;
    if (++t == filter_width) {
      t = 0;
      ++r;
    }
  }
};
template <class T>
constexpr __host__ __device__ int steps_per_tap(int channels) {
  return (channels + kGemmDepth<T> - 1) / kGemmDepth<T>;
}

// Operand B of a convolution: rows are filters [K, R, S, C].
template <class T, bool kVector>
struct FilterRows {
  const T* row;  // this thread's filter, at its lane
  bool exists;
  TapSteps<T> at;

  __device__ FilterRows(const T* w, int filter_height, int filter_width, int channels, int first, int filters)
      : at(filter_width, channels) {
    const int k = first + gemm_row(0), lane = gemm_lane<T>();
    exists = k < filters;
    row = w + int64_t(exists ? k : 0) * filter_height * filter_width * channels + lane;
  }
  __device__ Pack<T, kVectorWidth<T>> load(int) const {
    const int valid = exists ? at.channels - at.c - gemm_lane<T>() : 0;
    return load_pack<kVector>(row + (at.r * at.filter_width + at.t) * at.channels + at.c, valid);
  }
  __device__ void advance() { at.advance(); }
};

// Operand A of a convolution: rows are the pixels under one filter tap. `place(row)` says where the patch of
// a row begins, {image, top, left}, with image < 0 for rows that do not exist. kGated: pixels are multiplied
// by gate[image, channel].
struct PatchPlace {
  int image, top, left;
};
template <class T, bool kVector, bool kGated = false>
struct PatchPixels {
  const T* x;
  const float* gate;
  int height, width, dilation;
  PatchPlace places[2];
  TapSteps<T> at;

  template <class Place>
  __device__ PatchPixels(const T* x_, const float* gate_, int height_, int width_, int channels,
                         int filter_width, int dilation_, Place&& place)
      : x(x_), gate(gate_), height(height_), width(width_), dilation(dilation_), at(filter_width, channels) {
    places[0] = place(gemm_row(0));
    places[1] = place(gemm_row(1));
  }
  __device__ Pack<T, kVectorWidth<T>> load(int pass) const {
    const PatchPlace& p = places[pass];
    const int h = p.top + at.r * dilation, v = p.left + at.t * dilation, c = at.c + gemm_lane<T>();
    const bool inside = p.image >= 0 && unsigned(h) < unsigned(height) && unsigned(v) < unsigned(width);
    const int valid = inside ? at.channels - c : 0;
    const int64_t pixel = (int64_t(p.image) * height + h) * width + v;
    auto pack = load_pack<kVector>(x + (valid > 0 ? pixel * at.channels + c : 0), valid);
    if constexpr (kGated) {
      const float* factors = gate + (valid > 0 ? int64_t(p.image) * at.channels + c : 0);
#pragma unroll
      for (int part = 0; part < kVectorWidth<T>; part += 4) {
        const auto quad = load_pack<kVector>(factors + part, valid - part);
#pragma unroll
        for (int i = 0; i < 4; ++i)
          if (part + i < valid) pack[part + i] = T(float(pack[part + i]) * quad[i]);
      }
    }
    return pack;
  }
  __device__ void advance() { at.advance(); }
};

}  // namespace plume::PLUME_KERNELS
