#include "tools/profiling/energy.h"

#include <dlfcn.h>

namespace plume::tools {
namespace {

// NVML's C interface (nvml.h); the library comes with the driver.
using NvmlDevice = void*;
constexpr int kNvmlSuccess = 0;

struct Nvml {
  int (*by_bus_id)(const char*, NvmlDevice*) = nullptr;
  int (*energy)(NvmlDevice, unsigned long long* millijoules) = nullptr;
  NvmlDevice device = nullptr;

  Nvml() {
    void* library = dlopen("libnvidia-ml.so.1", RTLD_NOW | RTLD_LOCAL);
    if (!library) return;
    int (*init)() = nullptr;
    find(library, "nvmlInit_v2", init);
    find(library, "nvmlDeviceGetHandleByPciBusId_v2", by_bus_id);
    find(library, "nvmlDeviceGetTotalEnergyConsumption", energy);
    if (!init || !by_bus_id || !energy || init() != kNvmlSuccess) return;
    // NVML sees all GPUs, in an order of its own, whatever CUDA is shown.
    if (by_bus_id(backend(Device::cuda).bus_id().c_str(), &device) != kNvmlSuccess) device = nullptr;
  }
  template <class F>
  static void find(void* library, const char* name, F& function) {
    function = reinterpret_cast<F>(dlsym(library, name));
  }
};

}  // namespace

std::optional<double> energy_counter(Device device) {
  if (device != Device::cuda) return std::nullopt;
  static const Nvml nvml;
  unsigned long long millijoules = 0;
  if (!nvml.device || nvml.energy(nvml.device, &millijoules) != kNvmlSuccess) return std::nullopt;
  return double(millijoules) * 1e-3;
}

}  // namespace plume::tools
