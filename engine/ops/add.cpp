#include "engine/ops/add.h"

#include "engine/autograd/tape.h"

namespace plume {

constinit KernelSlot<AddForward> add_forward{"add.forward"};

Variable add(const Variable& a, const Variable& b) {
  PLUME_CHECK(a.shape() == b.shape() && a.dtype() == b.dtype(), "add: {} + {}", to_string(a.value()),
              to_string(b.value()));
  Tensor y = empty_like(a.value());
  add_forward(a.context(), a.value(), b.value(), y);
  return record("add", y, {a, b}, [](const Tensor& dy, Gradients& g) {
    g.add(0, dy);
    g.add(1, dy);
  });
}

}  // namespace plume
