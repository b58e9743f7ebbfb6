#include "engine/ops/activation.h"

#include "engine/autograd/tape.h"
#include "engine/ops/relu.h"

namespace plume {

constinit KernelSlot<ActivationForward> activation_forward{"activation.forward",
                                                           costs<CallClass::activation>};
constinit KernelSlot<ActivationBackward> activation_backward{"activation.backward",
                                                             costs<CallClass::activation>};

Variable activation(const Variable& x, Activation kind) {
  if (kind == Activation::identity) return x;
  if (kind == Activation::relu) return relu(x);
  Tensor y = empty_like(x.value());
  activation_forward(x.context(), x.value(), kind, y);
  return record("activation", y, {x}, [x, kind](const Tensor& dy, Gradients& g) {
    Tensor dx = empty_like(dy);
    activation_backward(x.context(), x.value(), dy, kind, dx);
    g.add(0, dx);
  });
}

}  // namespace plume
