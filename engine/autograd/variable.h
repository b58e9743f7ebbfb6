// A tensor that may be differentiated: a value, and the tape node that made it.
//
// Copying a Variable copies the handle. A leaf (parameter, input) that wants a gradient gets one from
// backward().
#pragma once
#include <memory>

#include "engine/core/context.h"
#include "engine/core/tensor.h"

namespace plume {

struct TapeNode;

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
  void set_requires_grad(bool wanted) { state_->requires_grad = wanted; }
  // Undefined until backward() reached this leaf.
  const Tensor& grad() const { return state_->grad; }
  Tensor& grad() { return state_->grad; }
  void clear_grad() { state_->grad = Tensor(); }

 private:
  friend struct TapeAccess;
  struct State {
    Tensor value, grad;
    bool requires_grad = false;
    std::shared_ptr<TapeNode> node;  // null for leaves
  };
  std::shared_ptr<State> state_;
};

}  // namespace plume
