// SqueezeNet 1.0 and 1.1 (Iandola et al. 2016), as torchvision defines them.
#pragma once
#include "models/registry.h"

namespace plume {

// 1,248,424 and 1,235,496 parameters with 1000 classes; inputs of at least 17 (1.1) or 21 pixels.
std::unique_ptr<Module> make_squeezenet1_0(const ModelOptions& options);
std::unique_ptr<Module> make_squeezenet1_1(const ModelOptions& options);

}  // namespace plume
