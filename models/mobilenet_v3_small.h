// MobileNetV3-Small (Howard et al. 2019), as torchvision defines it.
#pragma once
#include "models/registry.h"

namespace plume {

// 2,542,856 parameters with 1000 classes; inputs of at least 32 pixels.
std::unique_ptr<Module> make_mobilenet_v3_small(const ModelOptions& options);

}  // namespace plume
