#include "engine/memory/allocator.h"

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "engine/core/error.h"
#include "engine/memory/zeroed_blocks.h"

#if defined(__linux__)
#include <sys/mman.h>
#include <unistd.h>
#endif

#if defined(__SANITIZE_ADDRESS__)
#define PLUME_ALLOCATOR_CACHES false
#else
#define PLUME_ALLOCATOR_CACHES true
#endif

namespace plume {
namespace {

constexpr size_t kAlignment = 256;

// Size classes: four per power of two, so at most a quarter is wasted.
size_t size_class(size_t bytes) {
  if (!PLUME_ALLOCATOR_CACHES) return std::max<size_t>(bytes, 1);
  bytes = std::max(bytes, kAlignment);
  const size_t step = std::max(std::bit_floor(bytes) / 4, kAlignment);
  return (bytes + step - 1) / step * step;
}

bool caches() {
  static const bool kept = [] {
    const char* value = std::getenv("PLUME_MEMORY_CACHE");
    return PLUME_ALLOCATOR_CACHES && !(value && value[0] == '0');
  }();
  return kept;
}

std::atomic<bool> zeroed = false;

// Whole pages are given back to the system, which has zeros for whoever touches them: most never are.
void fill_with_zeros(char* memory, size_t bytes) {
#if defined(__linux__)
  const auto page = size_t(sysconf(_SC_PAGESIZE));
  const size_t before = (page - reinterpret_cast<uintptr_t>(memory) % page) % page;
  if (bytes >= before + page) {
    const size_t pages = (bytes - before) / page * page;
    if (madvise(memory + before, pages, MADV_DONTNEED) == 0) {
      std::memset(memory, 0, before);
      memory += before + pages;
      bytes -= before + pages;
    }
  }
#endif
  std::memset(memory, 0, bytes);
}

using FreeBlocks = std::map<size_t, std::vector<void*>>;

void* take(FreeBlocks& blocks, size_t capacity) {
  const auto it = blocks.find(capacity);
  if (it == blocks.end() || it->second.empty()) return nullptr;
  void* pointer = it->second.back();
  it->second.pop_back();
  return pointer;
}

}  // namespace

ZeroedBlocks::ZeroedBlocks() { zeroed = true; }
ZeroedBlocks::~ZeroedBlocks() { zeroed = false; }

struct CachingAllocator::Hold {
  FreeBlocks free;
  // Holds whose blocks were freed under this one: both recordings use those blocks.
  std::vector<std::shared_ptr<Hold>> shared;
};

struct CachingAllocator::State {
  struct Block {
    size_t requested, capacity;
    const char* tag;
    std::weak_ptr<Hold> hold;  // whose block it is; expired: everybody's
  };
  MemorySource source;
  mutable std::mutex mutex;
  std::unordered_map<void*, Block> used;
  FreeBlocks cached;
  std::shared_ptr<Hold> open_hold;
  MemoryStatistics statistics;

  void count(const Block& block, bool taken) {
    size_t& tagged = statistics.by_tag[block.tag];
    if (taken) {
      statistics.current += block.requested;
      tagged += block.requested;
      statistics.peak = std::max(statistics.peak, statistics.current);
      size_t& peak = statistics.peak_by_tag[block.tag];
      peak = std::max(peak, tagged);
    } else {
      statistics.current -= block.requested;
      tagged -= block.requested;
    }
  }

  void give_back(void* pointer, size_t capacity) {
    if (caches()) {
      cached[capacity].push_back(pointer);
    } else {
      source.release(pointer);
      statistics.reserved -= capacity;
    }
  }

  void drop_cached() {
    if (open_hold) return;
    for (auto& [capacity, blocks] : cached) {
      for (void* p : blocks) source.release(p);
      statistics.reserved -= capacity * blocks.size();
    }
    cached.clear();
  }
};

CachingAllocator::CachingAllocator(MemorySource source) : state_(std::make_unique<State>()) {
  state_->source = source;
}

CachingAllocator::~CachingAllocator() { state_->drop_cached(); }

void* CachingAllocator::allocate(size_t bytes, const char* tag) {
  const std::lock_guard lock(state_->mutex);
  State& s = *state_;
  const State::Block block{bytes, size_class(bytes), tag, s.open_hold};
  ++s.statistics.requests;
  void* pointer = s.open_hold ? take(s.open_hold->free, block.capacity) : nullptr;
  if (pointer) s.statistics.held -= block.capacity;
  if (!pointer) pointer = take(s.cached, block.capacity);
  if (pointer) {
    ++s.statistics.cache_hits;
  } else {
    pointer = s.source.allocate(block.capacity);
    if (!pointer) {  // another size may be hoarding what is needed
      s.drop_cached();
      pointer = s.source.allocate(block.capacity);
    }
    if (!pointer)
      fail(ErrorKind::resource,
           "out of {} memory: {} bytes for '{}' asked, {} in use; a smaller batch needs less", s.source.name,
           bytes, tag, s.statistics.current);
    s.statistics.reserved += block.capacity;
  }
  if (zeroed && std::string_view(s.source.name) == "host")
    fill_with_zeros(static_cast<char*>(pointer), bytes);
  s.used.emplace(pointer, block);
  s.count(block, true);
  return pointer;
}

void CachingAllocator::release(void* pointer) {
  if (!pointer) return;
  std::shared_ptr<Hold> hold;  // dies after the lock: the last handle takes it
  const std::lock_guard lock(state_->mutex);
  State& s = *state_;
  const auto it = s.used.find(pointer);
  if (it == s.used.end()) return;
  const State::Block block = it->second;
  s.used.erase(it);
  s.count(block, false);
  hold = block.hold.lock();
  if (hold && s.open_hold && hold != s.open_hold) {
    auto& shared = s.open_hold->shared;
    if (std::find(shared.begin(), shared.end(), hold) == shared.end()) shared.push_back(hold);
  }
  if (!hold) hold = s.open_hold;
  if (hold) {
    hold->free[block.capacity].push_back(pointer);
    s.statistics.held += block.capacity;
  } else {
    s.give_back(pointer, block.capacity);
  }
}

std::shared_ptr<void> CachingAllocator::begin_hold() {
  const auto end = [state = state_.get()](Hold* ended) {
    const std::unique_ptr<Hold> hold(ended);  // outlives the lock: it may be the last user of another hold
    const std::lock_guard lock(state->mutex);
    for (auto& [capacity, blocks] : hold->free)
      for (void* p : blocks) {
        state->statistics.held -= capacity;
        state->give_back(p, capacity);
      }
  };
  std::shared_ptr<Hold> hold(new Hold, end);
  const std::lock_guard lock(state_->mutex);
  if (state_->open_hold) fail(ErrorKind::internal, "{} memory: a hold is open already", state_->source.name);
  state_->open_hold = hold;
  return hold;
}

void CachingAllocator::end_hold() {
  std::shared_ptr<Hold> hold;
  const std::lock_guard lock(state_->mutex);
  hold.swap(state_->open_hold);
}

void CachingAllocator::release_cached() {
  const std::lock_guard lock(state_->mutex);
  state_->drop_cached();
}

MemoryStatistics CachingAllocator::statistics() const {
  const std::lock_guard lock(state_->mutex);
  return state_->statistics;
}

void CachingAllocator::reset_peak() {
  const std::lock_guard lock(state_->mutex);
  state_->statistics.peak = state_->statistics.current;
  state_->statistics.peak_by_tag = state_->statistics.by_tag;
}

}  // namespace plume
