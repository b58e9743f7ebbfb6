#include "engine/ops/cast.h"

#include "engine/autograd/tape.h"

namespace plume {

constinit KernelSlot<CastForward> cast_forward{"cast.forward"};

namespace {

void check(const Tensor& x, DType dtype) {
  PLUME_CHECK(is_floating(x.dtype()) && is_floating(dtype), "cast: {} to {} is not between floating types",
              x.dtype(), dtype);
}

Tensor cast_value(const Tensor& x, DType dtype) {
  check(x, dtype);
  Tensor y = Tensor::empty(x.shape(), dtype, x.device());
  cast_forward(context(x.device()), x, y);
  return y;
}

bool is_right(const KeptCast& kept, const Tensor& value) {
  return kept.tensor.defined() && kept.writes != 0 && kept.writes == value.writes();
}

// Into the memory where it was before, if that still fits.
void make_right(KeptCast& kept, const Variable& x, DType dtype) {
  Variable handle = x;
  handle.value().count_writes();
  const Tensor& value = x.value();
  if (!kept.tensor.defined() || kept.tensor.shape() != value.shape() ||
      kept.tensor.device() != value.device())
    kept.tensor = Tensor::empty(value.shape(), dtype, value.device(), "parameter");
  cast_forward(x.context(), value, kept.tensor);
  say_right(kept, x);
}

}  // namespace

Variable cast(const Variable& x, DType dtype) {
  if (x.dtype() == dtype) return x;
  const Tensor y = cast_value(x.value(), dtype);
  return record("cast", y, {x}, [from = x.dtype()](const Tensor& dy, Gradients& g) {
    Tensor dx = Tensor::empty(dy.shape(), from, dy.device());
    cast_forward(context(dy.device()), dy, dx);
    g.add(0, dx);
  });
}

Tensor value_in(const Variable& x, DType dtype) {
  const Tensor& value = x.value();
  if (value.dtype() == dtype) return value;
  if (!x.is_leaf() || value.dtype() != DType::f32) return cast_value(value, dtype);
  check(value, dtype);
  KeptCast& kept = x.kept_casts()[dtype == DType::bf16];
  if (!is_right(kept, value)) make_right(kept, x, dtype);
  return kept.tensor;
}

void refresh_kept_casts(const Variable& x) {
  for (KeptCast& kept : x.kept_casts())
    if (kept.tensor.defined() && !is_right(kept, x.value())) make_right(kept, x, kept.tensor.dtype());
}

KeptCast* right_cast(const Variable& x) {
  for (KeptCast& kept : x.kept_casts())
    if (is_right(kept, x.value())) return &kept;
  return nullptr;
}

}  // namespace plume
