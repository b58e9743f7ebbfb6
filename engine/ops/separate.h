// Operations that consist of others: variant "separate" computes those one after the other, on any device,
// for what no other variant takes.
#pragma once
#include <string_view>

#include "engine/core/kernel_slot.h"

namespace plume {

inline constexpr const char* kSeparate = "separate";

// Below all variants that devices have of their own. Returns true, as KernelSlot::add.
template <class... Args>
bool add_separate(KernelSlot<void(Context&, Args...)>& slot, void (*run)(Context&, Args...)) {
  for (const Device device : {Device::cpu, Device::cuda, Device::simt})
    slot.add(device, {{kSeparate, always, run}}, KernelSlotBase::kOwn - 1);
  return true;
}

// Whether `variant`, of KernelSlot::choose, computes all in one.
inline bool is_joint(const char* variant) {
  return variant != nullptr && std::string_view(variant) != kSeparate;
}

}  // namespace plume
