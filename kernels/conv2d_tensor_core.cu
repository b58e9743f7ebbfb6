// conv2d forward, "tensor_core": a product on the matrix core, 16-bit types, with everything that follows a
// convolution in evaluation fused into its end.
//
// rows: output pixels,  columns: filters k,  depth: (tap, channel c)
//
// FLOPs: 2 N P Q K R S C. Bytes: x and y once (and the residual), x again for every further tile of columns
// and for the taps of a patch, both from the caches; w from L2. With C = 96 inputs and 24 outputs a 1x1
// convolution does 2 * 24 * 96 FLOPs for 2 * (96 + 24) bytes, 19 per byte: memory is the limit, at 270 FLOPs
// per byte on an H100; 3x3 filters are limited by arithmetic. Small images have few tiles: depth is then cut
// into slices, so that every multiprocessor has one.
// C % 8 == 0: 16-byte copies. 1x1 filters: four or two values at once; else pairs, or (odd) value by value,
// which waits for each; first layers have a kernel of their own (conv2d_stem.cu).
#include "kernels/common/finish.h"
#include "kernels/conv2d_strips.h"

namespace plume::PLUME_KERNELS {
namespace {

// Rows: filters; depth: (tap, channel), channels padded. Where they are not, filters are MatrixRows.
template <class T, int kRows>
struct PaddedFilterRows {
  static constexpr bool kDepthMajor = true;
  using Plan = CopyPlan<kRows, true>;
  const T* w;
  const PatchWalk& walk;
  int filters;
  int filter = 0, depth = 0;

  __device__ PaddedFilterRows(const T* w_, const PatchWalk& walk_, int filters_)
      : w(w_), walk(walk_), filters(filters_) {}
  __device__ void begin(int row, int first) {
    filter = row + Plan::row(0);
    depth = first + Plan::chunk() * kChunk;
  }
  __device__ void fetch(char* tile) {
    char* const to = Plan::place(tile);
    const auto tap = walk.tap(depth);
    const int valid = tap.number < walk.taps() ? walk.channels - tap.channel : 0;
    const int from = (filter * walk.taps() + tap.number) * walk.channels + tap.channel;
#pragma unroll
    for (int pass = 0; pass < Plan::kPasses; ++pass)
      copy_chunk<false, false>(to + pass * Plan::kPassBytes,
                               w + (from + pass * Plan::kStep * walk.taps() * walk.channels),
                               filter + pass * Plan::kStep < filters ? valid : 0, walk.channels % 2 == 0);
    depth += kCoreDepth;
  }
};

// May its depth be cut? One step cannot be, and tall and wide tiles, or strips, are for large products.
constexpr bool is_cut(Reads reads) {
  return !is_strips(reads) && step_of(reads) == kCoreDepth && rows_of(reads) == kCoreRows;
}

template <class T, int kColumns, int kReads>
__global__ void __launch_bounds__(core_threads(rows_of(Reads(kReads)), kColumns),
                                  core_blocks(kColumns, step_of(Reads(kReads)), rows_of(Reads(kReads))))
    conv2d_forward_core(const T* __restrict__ x, const T* __restrict__ w, const PatchWalk walk,
                        const StripWalk strips, const CorePlan plan, const SliceSums sums,
                        const FinishStore<T> store) {
  const InSlices<FinishStore<T>> put{sums.partial, plan, store};
  constexpr int kUnit = unit_of(Reads(kReads)), kDepth = step_of(Reads(kReads)),
                kRows = rows_of(Reads(kReads)), kThreads = core_threads(kRows, kColumns);
  const MatrixRows<T, kColumns, kUnit, kDepth, kThreads> filters(w, plan.columns, plan.depth);
  if constexpr (is_strips(Reads(kReads)))
    strip_core<T, kColumns, kRows>(x, strips, StripFilterRows<T, kColumns, kThreads>(w, plan.columns, walk),
                                   plan, put);
  else if constexpr (Reads(kReads) == Reads::chunks)
    matrix_core<T, kColumns>(PatchRows<T, true>(x, walk), filters, plan, put);
  else if constexpr (Reads(kReads) == Reads::values)
    matrix_core<T, kColumns>(PatchRows<T, false>(x, walk),
                             PaddedFilterRows<T, kColumns>(w, walk, plan.columns), plan, put);
  else
    matrix_core<T, kColumns, kDepth, kRows>(
        MatrixRows<T, kRows, kUnit, kDepth, kThreads>(x, plan.rows, plan.depth), filters, plan, put);
  if constexpr (is_cut(Reads(kReads))) finish_slices<kColumns>(sums, plan, store);
}

template <class T>
void launch_forward(const Context& context, const Tensor& x, const Tensor& w, const Conv2dParams& params,
                    const Epilogue& epilogue, Tensor& y) {
  const ConvSizes s(x, w, y, params);
  const PatchWalk walk = forward_patches(s);
  Reads reads = shallow(reads_of(unit_of_copies({s.channels}, {x.data<T>(), w.data<T>()}), walk.is_matrix()),
                        s.channels);
  int tile = reads == Reads::matrix || reads == Reads::shallow_matrix
                 ? core_columns_by_32(walk.pixels(), s.filters, s.channels)
                 : core_columns(walk.pixels(), s.filters);
  if (reads == Reads::chunks) reads = choose_strips(walk, s.filters, tile);
  if (reads == Reads::matrix) {
    const TileSize size = choose_tile(walk.pixels(), s.filters, s.channels, tile, 1, {kWide192, kWide128});
    reads = reads_of(size);
    tile = size.columns;
  }
  const StripWalk strips(walk);
  const int64_t depth = is_strips(reads) ? strips.depth() : is_matrix(reads) ? s.channels : walk.depth();
  const EpilogueView<T> finish(epilogue);
  const FinishStore<T> store{finish, y.data<T>(), s.filters};
  choose_forward_reads(tile, reads, [&](auto columns, auto kind) {
    constexpr int kColumns = columns();
    constexpr int kRows = rows_of(kind());
    const CorePlan plan(walk.pixels(), s.filters, depth, kColumns, kRows == kCoreRows ? 64 : 1,
                        step_of(kind()), kRows);
    Tensor partial = plan.partial_sums(y.device());
    const SliceSums sums(plan, partial, is_cut(kind()) ? SliceSums::kMostRows : 0);
    simt::launch<conv2d_forward_core<T, kColumns, int(kind())>>(
        {dim3(unsigned(plan.blocks())), dim3(core_threads(kRows, kColumns)),
         core_bytes<kColumns, kind()>(strips), stream_of(context)},
        x.data<T>(), w.data<T>(), walk, strips, plan, sums, store);
    launch_core_slices(context, sums, plan, store);
  });
}

void run_tensor_core_forward(Context& context, const Tensor& x, const Tensor& w, const Conv2dParams& params,
                             const Epilogue& epilogue, Tensor& y) {
  if (x.dtype() == DType::f16)
    launch_forward<f16>(context, x, w, params, epilogue, y);
  else
    launch_forward<bf16>(context, x, w, params, epilogue, y);
}

bool fits_tensor_core_forward(const Context&, const Tensor& x, const Tensor& w, const Conv2dParams&,
                              const Epilogue&, Tensor& y) {
  return fits_core(x, w, y);
}

const bool conv2d_tensor_core_registered =
    conv2d_forward.add(kThisDevice, {{"tensor_core", fits_tensor_core_forward, run_tensor_core_forward}},
                       KernelSlotBase::kOwn + 1);

}  // namespace
}  // namespace plume::PLUME_KERNELS
