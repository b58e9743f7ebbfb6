#include "tests/support/coverage.h"

#include <set>
#include <tuple>

#include "engine/core/kernel_slot.h"
#include "engine/core/variants.h"

namespace plume::test {
namespace {

bool vendors_left_out = false;

std::set<std::tuple<std::string, Device, std::string>>& runs() {
  static std::set<std::tuple<std::string, Device, std::string>> set;
  return set;
}

}  // namespace

void leave_out_vendors() {
  vendors_left_out = true;
  choose_variants("last");
}
bool is_under_test(std::string_view variant) { return !vendors_left_out || !is_of_vendor(variant); }

void remember_run(const std::string& slot, Device device, const std::string& variant) {
  runs().emplace(slot, device, variant);
}

std::vector<std::string> variants_never_run(const std::vector<Device>& devices) {
  std::vector<std::string> missing;
  for (const KernelSlotBase* slot : all_slots())
    for (const Device device : devices)
      for (int i = 0; i < slot->variant_count(device); ++i)
        if (is_under_test(slot->variant_name(device, i)) &&
            !runs().contains({slot->name(), device, slot->variant_name(device, i)}))
          missing.push_back(message("{}: no test ran variant '{}' on {}", slot->name(),
                                    slot->variant_name(device, i), device));
  return missing;
}

}  // namespace plume::test
