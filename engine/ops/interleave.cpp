#include "engine/ops/interleave.h"

#include "engine/autograd/tape.h"

namespace plume {

constinit KernelSlot<InterleaveForward> interleave_forward{"interleave.forward"};
constinit KernelSlot<InterleaveBackward> interleave_backward{"interleave.backward"};

namespace {

void check(const char* operation, const Variable& a, const Variable& b) {
  PLUME_CHECK(a.shape() == b.shape() && a.dtype() == b.dtype() && a.value().rank() > 0, "{}: {} and {}",
              operation, a.value(), b.value());
}

}  // namespace

Variable interleave(const Variable& a, const Variable& b) {
  check("interleave", a, b);
  Tensor y = empty(a.shape().with(-1, 2 * a.shape()[-1]), a.value()), none;
  interleave_forward(a.context(), a.value(), b.value(), y, none);
  return record_joining("interleave", y, {a, b}, [a, b](const Tensor& dy, const Tensor& more, Gradients& g) {
    Tensor da = empty_like(a.value()), db = empty_like(b.value());
    interleave_backward(a.context(), dy, Tensor(), more, da, db);
    g.add(0, da);
    g.add(1, db);
  });
}

std::pair<Variable, Variable> interleave_split(const Variable& a, const Variable& b) {
  check("interleave_split", a, b);
  Tensor y0 = empty_like(a.value()), y1 = empty_like(a.value());
  interleave_forward(a.context(), a.value(), b.value(), y0, y1);
  return record_pair("interleave_split", y0, y1, {a, b},
                     [a, b](const Tensor& dy0, const Tensor& dy1, Gradients& g) {
                       const auto or_zero = [&](const Tensor& dy) {
                         return dy.defined() ? dy : Tensor::zeros(a.shape(), a.dtype(), a.device());
                       };
                       Tensor da = empty_like(a.value()), db = empty_like(b.value());
                       interleave_backward(a.context(), or_zero(dy0), or_zero(dy1), Tensor(), da, db);
                       g.add(0, da);
                       g.add(1, db);
                     });
}

}  // namespace plume
