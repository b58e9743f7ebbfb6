// Which addresses a kernel's accesses are about: what the race check and the counters both ask.
#pragma once
#include <link.h>

#include <algorithm>
#include <cstdint>
#include <vector>

#include "kernels/simt/emulator.h"

namespace simt::emu {

inline bool within(uintptr_t address, const void* from, size_t bytes) {
  return address - reinterpret_cast<uintptr_t>(from) < bytes;
}

// Data segments and thread-local storage of the process.
class HostVariables {
 public:
  HostVariables() {
    dl_iterate_phdr(
        [](dl_phdr_info* info, size_t, void* out) {
          auto& ranges = *static_cast<std::vector<Range>*>(out);
          for (int i = 0; i < info->dlpi_phnum; ++i) {
            const auto& header = info->dlpi_phdr[i];
            uintptr_t from = 0;
            if (header.p_type == PT_LOAD && (header.p_flags & PF_W)) from = info->dlpi_addr + header.p_vaddr;
            if (header.p_type == PT_TLS) from = reinterpret_cast<uintptr_t>(info->dlpi_tls_data);
            if (from) ranges.push_back({from, from + header.p_memsz});
          }
          return 0;
        },
        &ranges_);
    std::sort(ranges_.begin(), ranges_.end(), [](Range a, Range b) { return a.from < b.from; });
  }
  bool contain(uintptr_t address) const {
    auto after = std::upper_bound(ranges_.begin(), ranges_.end(), address,
                                  [](uintptr_t a, const Range& r) { return a < r.from; });
    return after != ranges_.begin() && address < std::prev(after)->to;
  }

 private:
  struct Range {
    uintptr_t from, to;
  };
  std::vector<Range> ranges_;  // sorted
};

inline bool is_shared(const Block& block, uintptr_t address) {
  return within(address, block.arena(), kArena);
}
// A thread's own variables, the kernel's arguments, the emulator: neither shared nor global memory.
inline bool is_private(const Block& block, const HostVariables& host, uintptr_t address) {
  if (is_shared(block, address)) return false;
  const Fiber &fiber = block.fiber(), &main = block.main_fiber();
  return within(address, fiber.stack, fiber.stack_bytes) || within(address, &block, sizeof(Block)) ||
         within(address, main.stack, main.stack_bytes) || host.contain(address);
}

}  // namespace simt::emu
