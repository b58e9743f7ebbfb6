#include "engine/ops/dropout.h"

#include "engine/autograd/tape.h"

namespace plume {

constinit KernelSlot<DropoutForward> dropout_forward{"dropout.forward"};

Variable dropout(const Variable& x, float p, bool training) {
  PLUME_CHECK(p >= 0 && p < 1, "dropout: a probability of {} is not in [0, 1)", p);
  if (!training || p == 0 || !dropout_enabled()) return x;
  const DropoutParams params{p, layer_random().next_call()};
  const Tensor state = layer_random().state(x.device());
  Tensor y = empty_like(x.value());
  dropout_forward(x.context(), x.value(), state, params, y);
  Context& context = x.context();
  return record("dropout", y, {x}, [&context, state, params](const Tensor& dy, Gradients& g) {
    Tensor dx = empty_like(dy);
    dropout_forward(context, dy, state, params, dx);
    g.add(0, dx);
  });
}

}  // namespace plume
