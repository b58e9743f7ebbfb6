// Many tensors in one launch. A block works on neighbouring values of one tensor: 4096 of them in 16-byte
// vectors per thread, or fewer. Which tensor, and which part of it, it finds by bisection in a table that
// travels in the kernel's arguments: nothing is copied to the device first, so a captured graph replays the
// launch as it is. A table fills the 4 KiB of arguments (80 to 120 tensors); longer lists take a launch for
// each.
#pragma once
#include "kernels/common/kernel.h"
#include "kernels/common/vector.h"

namespace plume::PLUME_KERNELS {

inline constexpr int kTableThreads = 256;
inline constexpr int64_t kTableValues = 4096;  // of a block

// The arrays, all of `size` values, that one entry of the table is about. Null: absent.
template <int kArrays>
struct TableEntry {
  float* arrays[kArrays];
  unsigned size, first_block;
  float rate_factor, weight_decay;

  static constexpr int64_t values_of_block() { return kTableValues; }
};

// `Params`: what else the kernel is told. `EntryOf`: a TableEntry, what adds to it, or something like it.
template <class Params, class EntryOf>
struct TensorTable {
  using Entry = EntryOf;
  static constexpr int kCapacity = int((4096 - sizeof(Params) - 16) / sizeof(Entry));

  Params params;
  int count;
  unsigned blocks;
  Entry entries[kCapacity];

  // The last entry whose first block is at most this one.
  __device__ const Entry& entry_of_block() const {
    int low = 0, high = count;
    while (high - low > 1) {
      const int middle = (low + high) / 2;
      (entries[middle].first_block <= blockIdx.x ? low : high) = middle;
    }
    return entries[low];
  }
};

// A second, 16-bit copy of array kArray; null: none.
template <class T, int kArray>
struct RoundedArray {
  T* to;

  __device__ void store(int64_t i, float value) const {
    if (to) to[i] = T(value);
  }
  template <int kWidth>
  __device__ void store(int64_t i, const Pack<float, kWidth>& values) const {
    if (!to) return;
    Pack<T, kWidth> rounded;
#pragma unroll
    for (int k = 0; k < kWidth; ++k) rounded[k] = T(values[k]);
    rounded.store(to + i);
  }
};

// Calls f(values) for each index of the block's part of the entry, values[j] being that of array j (0 where
// it is absent), and stores those of the arrays whose bit is set in kWritten, and the rounded copy of one.
template <unsigned kWritten, int kArrays, class F, class T = bf16, int kArray = 0>
__device__ __forceinline__ void for_each_value(const TableEntry<kArrays>& entry, const F& f,
                                               const RoundedArray<T, kArray>& rounded = {nullptr}) {
  constexpr int kWidth = 4;
  using Vector = Pack<float, kWidth>;
  const int64_t begin = int64_t(blockIdx.x - entry.first_block) * kTableValues;
  const int64_t end = min(begin + kTableValues, int64_t(entry.size));
  const int64_t vector_end = begin + (end - begin) / kWidth * kWidth;
  for (int64_t i = begin + int64_t(threadIdx.x) * kWidth; i < vector_end; i += kTableThreads * kWidth) {
    Vector vectors[kArrays];
#pragma unroll
    for (int j = 0; j < kArrays; ++j)
      vectors[j] = entry.arrays[j] ? Vector::load(entry.arrays[j] + i) : Vector::filled(0.0f);
#pragma unroll
    for (int k = 0; k < kWidth; ++k) {
      float values[kArrays];
#pragma unroll
      for (int j = 0; j < kArrays; ++j) values[j] = vectors[j][k];
      f(values);
#pragma unroll
      for (int j = 0; j < kArrays; ++j) vectors[j][k] = values[j];
    }
#pragma unroll
    for (int j = 0; j < kArrays; ++j)
      if ((kWritten >> j & 1) && entry.arrays[j]) vectors[j].store(entry.arrays[j] + i);
    rounded.store(i, vectors[kArray]);
  }
  const int64_t i = vector_end + threadIdx.x;
  if (i < end) {
    float values[kArrays];
#pragma unroll
    for (int j = 0; j < kArrays; ++j) values[j] = entry.arrays[j] ? entry.arrays[j][i] : 0.0f;
    f(values);
#pragma unroll
    for (int j = 0; j < kArrays; ++j)
      if ((kWritten >> j & 1) && entry.arrays[j]) entry.arrays[j][i] = values[j];
    rounded.store(i, values[kArray]);
  }
}

// Calls launch(table, launch shape) for as many tables as the entries need; entry(i) gives those with values,
// `first_block` left to this function.
template <class Table, class EntryOf, class LaunchTable>
void for_each_table(Context& context, const typename std::remove_reference_t<decltype(Table::params)>& params,
                    size_t count, const EntryOf& entry_of, const LaunchTable& launch) {
  Table table{};
  table.params = params;
  const auto flush = [&] {
    if (table.blocks == 0) return;
    launch(table, simt::Launch{dim3(table.blocks), dim3(kTableThreads), 0, stream_of(context)});
    table.count = 0;
    table.blocks = 0;
  };
  for (size_t i = 0; i < count; ++i) {
    typename Table::Entry entry = entry_of(i);
    if (entry.size == 0) continue;
    if (table.count == Table::kCapacity) flush();
    entry.first_block = table.blocks;
    table.entries[table.count++] = entry;
    table.blocks += unsigned(ceil_div(entry.size, entry.values_of_block()));
  }
  flush();
}

inline float* array_of(const Tensor& tensor) {
  Tensor handle = tensor;
  return handle.defined() ? handle.data<float>() : nullptr;
}
inline unsigned table_size(const Tensor& tensor) {
  PLUME_CHECK(tensor.size() <= UINT32_MAX, "optimizer: {} has too many values", to_string(tensor));
  return unsigned(tensor.size());
}

}  // namespace plume::PLUME_KERNELS
