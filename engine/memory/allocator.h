// Caching allocators with statistics.
//
// Training asks for the same sizes over and over, while page faults (host) and cudaMalloc (device) are slow:
// freed blocks are kept in size classes and reused. Blocks are 256-byte aligned. Under AddressSanitizer
// nothing is cached and requests are not rounded, so that every overrun is seen. PLUME_MEMORY_CACHE=0 caches
// nothing either, so that memory which is used after it was freed is seen by whoever watches the device.
#pragma once
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>

#include "engine/core/device.h"

namespace plume {

struct MemoryStatistics {
  size_t current = 0;   // bytes in use, as requested
  size_t peak = 0;      // largest `current` since reset_peak
  size_t reserved = 0;  // bytes held from the system, cached blocks included
  size_t held = 0;      // of these, unused bytes that only a hold may use (see begin_hold)
  uint64_t requests = 0, cache_hits = 0;
  std::map<std::string, size_t> by_tag;       // bytes in use per tag
  std::map<std::string, size_t> peak_by_tag;  // largest per tag since reset_peak
};

// The source of memory under a CachingAllocator.
struct MemorySource {
  void* (*allocate)(size_t bytes);  // null when there is none left
  void (*release)(void* pointer);
  const char* name;  // "host", "pinned host", "device"
};

class CachingAllocator {
 public:
  explicit CachingAllocator(MemorySource source);
  ~CachingAllocator();
  CachingAllocator(const CachingAllocator&) = delete;
  CachingAllocator& operator=(const CachingAllocator&) = delete;

  void* allocate(size_t bytes, const char* tag);  // a valid pointer for 0 bytes too; throws a resource error
  void release(void* pointer);
  void release_cached();  // gives unused blocks back
  MemoryStatistics statistics() const;
  void reset_peak();

  // For recorded work that will run again on the same addresses. While a hold is open, blocks that are freed
  // belong to it and only requests made under it may reuse them; so do blocks handed out under it and freed
  // later. They return to everybody when the handle is gone. One hold is open at a time; a second throws. No
  // memory goes back to the system meanwhile, which a GPU that records may not do. The allocator must outlive
  // the handle.
  std::shared_ptr<void> begin_hold();
  void end_hold();

 private:
  struct State;
  struct Hold;
  std::unique_ptr<State> state_;
};

CachingAllocator& host_allocator();
// Statistics of a device's allocator; cpu and simt share the host's. The cuda plug-in registers its own.
CachingAllocator& device_allocator(Device device);
void register_device_allocator(Device device, CachingAllocator& allocator);

// Page-locked when a GPU is there (copies then overlap with work), plain host memory otherwise.
CachingAllocator& pinned_allocator();
void register_pinned_allocator(CachingAllocator& allocator);

}  // namespace plume
