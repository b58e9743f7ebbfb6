#include "engine/ops/adaptive_avg_pool2d.h"

#include "engine/autograd/tape.h"

namespace plume {

constinit KernelSlot<AdaptiveAvgPool2dForward> adaptive_avg_pool2d_forward{"adaptive_avg_pool2d.forward",
                                                                           costs<CallClass::pooling>};
constinit KernelSlot<AdaptiveAvgPool2dBackward> adaptive_avg_pool2d_backward{"adaptive_avg_pool2d.backward",
                                                                             costs<CallClass::pooling>};

Variable adaptive_avg_pool2d(const Variable& x, int64_t out_height, int64_t out_width) {
  PLUME_CHECK(x.shape().rank() == 4 && x.dim(1) > 0 && x.dim(2) > 0,
              "adaptive_avg_pool2d: input {} must have rank 4 and pixels", x.shape());
  PLUME_CHECK(out_height > 0 && out_width > 0, "adaptive_avg_pool2d: output {} x {} must have pixels",
              out_height, out_width);
  Tensor y = empty({x.dim(0), out_height, out_width, x.dim(3)}, x.value());
  adaptive_avg_pool2d_forward(x.context(), x.value(), y);
  return record("adaptive_avg_pool2d", y, {x}, [shape = x.shape()](const Tensor& dy, Gradients& g) {
    Tensor dx = empty(shape, dy);
    adaptive_avg_pool2d_backward(context(dy.device()), dy, dx);
    g.add(0, dx);
  });
}

}  // namespace plume
