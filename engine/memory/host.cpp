// Host memory behind the cpu and simt devices.
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <thread>

#include "engine/core/error.h"
#include "engine/memory/allocator.h"

namespace plume {
namespace {

void* allocate_host(size_t bytes) {
  void* pointer = nullptr;
  return posix_memalign(&pointer, 256, bytes) == 0 ? pointer : nullptr;
}

CachingAllocator*& device_slot(Device device) {
  static CachingAllocator* table[kDeviceCount] = {};
  return table[size_t(device)];
}

CachingAllocator*& pinned_slot() {
  static CachingAllocator* allocator = nullptr;
  return allocator;
}

std::string describe_host() {
  std::ifstream cpuinfo("/proc/cpuinfo");
  std::string line, model = "CPU";
  while (std::getline(cpuinfo, line))
    if (line.starts_with("model name")) {
      model = line.substr(line.find(':') + 2);
      break;
    }
  return message("{}, {} threads", model, std::thread::hardware_concurrency());
}

constexpr DeviceBackend kHost = {
    [](size_t bytes, const char* tag) { return host_allocator().allocate(bytes, tag); },
    [](void* pointer) { host_allocator().release(pointer); },
    [](void* to, const void* from, size_t bytes, void*) {
      if (bytes) std::memcpy(to, from, bytes);
    },
    [](void* to, int byte, size_t bytes, void*) {
      if (bytes) std::memset(to, byte, bytes);
    },
    [](void*) {},
    describe_host,
};

const bool registered = [] {
  register_backend(Device::cpu, kHost);
  register_backend(Device::simt, kHost);
  return true;
}();

}  // namespace

CachingAllocator& host_allocator() {
  // Never destroyed: tensors with static lifetime give their memory back after main.
  static CachingAllocator* allocator = new CachingAllocator({allocate_host, std::free, "host"});
  return *allocator;
}

CachingAllocator& device_allocator(Device device) {
  CachingAllocator* allocator = device_slot(device);
  return allocator ? *allocator : host_allocator();
}
void register_device_allocator(Device device, CachingAllocator& allocator) {
  device_slot(device) = &allocator;
}

CachingAllocator& pinned_allocator() { return pinned_slot() ? *pinned_slot() : host_allocator(); }
void register_pinned_allocator(CachingAllocator& allocator) { pinned_slot() = &allocator; }

}  // namespace plume
