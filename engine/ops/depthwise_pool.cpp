#include "engine/ops/depthwise_pool.h"

#include "engine/ops/depthwise_conv2d.h"
#include "engine/ops/global_avg_pool.h"
#include "engine/ops/separate.h"
#include "engine/profiler/cost.h"

namespace plume {

namespace {

CallCost depthwise_pool_cost(const Tensor& x, const Tensor& w, const Conv2dParams& p, const Epilogue&,
                             const Tensor&, const Tensor&) {
  return {CallClass::depthwise, double(depthwise_conv2d_macs(x.shape(), w.shape(), p))};
}

}  // namespace

constinit KernelSlot<DepthwisePool> depthwise_pool_forward{"depthwise_pool.forward", depthwise_pool_cost};

namespace {

// On any device, for what no other variant takes: one operation after the other.
void run_separate(Context& context, const Tensor& x, const Tensor& w, const Conv2dParams& p,
                  const Epilogue& epilogue, Tensor& y, Tensor& pooled) {
  depthwise_conv2d_forward(context, x, w, p, epilogue, y);
  Tensor means = pooled.reshape({y.dim(0), y.dim(3)});
  global_avg_pool_forward(context, y, means);
}

const bool registered = add_separate(depthwise_pool_forward, run_separate);

}  // namespace

Tensor plane_means(const Tensor& y, int64_t parts) {
  return Tensor::empty({y.dim(0), parts, y.dim(3)}, DType::f32, y.device());
}

Tensor depthwise_pool(const Tensor& x, const Tensor& w, const Conv2dParams& p, const Epilogue& epilogue,
                      Tensor& pooled) {
  Tensor y = empty(depthwise_conv2d_shape(x.shape(), w.shape(), p), x);
  pooled = plane_means(y, 1);
  count_macs(Work::depthwise, depthwise_conv2d_macs(x.shape(), w.shape(), p));
  depthwise_pool_forward(context(x.device()), x, w, p, epilogue, y, pooled);
  return y;
}

}  // namespace plume
