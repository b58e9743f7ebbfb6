#include "engine/serialization/known_networks.h"

#include <algorithm>

#include "engine/serialization/timm_names.h"

namespace plume {
namespace {

// A tensor that a network has, with its shape where names alone do not tell; the first that is found decides.
struct Sign {
  const char* network;
  const char* tensor;
  std::vector<uint64_t> shape = {};
};

const std::vector<Sign>& signs() {
  static const std::vector<Sign> list = {
      {"wide_resnet50_2", "layer1.0.conv2.weight", {128, 128, 3, 3}},
      {"resnext50_32x4d", "layer1.0.conv2.weight", {128, 4, 3, 3}},
      {"resnet152", "layer3.35.conv3.weight"},
      {"resnet101", "layer3.22.conv3.weight"},
      {"resnet50", "layer3.5.conv3.weight"},
      {"resnet34", "layer3.5.conv2.weight"},
      {"resnet18", "layer4.1.conv2.weight"},
      {"squeezenet1_0", "features.5.squeeze.weight"},
      {"squeezenet1_1", "features.6.squeeze.weight"},
      {"shufflenet_v2_x0_5", "conv5.0.weight", {1024, 192, 1, 1}},
      {"shufflenet_v2_x1_0", "conv5.0.weight", {1024, 464, 1, 1}},
      {"shufflenet_v2_x1_5", "conv5.0.weight", {1024, 704, 1, 1}},
      {"shufflenet_v2_x2_0", "conv5.0.weight", {2048, 976, 1, 1}},
      {"mobilenet_v3_small", "features.12.0.weight", {576, 96, 1, 1}},
      {"mobilenet_v3_large", "features.16.0.weight", {960, 160, 1, 1}},
      {"mobilenet_v2", "features.18.0.weight", {1280, 320, 1, 1}},
      {"efficientnet_v2_s", "features.7.0.weight", {1280, 256, 1, 1}},
      {"efficientnet_v2_m", "features.8.0.weight", {1280, 512, 1, 1}},
      {"efficientnet_v2_l", "features.8.0.weight", {1280, 640, 1, 1}},
      {"efficientnet_b0", "features.8.0.weight", {1280, 320, 1, 1}},
      {"densenet121", "features.denseblock4.denselayer16.conv2.weight"},
      {"googlenet", "inception5b.branch1.conv.weight"},
      {"inception_v3", "Mixed_7c.branch1x1.conv.weight"},
      {"convnext_tiny", "features.5.8.block.0.weight"},
      {"vit_b_16", "encoder.layers.encoder_layer_11.mlp.0.weight"},
      {"alexnet", "classifier.6.weight", {1000, 4096}},
  };
  return list;
}

template <class Tensor, class Fits>
std::string guess(const std::vector<Tensor>& tensors, const Fits& fits) {
  for (const Sign& sign : signs())
    for (const Tensor& t : tensors)
      if (t.name == sign.tensor && (sign.shape.empty() || fits(t.shape, sign.shape))) return sign.network;
  return "";
}

}  // namespace

std::string guess_network(const std::vector<WeightTensor>& tensors) {
  return guess(tensors, [](const auto& a, const auto& b) { return a == b; });
}

std::string difference_of_networks(const std::vector<WeightTensor>& tensors,
                                   const std::vector<TensorSource>& wanted) {
  if (has_timm_names(tensors))
    return "the file has timm's names: `convert --timm MODEL` makes them torchvision's";
  const std::string found = guess_network(tensors);
  const std::string expected = guess(wanted, [](const Shape& a, const std::vector<uint64_t>& b) {
    return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                      [](int64_t x, uint64_t y) { return uint64_t(x) == y; });
  });
  if (found.empty() || found == expected) return "";
  return "the file seems to be " + found;
}

}  // namespace plume
