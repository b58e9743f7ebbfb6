#include "models/squeezenet.h"

#include "engine/modules/blocks.h"
#include "engine/ops/dropout.h"
#include "engine/ops/fire.h"
#include "engine/ops/global_avg_pool.h"
#include "engine/ops/max_pool2d.h"

namespace plume {
namespace {

// A 1x1 "squeeze", then 1x1 and 3x3 expansions side by side; a ReLU after each.
class Fire : public Module {
 public:
  Fire(int in_channels, int squeezed, int expanded)
      : squeeze_(in_channels, squeezed, 1, {.init = Init::fan_in_uniform}),
        expand1_(squeezed, expanded, 1, {.init = Init::fan_in_uniform}),
        expand3_(squeezed, expanded, 3, {.padding = 1, .init = Init::fan_in_uniform}) {
    register_module("squeeze", squeeze_);
    register_module("expand1x1", expand1_);
    register_module("expand3x3", expand3_);
  }
  Variable forward(const Variable& x) override {
    const Variable s = squeeze_relu_.forward(x);
    if (!constant_) return fire_expand(s, expand1_.weight, expand1_.bias, expand3_.weight, expand3_.bias);
    auto& [one, three] = *constant_;
    return fire_expand(s, one.in(s.dtype()), expand1_.bias, three.in(s.dtype()), expand3_.bias, &one.packed,
                       &three.packed);
  }

 private:
  using Filters = std::pair<ConstantFilter, ConstantFilter>;
  void fuse_own(bool on) override {
    squeeze_relu_.fuse(on);
    constant_ = on ? std::make_unique<Filters>(expand1_.weight.value(), expand3_.weight.value()) : nullptr;
  }
  Conv2d squeeze_, expand1_, expand3_;
  ConvAct squeeze_relu_{squeeze_, Activation::relu};
  std::unique_ptr<Filters> constant_;  // of the expansions, once fused
};

class MaxPool : public Module {
 public:
  static constexpr MaxPool2dParams kParams{.window = 3, .stride = 2, .padding = 0, .ceil_mode = true};
  Variable forward(const Variable& x) override { return max_pool2d(x, kParams); }
};

class SqueezeNet : public Module {
 public:
  // `pools`: the places of the max pools in "features", as torchvision numbers them.
  SqueezeNet(const ModelOptions& options, int stem_channels, int stem_kernel,
             std::initializer_list<int> pools)
      : pooled_stem_(options.stem == Stem::imagenet),
        stem_(3, stem_channels, stem_kernel,
              {.stride = pooled_stem_ ? 2 : 1,
               .padding = pooled_stem_ ? 0 : stem_kernel / 2,
               .init = Init::fan_in_uniform}),
        classify_(512, options.num_classes, 1, {.init = Init::small_normal}) {
    register_module("features.0", stem_);
    struct Sizes {
      int in, squeezed, expanded;
    };
    const Sizes fires[] = {{stem_channels, 16, 64}, {128, 16, 64},  {128, 32, 128}, {256, 32, 128},
                           {256, 48, 192},          {384, 48, 192}, {384, 64, 256}, {512, 64, 256}};
    size_t next = 0;
    for (int place = 2; next < std::size(fires); ++place) {
      const bool pool = std::find(pools.begin(), pools.end(), place) != pools.end();
      // For small images the first pool goes with the stem's stride.
      if (pool && place == 2 && !pooled_stem_) continue;
      if (pool) {
        features_.push_back(std::make_unique<MaxPool>());
      } else {
        const Sizes& s = fires[next++];
        features_.push_back(std::make_unique<Fire>(s.in, s.squeezed, s.expanded));
      }
      register_module("features." + std::to_string(place), *features_.back());
    }
    register_module("classifier.1", classify_);
  }

  Variable forward(const Variable& images) override {
    // Whoever hooks into the pooling's module wants it called.
    const bool pooled = pooled_stem_ && stem_relu_.fused() && !features_.front()->hooked();
    Variable x = pooled ? stem_relu_.forward_pooled(images, MaxPool::kParams) : stem_relu_.forward(images);
    for (size_t i = pooled ? 1 : 0; i < features_.size(); ++i) x = (*features_[i])(x);
    x = dropout(x, kDropout, training());
    return global_avg_pool(classify_relu_.forward(x));
  }

 private:
  static constexpr float kDropout = 0.5f;
  void fuse_own(bool on) override {
    stem_relu_.fuse(on);
    classify_relu_.fuse(on);
  }
  const bool pooled_stem_;  // has stride 2, and features_ begin with a pooling
  Conv2d stem_;
  std::vector<std::unique_ptr<Module>> features_;
  Conv2d classify_;
  ConvAct stem_relu_{stem_, Activation::relu};
  ConvAct classify_relu_{classify_, Activation::relu};  // a ReLU after the classifier: as published
};

}  // namespace

std::unique_ptr<Module> make_squeezenet1_0(const ModelOptions& options) {
  return std::make_unique<SqueezeNet>(options, 96, 7, std::initializer_list<int>{2, 6, 11});
}
std::unique_ptr<Module> make_squeezenet1_1(const ModelOptions& options) {
  return std::make_unique<SqueezeNet>(options, 64, 3, std::initializer_list<int>{2, 5, 8});
}

}  // namespace plume
