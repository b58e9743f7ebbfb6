// What can be asked about one call of a kernel slot: its tensors and what it costs.
#pragma once
#include <cstdint>
#include <functional>
#include <type_traits>

#include "engine/core/tensor.h"

namespace plume {

// What kind of work a call does, for totals: filters larger than one pixel, 1x1 filters, one filter per
// channel, fully connected layers, several of these in one kernel, ...; movement: whatever only copies,
// converts or adds.
enum class CallClass : uint8_t {
  dense,
  pointwise,
  depthwise,
  linear,
  fused,
  batch_norm,
  squeeze_excitation,
  activation,
  pooling,
  loss,
  optimizer,
  movement
};
inline constexpr int kCallClasses = 12;
const char* name(CallClass kind);

struct CallCost {
  CallClass kind = CallClass::movement;
  double macs = 0;    // multiply-adds; FLOPs are twice as many
  double bytes = -1;  // that must move; negative: each operand once
};

// A cost rule for calls without multiply-adds:  {"relu.forward", costs<CallClass::activation>}
template <CallClass kKind, class... Args>
CallCost costs(const Args&...) {
  return {kKind, 0, -1};
}

// Calls f(tensor) for every tensor in an argument, undefined ones too; most arguments have none. A struct
// that holds tensors says so by a static member:
//   template <class Self, class F> static void for_each_tensor(Self& self, F&& f) { f(self.scale); ... }
template <class T, class F>
void for_each_tensor(T& argument, F&& f) {
  using Plain = std::remove_const_t<T>;
  if constexpr (std::is_same_v<Plain, Tensor>) {
    f(argument);
  } else if constexpr (requires { Plain::for_each_tensor(argument, f); }) {
    Plain::for_each_tensor(argument, f);
  } else if constexpr (requires { argument.begin() != argument.end(); }) {
    for (auto& element : argument) for_each_tensor(element, f);
  }
}

// One call, while it lasts.
class KernelCall {
 public:
  const char* slot() const { return slot_; }
  const char* variant() const { return variant_; }
  virtual CallCost cost() const = 0;  // bytes resolved
  virtual void for_each_operand(const std::function<void(const Tensor&, bool written)>& f) const = 0;

 protected:
  KernelCall(const char* slot, const char* variant) : slot_(slot), variant_(variant) {}
  ~KernelCall() = default;

 private:
  const char *slot_, *variant_;
};

}  // namespace plume
