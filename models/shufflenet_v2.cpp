#include "models/shufflenet_v2.h"

#include <array>

#include "engine/modules/blocks.h"
#include "engine/ops/concat.h"
#include "engine/ops/global_avg_pool.h"
#include "engine/ops/interleave.h"
#include "engine/ops/max_pool2d.h"

namespace plume {
namespace {

constexpr Init kInit = Init::fan_in_default;

// Convolutions and batch norms under the numbers they have in torchvision's Sequential, where activations
// count too.
class Branch : public Module {
 public:
  // Throughout: 1x1 convolutions have `features` outputs and a ReLU, depthwise ones neither.
  void pointwise(int in, int out) { add(in, out, 1, {.bias = false, .init = kInit}, Activation::relu); }
  void depthwise(int channels, int stride) {
    add(channels, channels, 3,
        {.stride = stride, .padding = 1, .bias = false, .depthwise = true, .init = kInit},
        Activation::identity);
  }
  Variable forward(const Variable& x) override {
    Variable y = x;
    for (const auto& layer : layers_) y = layer->pair.forward(y);
    return y;
  }

 private:
  struct Layer {
    Layer(int in, int out, int kernel, const Conv2d::Options& options, Activation activation)
        : conv(in, out, kernel, options), norm(out, {.activation = activation}) {}
    Conv2d conv;
    BatchNorm2d norm;
    ConvBn pair{conv, norm};
  };
  void add(int in, int out, int kernel, const Conv2d::Options& options, Activation activation) {
    layers_.push_back(std::make_unique<Layer>(in, out, kernel, options, activation));
    register_module(std::to_string(next_), layers_.back()->conv);
    register_module(std::to_string(next_ + 1), layers_.back()->norm);
    next_ += activation == Activation::identity ? 2 : 3;
  }
  void fuse_own(bool on) override {
    for (const auto& layer : layers_) layer->pair.fuse(on);
  }
  std::vector<std::unique_ptr<Layer>> layers_;
  int next_ = 0;
};

// Both halves of the channels of a feature map.
using Halves = std::pair<Variable, Variable>;

// Half of the channels pass through a branch of convolutions, the others pass by (or, with stride 2, all
// pass through both branches); then the halves are shuffled: channel 2 i + j comes from half j. Shuffling and
// the next unit's split are one movement of data.
class Unit : public Module {
 public:
  Unit(int in, int out, int stride) : stride_(stride) {
    const int features = out / 2;
    if (stride > 1) {
      branch1_.depthwise(in, stride);
      branch1_.pointwise(in, features);
    }
    branch2_.pointwise(stride > 1 ? in : features, features);
    branch2_.depthwise(features, stride);
    branch2_.pointwise(features, features);
    register_module("branch1", branch1_);
    register_module("branch2", branch2_);
  }

  // The two halves before they are shuffled.
  Halves forward_stride2(const Variable& x) { return {branch1_(x), branch2_(x)}; }
  Halves forward_stride1(const Halves& x) { return {x.first, branch2_(x.second)}; }

  Variable forward(const Variable& x) override {
    const Halves halves = stride_ > 1 ? forward_stride2(x) : forward_stride1(channel_split(x));
    return interleave(halves.first, halves.second);
  }

 private:
  int stride_;
  Branch branch1_, branch2_;
};

class Stage : public Module {
 public:
  Stage(int in, int out, int repeats) {
    for (int i = 0; i < repeats; ++i) {
      units_.push_back(std::make_unique<Unit>(i == 0 ? in : out, out, i == 0 ? 2 : 1));
      register_module(std::to_string(i), *units_.back());
    }
  }
  Variable forward(const Variable& x) override {
    Halves halves = units_.front()->forward_stride2(x);
    for (size_t i = 1; i < units_.size(); ++i)
      halves = units_[i]->forward_stride1(interleave_split(halves.first, halves.second));
    return interleave(halves.first, halves.second);
  }

 private:
  std::vector<std::unique_ptr<Unit>> units_;
};

class ShuffleNetV2 : public Module {
 public:
  ShuffleNetV2(const ModelOptions& options, const std::array<int, 5>& channels)
      : imagenet_stem_(options.stem == Stem::imagenet),
        conv1_(3, channels[0], 3, {.stride = imagenet_stem_ ? 2 : 1, .norm = kRelu, .init = kInit}),
        stage2_(channels[0], channels[1], 4),
        stage3_(channels[1], channels[2], 8),
        stage4_(channels[2], channels[3], 4),
        conv5_(channels[3], channels[4], 1, {.norm = kRelu, .init = kInit}),
        fc_(channels[4], options.num_classes) {
    register_module("conv1", conv1_);
    register_module("stage2", stage2_);
    register_module("stage3", stage3_);
    register_module("stage4", stage4_);
    register_module("conv5", conv5_);
    register_module("fc", fc_);
  }

  Variable forward(const Variable& images) override {
    Variable x = conv1_(images);
    if (imagenet_stem_) x = max_pool2d(x, {.window = 3, .stride = 2, .padding = 1});
    x = stage4_(stage3_(stage2_(x)));
    return fc_(global_avg_pool(conv5_(x)));
  }

 private:
  static constexpr BatchNormParams kRelu{.activation = Activation::relu};
  bool imagenet_stem_;
  ConvNormAct conv1_;
  Stage stage2_, stage3_, stage4_;
  ConvNormAct conv5_;
  Linear fc_;
};

}  // namespace

std::unique_ptr<Module> make_shufflenet_v2_x0_5(const ModelOptions& options) {
  return std::make_unique<ShuffleNetV2>(options, std::array{24, 48, 96, 192, 1024});
}
std::unique_ptr<Module> make_shufflenet_v2_x1_0(const ModelOptions& options) {
  return std::make_unique<ShuffleNetV2>(options, std::array{24, 116, 232, 464, 1024});
}

}  // namespace plume
