// The race detector. Kernels compiled with -fsanitize=thread report every load and store to the functions at
// the end of this file, which is linked in place of the thread sanitizer's own library.
//
// Shadow memory keeps, for every word that a launch touches, its last write and its last reads by two
// threads. Two accesses, one of them a write, race unless one of these orders them:
//   same thread; same block and a __syncthreads between; same warp and a __syncwarp of all its lanes between;
//   both atomic; different blocks and writer -> __threadfence -> atomic -> atomic -> reader, where barriers
//   within a block may hand on from one thread to another.
// A launch starts anew: launches are ordered by their stream.
#include <dlfcn.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "kernels/simt/address_space.h"
#include "kernels/simt/emulator.h"

namespace simt::emu {
namespace {

struct Access {
  uint64_t pc : 48 = 0;
  uint64_t thread : 10 = 0;
  uint64_t atomic : 1 = 0;
  uint64_t valid : 1 = 0;
  uint32_t epoch = 0;       // of the block's barriers
  uint32_t block = 0;       // serial number
  uint32_t warp_epoch = 0;  // of __syncwarp
  uint32_t fences = 0;      // __threadfence calls of the thread so far
};

struct Cell {
  Access write, read, other_read;  // other_read: by another thread than read
};

// Cells of 1 KiB of memory, one per word until an access narrower than a word asks for one per byte.
constexpr size_t kPageBytes = 1024, kMaxPages = 1 << 16;
struct Page {
  unsigned cell_bytes = 4;
  std::vector<Cell> cells = std::vector<Cell>(kPageBytes / 4);

  void split() {
    std::vector<Cell> finer(kPageBytes);
    for (size_t i = 0; i < kPageBytes; ++i) finer[i] = cells[i / 4];
    cells = std::move(finer);
    cell_bytes = 1;
  }
};

// What a fence and an atomic make visible of one block: writes of thread w before its fence number counts[w],
// and all writes before barrier epoch `floor`.
struct Coverage {
  uint32_t floor = 0;
  std::array<uint32_t, kMaxThreads> counts{};
  bool covers(const Access& a) const { return a.epoch < floor || a.fences < counts[a.thread]; }
};
using SharedCoverage = std::shared_ptr<const Coverage>;
using Releases = std::unordered_map<uint32_t, SharedCoverage>;  // by block

// Something learned by one thread; its block mates know it after the next barrier.
struct Acquired {
  SharedCoverage coverage;
  unsigned thread;
  uint32_t epoch;
};

struct Fences {
  uint32_t epoch = 0, count = 0, count_before_epoch = 0;
};

struct Detector {
  std::unordered_map<uintptr_t, std::unique_ptr<Page>> pages;
  uintptr_t last_key = ~uintptr_t(0);
  Page* last_page = nullptr;
  HostVariables ignored;

  std::unordered_map<uintptr_t, Releases> published;  // by the address of the atomic; one launch
  // Of the running block.
  uint32_t block = 0;
  bool any_fence = false;
  std::array<Fences, kMaxThreads> fences{};
  std::unordered_map<uint32_t, std::vector<Acquired>> known;
  std::unordered_map<uintptr_t, Acquired> touched_atomics;

  Page& page(uintptr_t address) {
    const uintptr_t key = address / kPageBytes;
    if (key != last_key) {
      auto& slot = pages[key];
      if (!slot) slot = std::make_unique<Page>();
      last_key = key;
      last_page = slot.get();
    }
    return *last_page;
  }

  void enter(const Block& b) {
    if (block == uint32_t(b.serial())) return;
    block = uint32_t(b.serial());
    if (any_fence) fences.fill({});
    any_fence = false;
    known.clear();
    touched_atomics.clear();
  }
};

Detector& detector() {
  static thread_local auto* detector = new Detector;  // outlives every launch of the thread
  return *detector;
}

bool handed_to(const Acquired& a, const Access& now) { return a.thread == now.thread || a.epoch < now.epoch; }

bool ordered(const Detector& d, uintptr_t address, const Access& before, const Access& now, bool shared) {
  if (!before.valid || before.block < uint32_t(this_block->first_serial())) return true;
  if (before.atomic && now.atomic) return true;
  if (before.block == now.block) {
    const bool same_warp = before.thread / kWarpLanes == now.thread / kWarpLanes;
    return before.thread == now.thread || before.epoch != now.epoch ||
           (same_warp && before.warp_epoch != now.warp_epoch);
  }
  if (shared) return true;  // another block's shared memory was elsewhere
  if (before.atomic) {      // atomics on one address follow each other
    const auto touched = d.touched_atomics.find(address);
    if (touched != d.touched_atomics.end() && handed_to(touched->second, now)) return true;
  }
  const auto found = d.known.find(before.block);
  if (found == d.known.end()) return false;
  return std::any_of(found->second.begin(), found->second.end(),
                     [&](const Acquired& a) { return handed_to(a, now) && a.coverage->covers(before); });
}

// "module+0x1234", and the source line where addr2line is installed.
std::string describe(uintptr_t pc) {
  Dl_info info{};
  if (!pc || !dladdr(reinterpret_cast<void*>(pc), &info) || !info.dli_fname) return "unknown code";
  char text[512];
  const unsigned long offset = pc - reinterpret_cast<uintptr_t>(info.dli_fbase) - 1;
  std::snprintf(text, sizeof text, "%s+0x%lx", info.dli_fname, offset);
  std::string result = text;
  std::snprintf(text, sizeof text, "addr2line -Cpie '%s' 0x%lx 2>/dev/null", info.dli_fname, offset);
  if (FILE* pipe = popen(text, "r")) {
    std::string line;
    while (std::fgets(text, sizeof text, pipe)) line += std::string("\n      ") + text;
    pclose(pipe);
    while (!line.empty() && line.back() == '\n') line.pop_back();
    result += line;
  }
  return result;
}

[[noreturn]] void report(uintptr_t address, const Access& before, const Access& now, const char* kind,
                         bool shared) {
  Block& block = *this_block;
  char where[64];
  if (shared) {
    std::snprintf(where, sizeof where, "shared memory, offset %lu",
                  address - reinterpret_cast<uintptr_t>(block.arena()));
  } else {
    std::snprintf(where, sizeof where, "global memory, address 0x%lx", address);
  }
  const auto number = [&](const Access& a) { return a.block - uint32_t(block.first_serial()); };
  block.die({"", 0},
            "data race (%s) on %s\n    first: thread %u of the launch's block number %u at %s\n"
            "    second: thread %u of block number %u at %s",
            kind, where, unsigned(before.thread), number(before), describe(before.pc).c_str(),
            unsigned(now.thread), number(now), describe(now.pc).c_str());
}

void check_cell(Detector& d, Cell& cell, uintptr_t address, const Access& now, bool write, bool shared) {
  if (!ordered(d, address, cell.write, now, shared)) {
    report(address, cell.write, now, write ? "write after write" : "read after write", shared);
  }
  if (!write) {
    if (cell.read.block != now.block || cell.read.thread != now.thread) cell.other_read = cell.read;
    cell.read = now;
    return;
  }
  for (const Access& read : {cell.read, cell.other_read})
    if (!ordered(d, address, read, now, shared)) report(address, read, now, "write after read", shared);
  cell.write = now;
}

void access(const void* pointer, size_t bytes, bool write, bool atomic, void* pc) {
  const Block* b = this_block;
  if (!b || !b->in_kernel() || bytes == 0) return;
  const auto address = reinterpret_cast<uintptr_t>(pointer);
  Detector& d = detector();
  if (is_private(*b, d.ignored, address)) return;
  const bool shared = is_shared(*b, address);
  d.enter(*b);
  Access now;
  now.pc = reinterpret_cast<uintptr_t>(pc);
  now.thread = b->thread();
  now.atomic = atomic;
  now.valid = 1;
  now.epoch = b->epoch();
  now.block = d.block;
  now.warp_epoch = this_block->warp().epoch;
  now.fences = d.fences[b->thread()].count;
  for (uintptr_t a = address; a < address + bytes;) {
    Page& page = d.page(a);
    if (page.cell_bytes == 4 && (a % 4 != 0 || address + bytes - a < 4)) page.split();
    check_cell(d, page.cells[a % kPageBytes / page.cell_bytes], a, now, write, shared);
    a += page.cell_bytes;
  }
}

}  // namespace

void race_launch() {
  Detector& d = detector();
  d.published.clear();
  if (d.pages.size() > kMaxPages) {  // older launches no longer matter
    d.pages.clear();
    d.last_key = ~uintptr_t(0);
  }
}

void race_access(const void* pointer, unsigned bytes, bool write, void* caller) {
  access(pointer, bytes, write, false, caller);
}

void race_fence() {
  Detector& d = detector();
  d.enter(*this_block);
  Fences& f = d.fences[this_block->thread()];
  if (f.epoch != this_block->epoch()) f.count_before_epoch = f.count;
  f.epoch = this_block->epoch();
  ++f.count;
  d.any_fence = true;
}

void race_atomic(void* pointer, unsigned bytes, void* caller) {
  Detector& d = detector();
  Block& b = *this_block;
  d.enter(b);
  const auto address = reinterpret_cast<uintptr_t>(pointer);
  const unsigned thread = b.thread();
  const uint32_t epoch = b.epoch();
  if (is_shared(b, address)) return access(pointer, bytes, true, true, caller);

  d.touched_atomics.try_emplace(address, Acquired{nullptr, thread, epoch});
  Releases& releases = d.published[address];
  for (const auto& [block, coverage] : releases) {
    if (block == d.block) continue;
    auto& acquired = d.known[block];
    if (acquired.empty() || acquired.back().coverage != coverage)
      acquired.push_back({coverage, thread, epoch});
  }
  if (d.any_fence) {
    auto coverage = std::make_shared<Coverage>();
    if (const auto old = releases.find(d.block); old != releases.end()) *coverage = *old->second;
    for (unsigned t = 0; t < kMaxThreads; ++t) {
      const Fences& f = d.fences[t];
      const uint32_t visible = t == thread || f.epoch < epoch ? f.count : f.count_before_epoch;
      coverage->counts[t] = std::max(coverage->counts[t], visible);
    }
    if (d.fences[thread].count) coverage->floor = std::max(coverage->floor, d.fences[thread].epoch);
    releases[d.block] = std::move(coverage);
    for (const auto& [block, acquired] : d.known)
      for (const Acquired& a : acquired)
        if (a.thread == thread || a.epoch < epoch) releases.try_emplace(block, a.coverage);
  }
  access(pointer, bytes, true, true, caller);
}

}  // namespace simt::emu

#define SIMT_ON_ACCESS(pointer, bytes, write) simt::emu::access(pointer, bytes, write, false, SIMT_CALLER)
#include "kernels/simt/tsan_calls.h"
