#include "engine/profiler/device_tracer.h"

namespace plume {
namespace {

DeviceTracer& slot(Device device) {
  static DeviceTracer tracers[kDeviceCount];
  return tracers[size_t(device)];
}

}  // namespace

void register_device_tracer(Device device, const DeviceTracer& tracer) { slot(device) = tracer; }
const DeviceTracer& device_tracer(Device device) { return slot(device); }

}  // namespace plume
