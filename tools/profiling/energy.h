// Energy that a GPU has used, where its driver counts it (NVML, Volta and later).
#pragma once
#include <optional>

#include "engine/core/device.h"

namespace plume::tools {

// Joules since the driver was loaded, of the GPU that this process uses: differences are what counts. Nothing
// on other devices, without NVML, and where several GPUs are visible and none is chosen by
// CUDA_VISIBLE_DEVICES=<index>.
std::optional<double> energy_counter(Device device);

}  // namespace plume::tools
