// squeeze_gate, "tensor_core": both small products of 16-bit weights for sixteen images at once.
//
// A block has the rows of its images, pooled [16, C] and hidden [16, S], as 16 bits in shared memory; columns
// are rows of a weight, straight from the L2: of 32 layers a lane loads 8 that lie side by side, of the
// weight's row and of the images' alike. The instruction names layers otherwise, but a sum does not mind.
//   hidden  Tiles of 8 columns; where there are fewer of them than warps, warps share out the layers, and the
//           parts are added in order.
//   gate    Tiles of 8 columns, shared out among the warps of blockIdx.y's blocks, each of which has made all
//           of hidden for itself.
//
// What arrives are means in parts [N, parts, C] (depthwise_pool.h), which a thread adds in order.
//
// Bytes: the weights once per block instead of once per image, from the L2. FLOPs: 4 N C S. A multiprocessor
// reads some 64 bytes per clock: C = 576 and S = 144 are 0.3 MB, 3 microseconds.
#include <algorithm>

#include "engine/ops/mbconv.h"
#include "kernels/common/kernel.h"
#include "kernels/common/mma.h"
#include "kernels/common/vector.h"

namespace plume::PLUME_KERNELS {
namespace {

constexpr int kGateThreads = 512, kGateWarps = kGateThreads / 32, kGateImages = 16;
constexpr int kLayers = 32;  // of a turn

// Values from one row in shared memory to the next: two rows of 64 bytes, which a quarter warp reads at once,
// lie in different banks.
PLUME_HD constexpr int gate_pitch(int layers) {
  const int whole = (layers + kLayers - 1) / kLayers * kLayers;
  return whole % (2 * kLayers) == 0 ? whole + kLayers : whole;
}

struct GateSizes {
  int images, channels, hidden, mean_parts;
  int row_shift;  // 2^this threads make a row

  GateSizes(int64_t images_, int64_t mean_parts_, int64_t channels_, int64_t hidden_)
      : images(int(images_)),
        channels(int(channels_)),
        hidden(int(hidden_)),
        mean_parts(int(mean_parts_)),
        row_shift(5) {
    static_assert(kGateThreads >> 5 == kGateImages);
    while (images << (row_shift + 1) <= kGateThreads) ++row_shift;
  }
  PLUME_HD int hidden_tiles() const { return hidden / 8; }
  // Of the first product's layers.
  PLUME_HD int parts() const {
    const int parts = kGateWarps / hidden_tiles();
    return parts > 1 ? parts : 1;
  }
  size_t bytes() const {
    const size_t rows = 2 * size_t(gate_pitch(channels) + gate_pitch(hidden));
    return kGateImages * (rows + sizeof(float) * size_t(parts() * hidden));
  }
};

// sums += the product of up to 16 rows in shared memory and 8 columns w[column, :], over layers first to
// last - 1.
template <class T>
__device__ __forceinline__ void gate_product(const T* from, int rows, int pitch, const T* __restrict__ w,
                                             int layers, int first, int last, float (&sums)[4]) {
  using Chunk = Pack<T, 8>;
  const int lane = int(threadIdx.x) % 32, group = lane / 4, place = lane % 4 * 8;
  const T* const column = w + (int64_t(group) * layers + place);
  const T *const top = from + (group * pitch + place), *const bottom = top + 8 * pitch;
#pragma unroll 8
  for (int k = first; k < last; k += kLayers) {
    uint4 right{};
    if (k + place < layers) right = Chunk::load(column + k).word();
    uint4 upper{}, lower{};
    if (group < rows) upper = Chunk::load(top + k).word();
    if (group + 8 < rows) lower = Chunk::load(bottom + k).word();
    const uint32_t left[2][4] = {{upper.x, lower.x, upper.y, lower.y}, {upper.z, lower.z, upper.w, lower.w}};
    const uint32_t fragments[2][2] = {{right.x, right.y}, {right.z, right.w}};
    mma_m16n8k16(T{}, sums, left[0], fragments[0]);
    mma_m16n8k16(T{}, sums, left[1], fragments[1]);
  }
}

// What a gradient reads; null in evaluation.
struct KeptOfGate {
  float *pooled, *z1, *z2;
};

template <class T>
__global__ void __launch_bounds__(kGateThreads, 1)
    squeeze_gate_core(const float* __restrict__ pooled, const T* __restrict__ w1,
                      const float* __restrict__ b1, const T* __restrict__ w2, const float* __restrict__ b2,
                      const GateSizes s, const SqueezeExcitationParams params, float* __restrict__ gate,
                      const KeptOfGate kept) {
  const int mean_pitch = gate_pitch(s.channels), hidden_pitch = gate_pitch(s.hidden);
  T* const mean = simt::dyn_smem<T>();                                                   // [16, mean_pitch]
  T* const hidden = mean + kGateImages * mean_pitch;                                     // [16, hidden_pitch]
  float* const partial = reinterpret_cast<float*>(hidden + kGateImages * hidden_pitch);  // [parts, 16, S]
  const int thread = int(threadIdx.x), warp = thread / 32, group = thread % 32 / 4, pair = thread % 4 * 2;
  const int first_image = int(blockIdx.x) * kGateImages, rows = min(s.images - first_image, kGateImages);

  // Rows are shared out among the threads; there are only as many as images.
  const int row = thread >> s.row_shift, place = thread & ((1 << s.row_shift) - 1);
  const bool has_row = row < rows, keeps = kept.pooled && blockIdx.y == 0;
  if (has_row) {
    const float* const means = pooled + int64_t(first_image + row) * s.mean_parts * s.channels;
    for (int c = place * 4; c < mean_pitch; c += 4 << s.row_shift) {
      auto values = Pack<float, 4>::filled(0.0f);
      if (c < s.channels) {
        const float* from = means + c;
#pragma unroll 8
        for (int part = 0; part < s.mean_parts; ++part, from += s.channels) {
          const auto more = Pack<float, 4>::load(from);
#pragma unroll
          for (int j = 0; j < 4; ++j) values[j] += more[j];
        }
        if (keeps) values.store(kept.pooled + int64_t(first_image + row) * s.channels + c);
      }
      Pack<T, 4>::narrow(values.values).store(mean + row * mean_pitch + c);
    }
  }
  __syncthreads();

  const int tiles = s.hidden_tiles(), parts = s.parts();
  const int per_part = (mean_pitch / kLayers + parts - 1) / parts * kLayers;
  for (int item = warp; item < tiles * parts; item += kGateWarps) {
    const int part = item / tiles, column = (item - part * tiles) * 8;
    float sums[4] = {};
    gate_product(mean, rows, mean_pitch, w1 + int64_t(column) * s.channels, s.channels, part * per_part,
                 min((part + 1) * per_part, s.channels), sums);
#pragma unroll
    for (int i = 0; i < 4; ++i)
      partial[(part * kGateImages + group + i / 2 * 8) * s.hidden + column + pair + i % 2] = sums[i];
  }
  __syncthreads();
  if (has_row) {
    for (int q = place; q < hidden_pitch; q += 1 << s.row_shift) {
      float sum = 0.0f;
      if (q < s.hidden) {
        for (int part = 0; part < parts; ++part) sum += partial[(part * kGateImages + row) * s.hidden + q];
        sum += b1[q];
        if (keeps) kept.z1[int64_t(first_image + row) * s.hidden + q] = sum;
        sum = activate(params.inner, sum);
      }
      hidden[row * hidden_pitch + q] = T(sum);
    }
  }
  __syncthreads();

  for (int tile = int(blockIdx.y) * kGateWarps + warp; tile * 8 < s.channels;
       tile += int(gridDim.y) * kGateWarps) {
    float sums[4] = {};
    gate_product(hidden, rows, hidden_pitch, w2 + int64_t(tile) * 8 * s.hidden, s.hidden, 0, s.hidden, sums);
    const int column = tile * 8 + pair;
    const auto bias = Pack<float, 2>::load(b2 + column);
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int image = first_image + group + half * 8;
      if (image >= s.images) continue;
      const int64_t at = int64_t(image) * s.channels + column;
      Pack<float, 2> gates;
      gates[0] = sums[2 * half] + bias[0];
      gates[1] = sums[2 * half + 1] + bias[1];
      if (kept.z2) gates.store(kept.z2 + at);
      gates[0] = activate(params.gate, gates[0]);
      gates[1] = activate(params.gate, gates[1]);
      gates.store(gate + at);
    }
  }
}

void run_gate_core(Context& context, const Tensor& pooled, const Tensor& w1, const Tensor& b1,
                   const Tensor& w2, const Tensor& b2, const SqueezeExcitationParams& params, Tensor& gate,
                   SqueezeExcitationKept& kept) {
  const GateSizes s(pooled.dim(0), pooled.dim(1), pooled.dim(2), w1.dim(0));
  const int64_t groups = ceil_div(s.images, kGateImages);
  // Blocks that share images share out the second product's columns: at most as many as multiprocessors.
  const int64_t most = ceil_div(s.channels / 8, kGateWarps), sharing = simt::multiprocessors() / groups;
  const simt::Launch launch{dim3(unsigned(groups), unsigned(std::clamp<int64_t>(sharing, 1, most))),
                            dim3(kGateThreads), s.bytes(), stream_of(context)};
  KeptOfGate to{};
  if (kept.pooled.defined()) to = {kept.pooled.data<float>(), kept.z1.data<float>(), kept.z2.data<float>()};
  const auto run = [&](auto zero) {
    using T = decltype(zero);
    simt::launch<squeeze_gate_core<T>>(launch, pooled.data<float>(), w1.data<T>(), b1.data<float>(),
                                       w2.data<T>(), b2.data<float>(), s, params, gate.data<float>(), to);
  };
  w1.dtype() == DType::f16 ? run(f16{}) : run(bf16{});
}

bool fits_gate_core(const Context&, const Tensor& pooled, const Tensor& w1, const Tensor&, const Tensor&,
                    const Tensor&, const SqueezeExcitationParams&, Tensor&, SqueezeExcitationKept&) {
  constexpr int64_t kMostBytes = 96 << 10;
  const int64_t channels = pooled.dim(2), hidden = w1.dim(0);
  return w1.dtype() != DType::f32 && pooled.size() > 0 && channels % 8 == 0 && hidden % 8 == 0 &&
         channels < kMostBytes && hidden < kMostBytes &&
         int64_t(GateSizes(1, 1, channels, hidden).bytes()) <= kMostBytes;
}

const bool squeeze_gate_registered = squeeze_gate_forward.add(
    kThisDevice, {{"tensor_core", fits_gate_core, run_gate_core}}, KernelSlotBase::kOwn + 1);

}  // namespace
}  // namespace plume::PLUME_KERNELS
