#include "engine/ops/global_avg_pool.h"

#include "engine/autograd/tape.h"

namespace plume {

constinit KernelSlot<GlobalAvgPoolForward> global_avg_pool_forward{"global_avg_pool.forward",
                                                                   costs<CallClass::pooling>};
constinit KernelSlot<GlobalAvgPoolBackward> global_avg_pool_backward{"global_avg_pool.backward",
                                                                     costs<CallClass::pooling>};

Variable global_avg_pool(const Variable& x) {
  PLUME_CHECK(x.shape().rank() == 4, "global_avg_pool: input {} must have rank 4", x.shape());
  Tensor y = empty({x.dim(0), x.dim(3)}, x.value());
  global_avg_pool_forward(x.context(), x.value(), y);
  return record("global_avg_pool", y, {x}, [shape = x.shape()](const Tensor& dy, Gradients& g) {
    Tensor dx = empty(shape, dy);
    global_avg_pool_backward(context(dy.device()), dy, dx);
    g.add(0, dx);
  });
}

}  // namespace plume
