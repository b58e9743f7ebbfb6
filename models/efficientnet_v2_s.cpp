#include "models/efficientnet_v2_s.h"

#include <algorithm>

#include "engine/modules/mbconv.h"
#include "engine/ops/dropout.h"
#include "engine/ops/global_avg_pool.h"

namespace plume {
namespace {

BatchNormParams norm(Activation activation) { return {.eps = 1e-3f, .activation = activation}; }
const ConvNormAct::Options kSilu{.norm = norm(Activation::silu)};

struct Stage {
  bool fused;  // FusedMBConv: one 3x3 convolution instead of 1x1 and depthwise
  int expansion, stride, in, out, blocks;
};
constexpr Stage kStages[] = {{true, 1, 1, 24, 24, 2},    {true, 4, 2, 24, 48, 4},
                             {true, 4, 2, 48, 64, 4},    {false, 4, 2, 64, 128, 6},
                             {false, 6, 1, 128, 160, 9}, {false, 6, 2, 160, 256, 15}};
constexpr int kAllBlocks = 40;

std::unique_ptr<Module> make_block(const Stage& stage, int in, int stride, float drop) {
  const int expanded = round_channels(in * stage.expansion);
  const BatchNormParams silu = norm(Activation::silu);
  if (stage.fused)
    return std::make_unique<FusedMbConv>(FusedMbConv::Options{in, expanded, stage.out, stride, silu, drop});
  return std::make_unique<MbConv>(MbConv::Options{.in = in,
                                                  .expanded = expanded,
                                                  .out = stage.out,
                                                  .kernel = 3,
                                                  .stride = stride,
                                                  .squeezed = std::max(1, in / 4),
                                                  .squeeze = {Activation::silu, Activation::sigmoid},
                                                  .norm = silu,
                                                  .drop = drop});
}

class EfficientNetV2S : public Module {
 public:
  explicit EfficientNetV2S(const ModelOptions& options)
      : classify_(1280, options.num_classes, Init::fan_out_uniform) {
    constexpr float kStochasticDepth = 0.2f;
    ConvNormAct::Options stem = kSilu;
    stem.stride = options.stem == Stem::imagenet ? 2 : 1;
    features_.add("0", std::make_unique<ConvNormAct>(3, 24, 3, stem));
    int number = 0, stage_number = 1;
    for (const Stage& stage : kStages) {
      auto blocks = std::make_unique<Sequential>();
      for (int i = 0; i < stage.blocks; ++i, ++number)
        blocks->add(std::to_string(i),
                    make_block(stage, i == 0 ? stage.in : stage.out, i == 0 ? stage.stride : 1,
                               kStochasticDepth * float(number) / float(kAllBlocks)));
      features_.add(std::to_string(stage_number++), std::move(blocks));
    }
    features_.add(std::to_string(stage_number), std::make_unique<ConvNormAct>(256, 1280, 1, kSilu));
    register_module("features", features_);
    register_module("classifier.1", classify_);
  }

  Variable forward(const Variable& images) override {
    const Variable x = features_(images);
    if (!training()) return classify_.forward_pooled(x);
    return classify_(dropout(global_avg_pool(x), kDropout, true));
  }

 private:
  static constexpr float kDropout = 0.2f;
  Sequential features_;
  Linear classify_;
};

}  // namespace

std::unique_ptr<Module> make_efficientnet_v2_s(const ModelOptions& options) {
  return std::make_unique<EfficientNetV2S>(options);
}

}  // namespace plume
