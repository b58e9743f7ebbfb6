// What one memory instruction of a warp costs, and the caches behind it.
#pragma once
#include <cstdint>
#include <vector>

#include "engine/profiler/kernel_counts.h"

namespace simt::emu {

inline constexpr unsigned kSectorBytes = 32, kLineBytes = 128, kBanks = 32, kBankBytes = 4;

// A lane's part of a request.
struct LaneAccess {
  uintptr_t address;
  uint8_t bytes, lane;
};

// The distinct bytes, sectors and lines that up to 32 accesses touch together.
struct Footprint {
  unsigned bytes = 0, sectors = 0, lines = 0;
  std::vector<uintptr_t> touched;  // sectors, by number, ascending
  void measure(LaneAccess* accesses, unsigned count);
};

// Wavefronts of a request to shared memory. Lanes are served in turns of 32 (up to 4 bytes each), 16 (8) or 8
// (16); within a turn a bank gives one word per wavefront, to all lanes that want it.
unsigned wavefronts(const LaneAccess* accesses, unsigned count);
// Turns of an atomic operation: the most lanes that share one address.
unsigned atomic_turns(const LaneAccess* accesses, unsigned count);

// See plume::CacheShape.
class SectorCache {
 public:
  explicit SectorCache(plume::CacheShape shape);
  void clear() { ++epoch_; }
  // Is the sector there? It is afterwards.
  bool touch(uintptr_t sector) { return mark(sector, false); }
  // As touch(), for a write: was it there and written already?
  bool write(uintptr_t sector) { return mark(sector, true); }

 private:
  struct Line {
    uintptr_t number = 0;
    uint64_t used = 0;
    uint32_t epoch = 0;
    uint8_t valid = 0, dirty = 0;  // a bit per sector
  };
  Line& find(uintptr_t line);
  bool mark(uintptr_t sector, bool written);

  unsigned ways_;
  uint64_t sets_;
  std::vector<Line> lines_;
  uint64_t clock_ = 0;
  uint32_t epoch_ = 1;
};

}  // namespace simt::emu
