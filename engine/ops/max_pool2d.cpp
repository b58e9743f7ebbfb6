#include "engine/ops/max_pool2d.h"

#include "engine/autograd/tape.h"

namespace plume {

constinit KernelSlot<MaxPool2dForward> max_pool2d_forward{"max_pool2d.forward", costs<CallClass::pooling>};
constinit KernelSlot<MaxPool2dBackward> max_pool2d_backward{"max_pool2d.backward", costs<CallClass::pooling>};

Shape max_pool2d_shape(const Shape& x, const MaxPool2dParams& p) {
  PLUME_CHECK(x.rank() == 4, "max_pool2d: input {} must have rank 4", x);
  PLUME_CHECK(p.window > 0 && p.stride > 0 && p.padding >= 0 && p.padding <= p.window / 2,
              "max_pool2d: window {}, stride {}, padding {}", p.window, p.stride, p.padding);
  PLUME_CHECK(p.window <= 16, "max_pool2d: window {} is above 16", p.window);
  const auto extent = [&](int64_t in) {
    const int64_t span = in + 2 * p.padding - p.window;
    PLUME_CHECK(span >= 0, "max_pool2d: window {} does not fit into input {}", p.window, x);
    int64_t out = (span + (p.ceil_mode ? p.stride - 1 : 0)) / p.stride + 1;
    if (p.ceil_mode && (out - 1) * p.stride >= in + p.padding) --out;
    return out;
  };
  return {x[0], extent(x[1]), extent(x[2]), x[3]};
}

Variable max_pool2d(const Variable& x, const MaxPool2dParams& p) {
  const Shape shape = max_pool2d_shape(x.shape(), p);
  Tensor y = empty(shape, x.value());
  Tensor argmax = needs_grad({x}) ? Tensor::empty(shape, DType::u8, x.device()) : Tensor();
  max_pool2d_forward(x.context(), x.value(), p, y, argmax);
  return record("max_pool2d", y, {x}, [argmax, p, shape = x.shape()](const Tensor& dy, Gradients& g) {
    Tensor dx = empty(shape, dy);
    max_pool2d_backward(context(dy.device()), dy, argmax, p, dx);
    g.add(0, dx);
  });
}

}  // namespace plume
