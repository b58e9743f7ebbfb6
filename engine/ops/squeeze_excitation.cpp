#include "engine/ops/squeeze_excitation.h"

#include "engine/autograd/tape.h"
#include "engine/profiler/cost.h"

namespace plume {

namespace {

// The two products, of which the gradient needs both factors.
double product_macs(const Tensor& x, const Tensor& w1) { return 2.0 * double(x.dim(0) * w1.size()); }
CallCost forward_cost(const Tensor& x, const Tensor& w1, const Tensor&, const Tensor&, const Tensor&,
                      const SqueezeExcitationParams&, const Tensor&, const Tensor&, const Tensor&,
                      const Tensor&) {
  return {CallClass::squeeze_excitation, product_macs(x, w1)};
}
CallCost backward_cost(const Tensor& x, const Tensor&, const Tensor& w1, const Tensor&, const Tensor&,
                       const Tensor&, const Tensor&, const SqueezeExcitationParams&, const Tensor&,
                       const Tensor&, const Tensor&, const Tensor&, const Tensor&) {
  return {CallClass::squeeze_excitation, 2 * product_macs(x, w1)};
}

}  // namespace

constinit KernelSlot<SqueezeExcitationForward> squeeze_excitation_forward{"squeeze_excitation.forward",
                                                                          forward_cost};
constinit KernelSlot<SqueezeExcitationBackward> squeeze_excitation_backward{"squeeze_excitation.backward",
                                                                            backward_cost};

Variable squeeze_excitation(const Variable& x, const Variable& w1, const Variable& b1, const Variable& w2,
                            const Variable& b2, const SqueezeExcitationParams& params) {
  PLUME_CHECK(x.value().rank() == 4, "squeeze_excitation: input {} must have rank 4", x.shape());
  const int64_t images = x.dim(0), channels = x.dim(3), hidden = w1.dim(0);
  PLUME_CHECK(w1.value().size() == hidden * channels && w2.dim(0) == channels &&
                  w2.value().size() == hidden * channels && b1.shape() == Shape({hidden}) &&
                  b2.shape() == Shape({channels}),
              "squeeze_excitation: input {} does not fit weights {} and {} with biases {} and {}", x.shape(),
              w1.shape(), w2.shape(), b1.shape(), b2.shape());
  const Tensor matrix1 = w1.value().reshape({hidden, channels}),
               matrix2 = w2.value().reshape({channels, hidden});
  count_macs(Work::squeeze_excitation, images * 2 * hidden * channels);
  Tensor y = empty_like(x.value());
  Tensor pooled = Tensor::empty({images, channels}, DType::f32, x.device());
  Tensor z1 = Tensor::empty({images, hidden}, DType::f32, x.device()), z2 = empty_like(pooled);
  squeeze_excitation_forward(x.context(), x.value(), matrix1, b1.value(), matrix2, b2.value(), params, y,
                             pooled, z1, z2);
  return record("squeeze_excitation", y, {x, w1, b1, w2, b2}, [=](const Tensor& dy, Gradients& g) {
    Tensor dx = empty_like(x.value()), dw1 = empty_like(matrix1), dw2 = empty_like(matrix2);
    Tensor db1 = empty_like(b1.value()), db2 = empty_like(b2.value());
    squeeze_excitation_backward(x.context(), x.value(), dy, matrix1, matrix2, pooled, z1, z2, params, dx, dw1,
                                db1, dw2, db2);
    g.add(0, dx);
    g.add(1, dw1.reshape(w1.shape()));
    g.add(2, db1);
    g.add(3, dw2.reshape(w2.shape()));
    g.add(4, db2);
  });
}

}  // namespace plume
