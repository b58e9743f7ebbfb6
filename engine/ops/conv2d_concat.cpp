#include "engine/ops/conv2d_concat.h"

#include "engine/ops/concat.h"
#include "engine/ops/separate.h"
#include "engine/profiler/cost.h"

namespace plume {

namespace {

int64_t macs(const Tensor& x, const Tensor& w) { return x.size() / x.dim(3) * w.size(); }

CallCost cost(const Tensor& x0, const Tensor&, const Tensor& w, PackedFilter* const&, const Epilogue&,
              const Tensor&, const Tensor&) {
  return {CallClass::pointwise, double(macs(x0, w))};
}

}  // namespace

constinit KernelSlot<Conv2dConcatForward> conv2d_concat_forward{"conv2d_concat.forward", cost};

namespace {

// On any device, for what no other variant takes: each operation on its own.
void run_separate(Context& context, const Tensor& x0, const Tensor& x1, const Tensor& w, PackedFilter* packed,
                  const Epilogue& epilogue, Tensor& y0, Tensor& y1) {
  Tensor x = empty(x0.shape().with(-1, w.dim(3)), x0), y = empty(x0.shape().with(-1, w.dim(0)), x0);
  concat_forward(context, x0, x1, x);
  conv2d_forward(context, x, w, {.packed = packed}, epilogue, y);
  concat_backward(context, y, y0, y1);
}

const bool registered = add_separate(conv2d_concat_forward, run_separate);

}  // namespace

std::pair<Tensor, Tensor> conv2d_concat(const Tensor& x0, const Tensor& x1, const Tensor& w,
                                        PackedFilter* packed, const Epilogue& epilogue, int64_t first) {
  PLUME_CHECK(x0.rank() == 4 && x0.shape().with(-1, 0) == x1.shape().with(-1, 0) && x0.dtype() == x1.dtype(),
              "conv2d_concat: {} and {} are not side by side", x0, x1);
  PLUME_CHECK(w.rank() == 4 && w.dim(1) == 1 && w.dim(2) == 1 && w.dim(3) == x0.dim(3) + x1.dim(3) &&
                  0 < first && first < w.dim(0) && !epilogue.residual.defined(),
              "conv2d_concat: weight {} for {} and {} channels, the first {} outputs apart", w.shape(),
              x0.dim(3), x1.dim(3), first);
  Tensor y0 = empty(x0.shape().with(-1, first), x0), y1 = empty(x0.shape().with(-1, w.dim(0) - first), x0);
  count_macs(Work::pointwise, macs(x0, w));
  conv2d_concat_forward(context(x0.device()), x0, x1, w, packed, epilogue, y0, y1);
  return {y0, y1};
}

}  // namespace plume
