// ShuffleNetV2 x0.5 and x1.0 (Ma et al. 2018), as torchvision defines them.
#pragma once
#include "models/registry.h"

namespace plume {

// 1,366,792 and 2,278,604 parameters with 1000 classes; inputs of at least 32 pixels.
std::unique_ptr<Module> make_shufflenet_v2_x0_5(const ModelOptions& options);
std::unique_ptr<Module> make_shufflenet_v2_x1_0(const ModelOptions& options);

}  // namespace plume
