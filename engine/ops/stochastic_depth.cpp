#include "engine/ops/stochastic_depth.h"

#include "engine/autograd/tape.h"
#include "engine/ops/add.h"

namespace plume {

constinit KernelSlot<StochasticDepthForward> stochastic_depth_forward{"stochastic_depth.forward"};

Variable stochastic_depth_add(const Variable& x, const Variable& residual, float p, bool training) {
  PLUME_CHECK(p >= 0 && p < 1, "stochastic_depth: a probability of {} is not in [0, 1)", p);
  PLUME_CHECK(x.shape() == residual.shape() && x.dtype() == residual.dtype() && x.value().rank() > 0,
              "stochastic_depth: {} + {}", x.value(), residual.value());
  if (!training || p == 0 || !dropout_enabled()) return add(x, residual);
  const DropoutParams params{p, layer_random().next_call()};
  const Tensor state = layer_random().state(x.device());
  Tensor y = empty_like(x.value());
  stochastic_depth_forward(x.context(), x.value(), residual.value(), state, params, y);
  Context& context = x.context();
  return record("stochastic_depth", y, {x, residual},
                [&context, state, params](const Tensor& dy, Gradients& g) {
                  if (g.wants(0)) {
                    Tensor dx = empty_like(dy);
                    stochastic_depth_forward(context, dy, Tensor(), state, params, dx);
                    g.add(0, dx);
                  }
                  g.add(1, dy);
                });
}

}  // namespace plume
