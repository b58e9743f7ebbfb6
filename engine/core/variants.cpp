#include "engine/core/variants.h"

#include <cstdlib>

#include "engine/core/kernel_slot.h"

namespace plume {
namespace {

// Of every ladder on every device.
void prefer_everywhere(bool first) {
  for (KernelSlotBase* slot : all_slots())
    for (int d = 0; d < kDeviceCount; ++d) {
      const Device device = Device(d);
      if (const int count = slot->variant_count(device))
        slot->prefer(device, slot->variant_name(device, first ? 0 : count - 1));
    }
}

}  // namespace

void choose_variants(std::string_view choices) {
  while (!choices.empty()) {
    const size_t comma = choices.find(',');
    const std::string_view one = choices.substr(0, comma);
    choices = comma == std::string_view::npos ? std::string_view{} : choices.substr(comma + 1);
    if (one == "first" || one == "last")
      prefer_everywhere(one == "first");
    else if (one.find('=') != std::string_view::npos)
      force_variants(one);
    else
      fail(ErrorKind::usage, "variant '{}': expected slot=name, first or last", one);
  }
}

void choose_variants_of_environment() {
  if (const char* choices = std::getenv("PLUME_VARIANTS")) choose_variants(choices);
}

bool is_of_vendor(std::string_view variant) {
  return variant.starts_with("cudnn") || variant.starts_with("cublaslt") || variant.starts_with("onednn");
}

}  // namespace plume
