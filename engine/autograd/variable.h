// A tensor that may be differentiated: a value, and the tape node that made it.
//
// Copying a Variable copies the handle. A leaf (parameter, input) that wants a gradient gets one from
// backward().
#pragma once
#include <array>
#include <memory>

#include "engine/core/context.h"
#include "engine/core/tensor.h"

namespace plume {

struct TapeNode;

// A leaf's value in a 16-bit type, beside it (engine/ops/cast.h).
struct KeptCast {
  Tensor tensor;
  uint64_t writes = 0;  // of the value, when this was made from it
};

class Variable {
 public:
  Variable() = default;
  Variable(Tensor value, bool requires_grad = false);  // NOLINT: a Tensor is a constant Variable

  bool defined() const { return state_ != nullptr; }
  const Tensor& value() const { return state_->value; }
  Tensor& value() { return state_->value; }
  const Shape& shape() const { return value().shape(); }
  int64_t dim(int i) const { return value().dim(i); }
  DType dtype() const { return value().dtype(); }
  Device device() const { return value().device(); }
  Context& context() const { return plume::context(device()); }

  bool requires_grad() const { return state_->requires_grad; }
  bool is_leaf() const { return state_->node == nullptr; }
  void set_requires_grad(bool wanted) { state_->requires_grad = wanted; }
  // Undefined until backward() reached this leaf.
  const Tensor& grad() const { return state_->grad; }
  Tensor& grad() { return state_->grad; }
  void clear_grad() { state_->grad = Tensor(); }
  // One per type, f16 and bf16: they stay where they are, since a recorded step reads them there.
  std::array<KeptCast, 2>& kept_casts() const { return state_->casts; }

 private:
  friend struct TapeAccess;
  struct State {
    Tensor value, grad;
    bool requires_grad = false;
    std::shared_ptr<TapeNode> node;  // null for leaves
    std::array<KeptCast, 2> casts;
  };
  std::shared_ptr<State> state_;
};

}  // namespace plume
