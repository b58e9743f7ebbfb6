// ResNet18 (He et al. 2015, "Deep residual learning for image recognition"), as torchvision defines it.
#pragma once
#include <memory>

#include "models/registry.h"

namespace plume {

std::unique_ptr<Module> make_resnet18(const ModelOptions& options);

}  // namespace plume
