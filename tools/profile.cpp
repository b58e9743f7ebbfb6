// profile --list-variants: every kernel slot, device and variant.
#include <cstdio>

#include "engine/core/kernel_slot.h"
#include "tools/tool_main.h"

namespace {

using namespace plume;

void list_variants() {
  for (KernelSlotBase* slot : all_slots()) {
    std::printf("%s\n", slot->name());
    for (int d = 0; d < kDeviceCount; ++d) {
      const Device device = Device(d);
      if (slot->variant_count(device) == 0) continue;
      std::printf("  %-5s", name(device));
      const char* forced = slot->forced(device);
      for (int i = 0; i < slot->variant_count(device); ++i) {
        const std::string variant = slot->variant_name(device, i);
        const bool first = forced ? variant == forced : i == 0;
        std::printf(" %s%s", variant.c_str(), first ? "*" : "");
      }
      std::printf("\n");
    }
  }
  std::printf("* is tried first; the others follow in order for arguments it does not take.\n");
}

int run(tools::Flags& flags) {
  bool list = false;
  flags.on("--list-variants", list, "list every kernel slot with its variants per device");
  tools::DeviceFlags device(flags);
  flags.parse();
  PLUME_CHECK(list, "nothing to do: give --list-variants");
  device.open();
  list_variants();
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  return plume::tools::run_tool(argc, argv, "Shows which kernels there are.", run);
}
