// Networks by torchvision's names.
#pragma once
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "engine/modules/module.h"

namespace plume {

enum class Stem : uint8_t {
  imagenet,  // stride 2 and max pool, as published
  cifar,     // stride 1, no max pool: for 32x32 inputs
};
Stem parse_stem(std::string_view text);  // "imagenet", "cifar"

struct ModelOptions {
  int num_classes = 1000;
  Stem stem = Stem::imagenet;
  uint64_t seed = 0;  // of the initial values
  bool initialize =
      true;  // false: all zeros, where every value is loaded afterwards (drawing them takes longer)
};

// An initialised network in training mode on the cpu; images [N, H, W, 3] -> logits [N, num_classes].
// Throws usage for an unknown name, naming the nearest.
std::unique_ptr<Module> make_model(std::string_view name, const ModelOptions& options);
std::vector<std::string> model_names();

}  // namespace plume
