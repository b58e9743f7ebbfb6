#include "engine/ops/pooled_linear.h"

#include "engine/ops/global_avg_pool.h"
#include "engine/ops/linear.h"
#include "engine/ops/separate.h"
#include "engine/profiler/cost.h"

namespace plume {

namespace {

CallCost cost(const Tensor& x, const Tensor& w, const Epilogue&, const Tensor&) {
  return {CallClass::linear, double(x.dim(0) * w.size())};
}

}  // namespace

constinit KernelSlot<PooledLinear> pooled_linear_forward{"pooled_linear.forward", cost};

namespace {

Tensor means(const Tensor& x) { return empty({x.dim(0), x.dim(3)}, x); }

void run_separate(Context& context, const Tensor& x, const Tensor& w, const Epilogue& epilogue, Tensor& y) {
  Tensor pooled = means(x);
  global_avg_pool_forward(context, x, pooled);
  linear_forward(context, pooled, w, epilogue, y);
}

const bool registered = add_separate(pooled_linear_forward, run_separate);

}  // namespace

Tensor pooled_linear(const Tensor& x, const Tensor& w, const Epilogue& epilogue) {
  PLUME_CHECK(x.rank() == 4 && w.rank() == 2 && x.dim(3) == w.dim(1),
              "pooled_linear: input {} does not fit weight {}", x.shape(), w.shape());
  Context& context = plume::context(x.device());
  Tensor y = empty({x.dim(0), w.dim(0)}, x);
  const char* variant = pooled_linear_forward.choose(context, x, w, epilogue, y);
  if (!is_joint(variant)) return linear_fused(global_avg_pool(x).value(), w, epilogue);
  count_macs(Work::linear, y.size() * x.dim(3));
  pooled_linear_forward(context, x, w, epilogue, y);
  return y;
}

}  // namespace plume
