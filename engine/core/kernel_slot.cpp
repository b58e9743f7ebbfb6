#include "engine/core/kernel_slot.h"

#include <algorithm>
#include <cstdlib>

#include "engine/core/text.h"

namespace plume {
namespace {

// A function-local static: variants register during static initialisation, in no particular order.
std::vector<KernelSlotBase*>& registry() {
  static std::vector<KernelSlotBase*> slots;
  return slots;
}

}  // namespace

int KernelSlotBase::insert(Device device, const char* variant, int priority) {
  Ladder& l = ladders_[size_t(device)];
  if (l.count == kMaxVariants)
    fail(ErrorKind::internal, "{}: more than {} variants on {}", name_, kMaxVariants, device);
  auto& slots = registry();
  if (std::find(slots.begin(), slots.end(), this) == slots.end()) slots.push_back(this);
  int place = l.count++;
  for (; place > 0 && l.priorities[size_t(place - 1)] < priority; --place) {
    l.names[size_t(place)] = l.names[size_t(place - 1)];
    l.priorities[size_t(place)] = l.priorities[size_t(place - 1)];
  }
  l.names[size_t(place)] = variant;
  l.priorities[size_t(place)] = priority;
  return place;
}

int KernelSlotBase::place_of(Device device, std::string_view variant) const {
  const Ladder& l = ladder(device);
  for (int i = 0; i < l.count; ++i)
    if (variant == l.names[size_t(i)]) return i;
  fail(ErrorKind::usage, "{}: device {} has no variant '{}'", name_, device, variant);
}

void KernelSlotBase::force(Device device, std::string_view variant) {
  ladders_[size_t(device)].forced = -1;
  if (!variant.empty()) ladders_[size_t(device)].forced = place_of(device, variant);
}

void KernelSlotBase::prefer(Device device, std::string_view variant) {
  ladders_[size_t(device)].preferred = -1;
  if (!variant.empty()) ladders_[size_t(device)].preferred = place_of(device, variant);
}

const char* KernelSlotBase::forced(Device device) const {
  const Ladder& l = ladder(device);
  return l.forced < 0 ? nullptr : l.names[size_t(l.forced)];
}

void KernelSlotBase::no_variant(Device device) const {
  const Ladder& l = ladder(device);
  if (l.forced >= 0)
    fail(ErrorKind::usage, "{}: the forced variant '{}' does not fit these arguments on {}", name_,
         l.names[size_t(l.forced)], device);
  fail(ErrorKind::usage, "{}: none of the {} variants on {} fits these arguments", name_, l.count, device);
}

std::vector<KernelSlotBase*> all_slots() {
  std::vector<KernelSlotBase*> slots = registry();
  std::sort(slots.begin(), slots.end(),
            [](auto* a, auto* b) { return std::string_view(a->name()) < b->name(); });
  return slots;
}

KernelSlotBase& find_slot(std::string_view name) {
  std::vector<std::string> names;
  for (KernelSlotBase* slot : all_slots()) {
    if (slot->name() == name) return *slot;
    names.emplace_back(slot->name());
  }
  fail(ErrorKind::usage, "there is no kernel slot '{}'; nearest: '{}'", name, nearest(name, names));
}

void force_variants(std::string_view assignments) {
  while (!assignments.empty()) {
    const size_t comma = assignments.find(',');
    const std::string_view one = assignments.substr(0, comma);
    assignments = comma == std::string_view::npos ? std::string_view{} : assignments.substr(comma + 1);
    const size_t equals = one.find('=');
    PLUME_CHECK(equals != std::string_view::npos, "variant '{}': expected slot=name", one);
    KernelSlotBase& slot = find_slot(one.substr(0, equals));
    const std::string_view variant = one.substr(equals + 1);
    bool found = variant.empty();
    for (int d = 0; d < kDeviceCount; ++d) {
      if (variant.empty()) slot.force(Device(d), "");
      for (int i = 0; i < slot.variant_count(Device(d)); ++i)
        if (variant == slot.variant_name(Device(d), i)) slot.force(Device(d), variant), found = true;
    }
    PLUME_CHECK(found, "{}: no device has a variant '{}'", slot.name(), variant);
  }
}

}  // namespace plume
