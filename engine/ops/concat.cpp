#include "engine/ops/concat.h"

#include "engine/autograd/tape.h"

namespace plume {

constinit KernelSlot<ConcatForward> concat_forward{"concat.forward"};
constinit KernelSlot<ConcatBackward> concat_backward{"concat.backward"};

Variable concat(const Variable& a, const Variable& b) {
  PLUME_CHECK(a.dtype() == b.dtype() && a.value().rank() > 0 && b.value().rank() > 0 &&
                  a.shape().with(-1, 0) == b.shape().with(-1, 0),
              "concat: {} and {}", a.value(), b.value());
  Tensor y = empty(a.shape().with(-1, a.dim(-1) + b.dim(-1)), a.value());
  concat_forward(a.context(), a.value(), b.value(), y);
  return record("concat", y, {a, b}, [a, b](const Tensor& dy, Gradients& g) {
    Tensor da = empty_like(a.value()), db = empty_like(b.value());
    concat_backward(a.context(), dy, da, db);
    g.add(0, da);
    g.add(1, db);
  });
}

std::pair<Variable, Variable> channel_split(const Variable& x) {
  PLUME_CHECK(x.value().rank() > 0 && x.dim(-1) % 2 == 0, "channel_split: {} has no halves", x.value());
  const Shape half = x.shape().with(-1, x.dim(-1) / 2);
  Tensor a = empty(half, x.value()), b = empty(half, x.value());
  concat_backward(x.context(), x.value(), a, b);
  return record_pair("channel_split", a, b, {x}, [x, half](const Tensor& da, const Tensor& db, Gradients& g) {
    Tensor dx = empty_like(x.value());
    const auto or_zero = [&](const Tensor& dy) {
      return dy.defined() ? dy : Tensor::zeros(half, x.dtype(), x.device());
    };
    concat_forward(x.context(), or_zero(da), or_zero(db), dx);
    g.add(0, dx);
  });
}

}  // namespace plume
