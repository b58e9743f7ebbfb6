// EfficientNetV2-S (Tan and Le 2021), as torchvision defines it.
#pragma once
#include "models/registry.h"

namespace plume {

// 21,458,488 parameters with 1000 classes; inputs of at least 32 pixels.
std::unique_ptr<Module> make_efficientnet_v2_s(const ModelOptions& options);

}  // namespace plume
