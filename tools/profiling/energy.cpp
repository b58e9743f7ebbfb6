#include "tools/profiling/energy.h"

#include <dlfcn.h>

#include <charconv>
#include <cstdlib>
#include <cstring>

namespace plume::tools {
namespace {

// NVML's C interface (nvml.h); the library comes with the driver.
using NvmlDevice = void*;
constexpr int kNvmlSuccess = 0;

struct Nvml {
  int (*count)(unsigned*) = nullptr;
  int (*handle)(unsigned, NvmlDevice*) = nullptr;
  int (*energy)(NvmlDevice, unsigned long long* millijoules) = nullptr;
  NvmlDevice device = nullptr;

  Nvml() {
    void* library = dlopen("libnvidia-ml.so.1", RTLD_NOW | RTLD_LOCAL);
    if (!library) return;
    int (*init)() = nullptr;
    find(library, "nvmlInit_v2", init);
    find(library, "nvmlDeviceGetCount_v2", count);
    find(library, "nvmlDeviceGetHandleByIndex_v2", handle);
    find(library, "nvmlDeviceGetTotalEnergyConsumption", energy);
    unsigned gpus = 0, index = 0;
    if (!init || !count || !handle || !energy || init() != kNvmlSuccess || count(&gpus) != kNvmlSuccess)
      return;
    // NVML sees all GPUs, whatever CUDA is shown.
    if (const char* visible = std::getenv("CUDA_VISIBLE_DEVICES")) {
      const char* end = visible + std::strlen(visible);
      const auto [stop, error] = std::from_chars(visible, end, index);
      if (error != std::errc() || (stop != end && *stop != ',')) return;
    } else if (gpus != 1) {
      return;
    }
    if (handle(index, &device) != kNvmlSuccess) device = nullptr;
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
