// A network that is small enough for files of a few kilobytes, with a layer of each kind.
#pragma once
#include <string>
#include <vector>

#include "engine/modules/layers.h"

namespace plume::test {

class TinyNet : public Module {
 public:
  explicit TinyNet(uint64_t seed = 1, int classes = 4)
      : conv_(2, 3, 3, {.bias = false}),
        depthwise_(3, 3, 5, {.bias = false, .depthwise = true}),
        norm_(3),
        fc_(3, classes) {
    register_module("conv1", conv_);
    register_module("dw", depthwise_);
    register_module("bn1", norm_);
    register_module("fc", fc_);
    RandomSequence random(seed);
    initialize(random);
  }
  Variable forward(const Variable& x) override { return norm_.forward(depthwise_.forward(conv_.forward(x))); }

 private:
  Conv2d conv_, depthwise_;
  BatchNorm2d norm_;
  Linear fc_;
};

inline std::vector<std::string> bytes_of(Module& module) {
  std::vector<std::string> all;
  for (const NamedTensor& entry : module.state()) {
    const Tensor host = entry.tensor->to(Device::cpu);
    all.emplace_back(static_cast<const char*>(host.raw()), host.bytes());
  }
  return all;
}

}  // namespace plume::test
