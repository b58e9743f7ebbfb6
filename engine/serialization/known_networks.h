// Which network a state dictionary is of, for messages.
#pragma once
#include <string>
#include <vector>

#include "engine/serialization/safetensors.h"
#include "engine/serialization/weights.h"

namespace plume {

// torchvision's name of the network whose telling tensors are among these; empty when none is known.
std::string guess_network(const std::vector<WeightTensor>& tensors);

// "the file seems to be resnet34", unless that is what is wanted, too; what timm's names call for; or empty.
std::string difference_of_networks(const std::vector<WeightTensor>& tensors,
                                   const std::vector<TensorSource>& wanted);

}  // namespace plume
