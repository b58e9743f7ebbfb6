// A kernel's sums on their way to memory: EpilogueView (engine/math/epilogue.h) on a pack of neighbouring
// channels.
#pragma once
#include <type_traits>

#include "engine/math/epilogue.h"
#include "kernels/common/vector.h"

namespace plume::PLUME_KERNELS {

template <Activation kActivation, int N>
__device__ __forceinline__ void activate_each(float (&values)[N]) {
#pragma unroll
  for (int i = 0; i < N; ++i) values[i] = activate(kActivation, values[i]);
}

// One branch for all of them.
template <int N>
__device__ __forceinline__ void activate_all(Activation kind, float (&values)[N]) {
  switch (kind) {
    case Activation::relu:
      return activate_each<Activation::relu>(values);
    case Activation::sigmoid:
      return activate_each<Activation::sigmoid>(values);
    case Activation::hardsigmoid:
      return activate_each<Activation::hardsigmoid>(values);
    case Activation::silu:
      return activate_each<Activation::silu>(values);
    case Activation::hardswish:
      return activate_each<Activation::hardswish>(values);
    default:
      return;
  }
}

// Activation and residual; load(to) reads as many values of it.
template <class T, int N, class Load>
__device__ __forceinline__ void end_values(const EpilogueView<T>& finish, float (&values)[N], Load&& load) {
  const auto add = [&] {
    float residual[N];
    load(residual);
#pragma unroll
    for (int i = 0; i < N; ++i) values[i] += residual[i];
  };
  if (finish.residual && !finish.adds_last) add();
  activate_all(finish.activation, values);
  if (finish.adds_last) add();
}

// values[i] = finish(values[i], channel + i, at + i) for neighbouring values, where load(pointer, floats)
// reads as many of scale, shift or residual.
template <class T, int N, class Load>
__device__ __forceinline__ void finish_values(const EpilogueView<T>& finish, float (&values)[N], int channel,
                                              int64_t at, Load&& load) {
  float with[N];
  if (finish.scale) {
    load(finish.scale + channel, with);
#pragma unroll
    for (int i = 0; i < N; ++i) values[i] *= with[i];
  }
  if (finish.shift) {
    load(finish.shift + channel, with);
#pragma unroll
    for (int i = 0; i < N; ++i) values[i] += with[i];
  }
  end_values(finish, values, [&](float(&to)[N]) { load(finish.residual + at, to); });
}

// The same of a whole pack of sums. Scale, shift and residual come in accesses as wide as there are, where
// value by value each would be N requests: `channel` and `at` are multiples of N.
template <class T, int N>
__device__ __forceinline__ Pack<T, N> finish_pack(const EpilogueView<T>& finish, const float (&sums)[N],
                                                  int channel, int64_t at) {
  float values[N];
#pragma unroll
  for (int i = 0; i < N; ++i) values[i] = sums[i];
  finish_values(finish, values, channel, at, [](const auto* from, float(&to)[N]) {
    using Value = std::decay_t<decltype(*from)>;
    constexpr int kPack = N < kVectorWidth<Value> ? N : kVectorWidth<Value>;
#pragma unroll
    for (int part = 0; part < N; part += kPack) {
      const auto pack = Pack<Value, kPack>::load(from + part);
#pragma unroll
      for (int i = 0; i < kPack; ++i) to[part + i] = float(pack[i]);
    }
  });
  Pack<T, N> result;
#pragma unroll
  for (int i = 0; i < N; ++i) result[i] = T(values[i]);
  return result;
}

// Writes two neighbouring values, of which `valid` exist; in one access where the row length is even.
template <class T>
__device__ __forceinline__ void store_pair(T* out, float first, float second, int valid, bool even) {
  if (valid >= 2 && even) {
    Pack<T, 2> pair;
    pair[0] = T(first);
    pair[1] = T(second);
    pair.store(out);
    return;
  }
  if (valid >= 1) out[0] = T(first);
  if (valid >= 2) out[1] = T(second);
}

// Reads them likewise; what is not valid is 0.
template <class T>
__device__ __forceinline__ Pack<float, 2> load_pair(const T* from, int valid, bool even) {
  auto pair = Pack<float, 2>::filled(0.0f);
  if (valid >= 2 && even) {
    const auto both = Pack<T, 2>::load(from);
    pair[0] = float(both[0]);
    pair[1] = float(both[1]);
    return pair;
  }
  if (valid >= 1) pair[0] = float(from[0]);
  if (valid >= 2) pair[1] = float(from[1]);
  return pair;
}

// y[at], y[at + 1] = finish() of the sums of `channel` and the next one, of which `valid` exist; an access
// for each pair where the row length is even. (finish_pack for these alone would be twice the code.)
template <class T>
__device__ __forceinline__ void finish_pair(const EpilogueView<T>& finish, float first, float second,
                                            int channel, int valid, int64_t at, bool even, T* y) {
  if (valid <= 0) return;
  float values[2] = {first, second};
  finish_values(finish, values, channel, at, [&](const auto* from, float(&to)[2]) {
    const auto pair = load_pair(from, valid, even);
    to[0] = pair[0];
    to[1] = pair[1];
  });
  store_pair(y + at, values[0], values[1], valid, even);
}

// Reads eight neighbouring values: `whole`, in accesses of 16 bytes; otherwise one by one, of which `valid`
// exist and the others are 0.
template <class Value>
__device__ __forceinline__ void load_chunk(const Value* from, int valid, bool whole, float (&to)[8]) {
  constexpr int kPack = kVectorWidth<Value>;
  if (whole) {
#pragma unroll
    for (int part = 0; part < 8; part += kPack) {
      const auto pack = Pack<Value, kPack>::load(from + part);
#pragma unroll
      for (int i = 0; i < kPack; ++i) to[part + i] = float(pack[i]);
    }
  } else {
#pragma unroll
    for (int i = 0; i < 8; ++i) to[i] = i < valid ? float(from[i]) : 0.0f;
  }
}

// Writes eight neighbouring values, of which `valid` exist, of a row of `pitch` values: in accesses of 16
// bytes, by fours, in pairs, or one by one, as its length allows. `to` is a multiple of 8 from the row's
// beginning.
template <class T>
__device__ __forceinline__ void store_chunk(T* to, const float (&values)[8], int valid, int pitch) {
  constexpr int kPack = kVectorWidth<T>;
  if (pitch % 8 == 0) {
#pragma unroll
    for (int part = 0; part < 8; part += kPack) {
      Pack<T, kPack> pack;
#pragma unroll
      for (int i = 0; i < kPack; ++i) pack[i] = T(values[part + i]);
      pack.store(to + part);
    }
    return;
  }
  if (pitch % 4 == 0) {
#pragma unroll
    for (int part = 0; part < 8; part += 4) {
      Pack<T, 4> pack;
#pragma unroll
      for (int i = 0; i < 4; ++i) pack[i] = T(values[part + i]);
      if (part < valid) pack.store(to + part);
    }
    return;
  }
#pragma unroll
  for (int i = 0; i < 8; i += 2) store_pair(to + i, values[i], values[i + 1], valid - i, pitch % 2 == 0);
}

// What is fetched of a row where nothing is.
struct Nothing {};

// Eight neighbouring values as they lie in memory.
template <class T>
struct ChunkWords {
  using Words = Pack<T, kVectorWidth<T>>;
  static constexpr int kCount = 8 / kVectorWidth<T>;
  typename Words::Word words[kCount];

  // `valid`, `whole`: as load_chunk() has them.
  __device__ __forceinline__ void load(const T* from, int valid, bool whole) {
#pragma unroll
    for (int part = 0; part < kCount; ++part) {
      auto pack = Words::filled(T(0.0f));
      if (whole) {
        words[part] = Words::load(from + part * kVectorWidth<T>).word();
        continue;
      }
#pragma unroll
      for (int i = 0; i < kVectorWidth<T>; ++i)
        if (part * kVectorWidth<T> + i < valid) pack[i] = from[part * kVectorWidth<T> + i];
      words[part] = pack.word();
    }
  }
  __device__ __forceinline__ void unpack(float (&to)[8]) const {
#pragma unroll
    for (int part = 0; part < kCount; ++part) {
      const auto pack = Words::of(words[part]);
#pragma unroll
      for (int i = 0; i < kVectorWidth<T>; ++i) to[part * kVectorWidth<T> + i] = float(pack.values[i]);
    }
  }
};

// The affine part of finish() for eight neighbouring columns, read once for all of their rows. `valid`,
// `whole`: as load_chunk() has them.
struct ColumnAffine {
  float scale[8], shift[8];

  template <class T>
  __device__ __forceinline__ ColumnAffine(const EpilogueView<T>& finish, int column, int valid, bool whole) {
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      scale[i] = 1.0f;
      shift[i] = 0.0f;
    }
    if (finish.scale) load_chunk(finish.scale + column, valid, whole, scale);
    if (finish.shift) load_chunk(finish.shift + column, valid, whole, shift);
  }
  __device__ __forceinline__ void apply(const float (&sums)[8], float (&values)[8]) const {
#pragma unroll
    for (int i = 0; i < 8; ++i) values[i] = sums[i] * scale[i] + shift[i];
  }
};

// A product's sums on their way to y [rows, columns], as the matrix core stores them (matrix_sums.h).
template <class T>
struct FinishStore {
  EpilogueView<T> finish;
  T* y;
  int pitch;  // columns of y

  struct Columns {
    const FinishStore& to;
    int column;
    ColumnAffine affine;

    __device__ __forceinline__ int64_t place(int row) const { return int64_t(row) * to.pitch + column; }
    __device__ __forceinline__ ChunkWords<T> fetch(int row) const {
      ChunkWords<T> residual{};
      if (to.finish.residual)
        residual.load(to.finish.residual + place(row), to.pitch - column, to.pitch % 8 == 0);
      return residual;
    }
    __device__ __forceinline__ void end(const float (&sums)[8], const ChunkWords<T>& residual,
                                        float (&values)[8]) const {
      affine.apply(sums, values);
      end_values(to.finish, values, [&](float(&with)[8]) { residual.unpack(with); });
    }
    __device__ __forceinline__ void operator()(int row, const float (&sums)[8],
                                               const ChunkWords<T>& residual) const {
      float values[8];
      end(sums, residual, values);
      store_chunk(to.y + place(row), values, to.pitch - column, to.pitch);
    }
    // See matrix_sums.h.
    using Value = T;
    __device__ bool in_pairs() const { return to.pitch % 4 == 2; }
    __device__ __forceinline__ auto packed(const float (&sums)[8], const ChunkWords<T>& residual) const {
      float values[8];
      end(sums, residual, values);
      return Pack<T, 8>::narrow(values).word();
    }
    __device__ __forceinline__ T* begin(int row) const { return to.y + int64_t(row) * to.pitch; }
  };
  __device__ __forceinline__ Columns columns(int column) const {
    return {*this, column, ColumnAffine(finish, column, pitch - column, pitch % 8 == 0)};
  }
};

}  // namespace plume::PLUME_KERNELS
