// Names of ImageNet's classes.
#pragma once
#include <span>
#include <string_view>

namespace plume::data {

// The 1000 classes of ILSVRC 2012 in the order of their WordNet ids, which is that of the outputs of networks
// trained on it; the short, unique names that torchvision's weights carry too.
std::span<const std::string_view> imagenet_labels();

}  // namespace plume::data
