#include "engine/ops/cast.h"

#include "engine/autograd/tape.h"

namespace plume {

constinit KernelSlot<CastForward> cast_forward{"cast.forward"};

Variable cast(const Variable& x, DType dtype) {
  if (x.dtype() == dtype) return x;
  PLUME_CHECK(is_floating(x.dtype()) && is_floating(dtype), "cast: {} to {} is not between floating types",
              x.dtype(), dtype);
  Tensor y = Tensor::empty(x.shape(), dtype, x.device());
  cast_forward(x.context(), x.value(), y);
  return record("cast", y, {x}, [from = x.dtype()](const Tensor& dy, Gradients& g) {
    Tensor dx = Tensor::empty(dy.shape(), from, dy.device());
    cast_forward(context(dy.device()), dy, dx);
    g.add(0, dx);
  });
}

}  // namespace plume
