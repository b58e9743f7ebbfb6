#include "engine/ops/conv2d_max_pool.h"

#include "engine/ops/separate.h"
#include "engine/profiler/cost.h"

namespace plume {

namespace {

CallCost cost(const Tensor& x, const Tensor& w, const Conv2dParams& p, const Epilogue&,
              const MaxPool2dParams&, const Tensor&) {
  return {CallClass::dense, double(conv2d_macs(x.shape(), w.shape(), p))};
}

}  // namespace

constinit KernelSlot<Conv2dMaxPool> conv2d_max_pool_forward{"conv2d_max_pool.forward", cost};

namespace {

// On any device, for what no other variant takes: one operation after the other.
void run_separate(Context& context, const Tensor& x, const Tensor& w, const Conv2dParams& p,
                  const Epilogue& epilogue, const MaxPool2dParams& pool, Tensor& y) {
  Tensor whole = empty(conv2d_shape(x.shape(), w.shape(), p), x), argmax;
  conv2d_forward(context, x, w, p, epilogue, whole);
  max_pool2d_forward(context, whole, pool, y, argmax);
}

const bool registered = add_separate(conv2d_max_pool_forward, run_separate);

}  // namespace

Tensor conv2d_max_pool(const Tensor& x, const Tensor& w, const Conv2dParams& p, const Epilogue& epilogue,
                       const MaxPool2dParams& pool) {
  PLUME_CHECK(!epilogue.residual.defined(), "conv2d_max_pool: a residual for output of {}", w.shape());
  Tensor y = empty(max_pool2d_shape(conv2d_shape(x.shape(), w.shape(), p), pool), x);
  count_macs(Work::dense, conv2d_macs(x.shape(), w.shape(), p));
  conv2d_max_pool_forward(context(x.device()), x, w, p, epilogue, pool, y);
  return y;
}

}  // namespace plume
