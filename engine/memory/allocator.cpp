#include "engine/memory/allocator.h"

#include <algorithm>
#include <bit>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "engine/core/error.h"

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

}  // namespace

struct CachingAllocator::State {
  struct Block {
    size_t requested, capacity;
    const char* tag;
  };
  MemorySource source;
  mutable std::mutex mutex;
  std::unordered_map<void*, Block> used;
  std::map<size_t, std::vector<void*>> cached;
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

  void drop_cached() {
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
  const State::Block block{bytes, size_class(bytes), tag};
  ++s.statistics.requests;
  void* pointer = nullptr;
  if (auto it = s.cached.find(block.capacity); it != s.cached.end() && !it->second.empty()) {
    pointer = it->second.back();
    it->second.pop_back();
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
  s.used.emplace(pointer, block);
  s.count(block, true);
  return pointer;
}

void CachingAllocator::release(void* pointer) {
  if (!pointer) return;
  const std::lock_guard lock(state_->mutex);
  State& s = *state_;
  const auto it = s.used.find(pointer);
  if (it == s.used.end()) return;
  const State::Block block = it->second;
  s.used.erase(it);
  s.count(block, false);
  if (PLUME_ALLOCATOR_CACHES) {
    s.cached[block.capacity].push_back(pointer);
  } else {
    s.source.release(pointer);
    s.statistics.reserved -= block.capacity;
  }
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
