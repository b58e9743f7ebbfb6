// The end of a tile on the matrix core (matrix_core.h): a warp's sums leave its registers for memory, 16 rows
// after the other through shared memory, so that lanes side by side write what lies side by side.
//
// Who takes them is an object with
//   auto columns(int slice, int column) const;  // what eight neighbouring columns need, read once for all
// which gives an object with
//   auto fetch(int row) const;                  // what a row needs of memory besides: Nothing, or words
//   void operator()(int row, const float (&sums)[8], const auto& fetched) const;
// and, where the result is stored along the rows of the product,
//   static constexpr bool kAlongRows = true;    // lanes lie along rows; nothing is read for columns
// Where rows are so long that an access has two values at most, lanes that each store eight would leave gaps
// between them in every one. An object of columns may then have
//   using Value;                                // of 16 bits
//   bool in_pairs() const;                      // are they?
//   Pack<Value, 8>::Word packed(const float (&sums)[8], const auto& fetched) const;  // what it would store
//   Value* begin(int row) const;                // of the row's first column
#pragma once
#include <algorithm>
#include <utility>

#include "engine/core/tensor.h"
#include "kernels/common/finish.h"
#include "kernels/common/last_block.h"
#include "kernels/common/matrix_plan.h"

namespace plume::PLUME_KERNELS {

// Keeps what follows from x out of registers while the loop before runs: the compiler would compute it ahead.
__device__ __forceinline__ int computed_here(int x) {
#if !SIMT_EMU
  asm volatile("" : "+r"(x));
#endif
  return x;
}

// How the warps share a tile: kWarpRows x kWarpColumns sums each. 256 threads on a multiprocessor leave a
// thread 255 registers, of which 64 x 64 sums of a warp take 128; 384 leave 168, and 48 x 64 take 96.
template <int kColumns, int kRows = kCoreRows>
struct CoreShape {
  static_assert(kColumns == 32 || kColumns == 64 || kColumns == 96 || kColumns == 128 || kColumns == 192);
  static constexpr int kWarpRows = warp_rows(kColumns, kRows), kWarpColumns = warp_columns(kColumns);
  static constexpr int kWarpsDown = kRows / kWarpRows;
  static constexpr int kThreads = core_threads(kRows, kColumns);
  static_assert(kWarpsDown * (kColumns / kWarpColumns) * 32 == kThreads);
  static constexpr int kSpan = kWarpColumns % 64 == 0 ? 64 : 32;  // columns stored at once
  static constexpr int kBufferBytes = kThreads / 32 * 16 * kSpan * int(sizeof(float));

  __device__ static int warp_row() { return int(threadIdx.x) / 32 % kWarpsDown * kWarpRows; }
  __device__ static int warp_column() { return int(threadIdx.x) / (32 * kWarpsDown) * kWarpColumns; }
};

// A warp's sums.
template <int kColumns, int kRows = kCoreRows>
struct CoreSums {
  static constexpr int kRowTiles = CoreShape<kColumns, kRows>::kWarpRows / 16;  // of 16 rows
  static constexpr int kTiles = CoreShape<kColumns, kRows>::kWarpColumns / 8;   // of 8 columns
  float values[kRowTiles][kTiles][4];

  __device__ void clear() {
#pragma unroll
    for (int m = 0; m < kRowTiles; ++m)
#pragma unroll
      for (int n = 0; n < kTiles; ++n)
#pragma unroll
        for (int i = 0; i < 4; ++i) values[m][n][i] = 0.0f;
  }
};

namespace core {

// Where a row's 16 bytes of sums lie in the warp's 16 rows of kSpan floats: pairs are written, and 16 bytes
// read along rows or columns, without bank conflicts.
template <int kSpan>
__device__ __forceinline__ int sums_unit(int row, int unit) {
  return row * kSpan + (unit ^ (row & 3) << 1 ^ (row >> 2 & 1) ^ unit >> 3) * 4;
}

template <class Store>
inline constexpr bool kStoresAlongRows = requires {
  requires Store::kAlongRows;
};

template <class Columns>
concept StoresPairs = requires(const Columns& columns) {
  columns.in_pairs();
  requires sizeof(typename Columns::Value) == 2;
};

// A lane's share of 16 rows and kSpan columns: kPasses times eight columns of a row.
template <int kSpan, bool kAlongRows>
struct StoreLanes {
  static constexpr int kChunks = kSpan / kChunk, kPasses = 16 * kChunks / 32;
  int lane;

  __device__ int row(int pass) const {
    if constexpr (kAlongRows) return lane % 16;
    // Of eight rows at once the first and the fifth are neighbours (sums_unit).
    if constexpr (kChunks == 4) return (lane / 8 | lane / 4 % 2 << 2) + 8 * pass;
    return lane / 8 + 4 * pass;
  }
  __device__ int chunk(int pass) const {
    if constexpr (kAlongRows) return lane / 16 + 2 * pass;
    return lane % kChunks;
  }
};

// What a lane has of a pass of four rows and 64 columns, where it is stored in pairs that lie side by side.
// It takes the place of the sums meanwhile.
template <class Columns, bool kTile64>
struct PackedChunk {
  static constexpr bool kUsed = false;
};
template <StoresPairs Columns>
struct PackedChunk<Columns, true> {
  static constexpr bool kUsed = true;
  using T = typename Columns::Value;
  using Chunk = Pack<T, kChunk>;
  using Pair = Pack<T, 2>;
  typename Chunk::Word word = {};

  // `sums`: of the pass; row, rows: the first one of it, and how many there are.
  __device__ __forceinline__ void store(float* sums, const Columns& columns, int lane, int row, int rows,
                                        int column, int end) const {
    T* const values = reinterpret_cast<T*>(sums);
    __syncwarp();  // all have their sums
    Chunk::of(word).store(values + lane * kChunk);
    __syncwarp();
    if (column + 2 * lane >= end) return;
#pragma unroll
    for (int i = 0; i < 4; ++i)
      if (i < rows) Pair::load(values + i * 64 + 2 * lane).store(columns.begin(row + i) + column + 2 * lane);
  }
};

// `buffers`: 16 x kSpan floats for each warp.
template <int kColumns, int kRows, class Plan, class Store>
__device__ __forceinline__ void store_sums(const CoreSums<kColumns, kRows>& sums, char* buffers,
                                           const Plan& plan, const CorePlan::Tile& tile, const Store& store) {
  using Shape = CoreShape<kColumns, kRows>;
  constexpr int kSpan = Shape::kSpan, kRowTiles = CoreSums<kColumns, kRows>::kRowTiles;
  constexpr int kParts = Shape::kWarpColumns / kSpan;
  constexpr bool kAlongRows = kStoresAlongRows<Store>;
  // 168 registers are few: what is stored first makes room for what the rest needs.
  [[maybe_unused]] constexpr int kUnrolled = Shape::kThreads > 256 && !kAlongRows ? kRowTiles : 1;
  using Lanes = StoreLanes<kSpan, kAlongRows>;
  const int thread = computed_here(int(threadIdx.x)), me = thread % 32, group = me / 4, pair = me % 4;
  const Lanes lanes{me};
  float* const buffer = reinterpret_cast<float*>(buffers) + thread / 32 * 16 * kSpan;
  const int first_row = tile.row * kRows + Shape::warp_row();
#pragma unroll 1
  for (int part = 0; part < kParts; ++part) {
    const int first_column = tile.column * kColumns + Shape::warp_column() + part * kSpan;
    if (first_column >= plan.columns) break;
    const int column = first_column + lanes.chunk(0) * kChunk;
    const bool here = column < plan.columns;
    const auto columns = store.columns(tile.slice, here ? column : 0);
#pragma unroll kUnrolled
    for (int m = 0; m < kRowTiles; ++m) {
      const int rows_left = plan.rows - first_row - 16 * m, row = first_row + 16 * m;
      __syncwarp();
      // Registers have no index: which sums are staged is found by comparing.
#pragma unroll
      for (int p = 0; p < kParts; ++p)
#pragma unroll
        for (int i = 0; i < kRowTiles; ++i) {
          if (p != part || i != m) continue;
#pragma unroll
          for (int n = 0; n < kSpan / 8; ++n)
#pragma unroll
            for (int half = 0; half < 2; ++half) {
              const float(&from)[4] = sums.values[i][p * kSpan / 8 + n];
              Pack<float, 2> two;
              two[0] = from[2 * half];
              two[1] = from[2 * half + 1];
              two.store(buffer + sums_unit<kSpan>(group + 8 * half, 2 * n + pair / 2) + pair % 2 * 2);
            }
        }
      __syncwarp();
#pragma unroll 1
      for (int first = 0; first < Lanes::kPasses; first += 2) {
        decltype(columns.fetch(0)) fetched[2];
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          const int to = lanes.row(first + i);
          if (!kAlongRows && here && to < rows_left) fetched[i] = columns.fetch(row + to);
        }
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          const int from = lanes.row(first + i), chunk = lanes.chunk(first + i);
          const bool mine = from < rows_left && first_column + chunk * kChunk < plan.columns;
          [[maybe_unused]] PackedChunk<std::remove_const_t<decltype(columns)>, kColumns == 64> packed;
          if (mine) {
            float eight[kChunk];
#pragma unroll
            for (int half = 0; half < 2; ++half) {
              const auto four = Pack<float, 4>::load(buffer + sums_unit<kSpan>(from, 2 * chunk + half));
#pragma unroll
              for (int j = 0; j < 4; ++j) eight[4 * half + j] = four[j];
            }
            if constexpr (kAlongRows) {
              store.columns(tile.slice, first_column + chunk * kChunk)(row + from, eight, fetched[i]);
            } else if constexpr (packed.kUsed) {
              if (columns.in_pairs())
                packed.word = columns.packed(eight, fetched[i]);
              else
                columns(row + from, eight, fetched[i]);
            } else {
              columns(row + from, eight, fetched[i]);
            }
          }
          if constexpr (packed.kUsed) {
            const int pass = 4 * (first + i);  // its first row
            if (columns.in_pairs())
              packed.store(buffer + pass * kSpan, columns, me, row + pass, rows_left - pass, first_column,
                           plan.columns);
          }
        }
      }
    }
  }
}

}  // namespace core

// A store whose kernel has the whole depth: `Store` without slices.
template <class Store>
struct WholeDepth {
  const Store& store;
  __device__ __forceinline__ auto columns(int, int column) const { return store.columns(column); }
};

// Sums of slices to `partial` [slices, rows, padded columns], where they wait for each other; to `store`
// where it is null.
template <class Store>
struct InSlices {
  float* partial;
  const CorePlan& plan;
  const Store& store;

  using Whole = decltype(std::declval<const Store&>().columns(0));

  struct Columns {
    const InSlices& all;
    int slice, column;
    Whole whole;

    __device__ __forceinline__ auto fetch(int row) const {
      return all.partial ? decltype(whole.fetch(row)){} : whole.fetch(row);
    }
    using Value = typename Whole::Value;
    __device__ bool in_pairs() const requires(core::StoresPairs<Whole>) {
      return !all.partial && whole.in_pairs();
    }
    template <class Fetched>
    __device__ __forceinline__ auto packed(const float (&sums)[kChunk], const Fetched& fetched) const {
      return whole.packed(sums, fetched);
    }
    __device__ __forceinline__ Value* begin(int row) const { return whole.begin(row); }
    template <class Fetched>
    __device__ __forceinline__ void operator()(int row, const float (&sums)[kChunk],
                                               const Fetched& fetched) const {
      if (!all.partial) return whole(row, sums, fetched);
      float* const to =
          all.partial + (int64_t(slice) * all.plan.rows + row) * all.plan.padded_columns() + column;
#pragma unroll
      for (int part = 0; part < kChunk; part += 4) {
        Pack<float, 4> pack;
#pragma unroll
        for (int i = 0; i < 4; ++i) pack[i] = sums[part + i];
        pack.store(to + part);
      }
    }
  };
  __device__ __forceinline__ Columns columns(int slice, int column) const {
    return {*this, slice, column, store.columns(column)};
  }
};

// What slices left of a row's neighbouring columns, as many as divide 8, added in order.
template <int N>
__device__ __forceinline__ void add_slices(const float* partial, const CorePlan& plan, int row, int column,
                                           float (&sums)[N]) {
  constexpr int kPart = N < 4 ? N : 4;
  const int64_t slice = int64_t(plan.rows) * plan.padded_columns();
  const float* from = partial + int64_t(row) * plan.padded_columns() + column;
#pragma unroll
  for (int i = 0; i < N; ++i) sums[i] = 0.0f;
#pragma unroll 4
  for (int s = 0; s < plan.slices; ++s, from += slice) {
#pragma unroll
    for (int part = 0; part < N; part += kPart) {
      const auto pack = Pack<float, kPart>::load(from + part);
#pragma unroll
      for (int i = 0; i < kPart; ++i) sums[part + i] += pack[i];
    }
  }
}

// Adds what they left of eight columns, and stores it.
template <class Store>
__device__ __forceinline__ void store_slices(const float* partial, const CorePlan& plan, int row, int column,
                                             const Store& store) {
  const auto columns = store.columns(column);
  const auto fetched = columns.fetch(row);
  float sums[kChunk];
  add_slices(partial, plan, row, column, sums);
  columns(row, sums, fetched);
}

// Where slices of a product wait for each other. With tickets, one for each tile, the last block of a tile
// adds them (finish_slices); without, a second launch does.
struct SliceSums {
  float* partial = nullptr;  // null: depth was not cut
  unsigned* tickets = nullptr;

  // Of a tile's slices together, that one block may add: 640 rows of 64 sums are 160 KB, two microseconds at
  // 60 bytes a clock, as long as a second launch takes, in which all blocks share the work.
  static constexpr int64_t kMostRows = 640;

  SliceSums(const CorePlan& plan, Tensor& sums, int64_t most_rows = kMostRows) {
    if (!sums.defined()) return;
    partial = sums.data<float>();
    if (std::min(plan.rows, kCoreRows) * plan.slices <= most_rows) tickets = plume::PLUME_KERNELS::tickets();
  }
};

// A tile's slices to `store`, by the last of its blocks: behind matrix_core(), by all threads. Where depth is
// cut every block has one tile.
template <int kColumns, class Store>
__device__ __forceinline__ void finish_slices(const SliceSums& sums, const CorePlan& plan,
                                              const Store& store) {
  if (!sums.tickets || int(blockIdx.x) >= plan.tiles()) return;
  const CorePlan::Tile tile = plan.tile(int(blockIdx.x));
  if (!is_last_block(sums.tickets + tile.row * plan.column_tiles + tile.column, unsigned(plan.slices)))
    return;
  constexpr int kChunks = kColumns / kChunk;
#pragma unroll 1
  for (int place = int(threadIdx.x); place < kCoreRows * kChunks; place += kCoreThreads) {
    const int row = tile.row * kCoreRows + place / kChunks;
    const int column = tile.column * kColumns + place % kChunks * kChunk;
    if (row < plan.rows && column < plan.columns) store_slices(sums.partial, plan, row, column, store);
  }
}

// Second launch: a thread takes eight neighbouring columns.
template <class Store>
__global__ void __launch_bounds__(kCoreThreads, 1)
    matrix_core_slices(const float* __restrict__ partial, const CorePlan plan, Store store) {
  const int chunks = plan.padded_columns() / kChunk;
  const int64_t at = int64_t(blockIdx.x) * kCoreThreads + threadIdx.x;
  if (at >= int64_t(plan.rows) * chunks) return;
  const int row = int(at / chunks);
  store_slices(partial, plan, row, int(at - int64_t(row) * chunks) * kChunk, store);
}

// Where blocks have left it to one.
template <class Store>
void launch_core_slices(const Context& context, const SliceSums& sums, const CorePlan& plan,
                        const Store& store) {
  if (!sums.partial || sums.tickets) return;
  const int64_t threads = int64_t(plan.rows) * plan.padded_columns() / kChunk;
  simt::launch<matrix_core_slices<Store>>(
      {dim3(unsigned(ceil_div(threads, kCoreThreads))), dim3(kCoreThreads), 0, stream_of(context)},
      sums.partial, plan, store);
}

}  // namespace plume::PLUME_KERNELS
