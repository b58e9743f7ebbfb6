#include "engine/profiler/device_tracer.h"

namespace plume {
namespace {

struct Entry {
  DeviceTracer (*open)() = nullptr;
  bool opened = false;
  DeviceTracer tracer;
};
// A function-local static: plug-ins register while they are loaded.
Entry& entry(Device device) {
  static Entry entries[kDeviceCount];
  return entries[size_t(device)];
}

}  // namespace

void register_device_tracer(Device device, DeviceTracer (*open)()) { entry(device) = {open, false, {}}; }

const DeviceTracer& device_tracer(Device device) {
  Entry& e = entry(device);
  if (!e.opened && e.open) e.tracer = e.open();
  e.opened = true;
  return e.tracer;
}

}  // namespace plume
