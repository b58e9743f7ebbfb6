#include "models/efficientnet_v2_s.h"

#include "engine/modules/blocks.h"
#include "engine/ops/dropout.h"
#include "engine/ops/global_avg_pool.h"
#include "engine/ops/stochastic_depth.h"

namespace plume {
namespace {

BatchNormParams norm(Activation activation) { return {.eps = 1e-3f, .activation = activation}; }
const ConvNormAct::Options kSilu{.norm = norm(Activation::silu)};
const ConvNormAct::Options kLinear{.norm = norm(Activation::identity)};

struct Stage {
  bool fused;  // FusedMBConv: one 3x3 convolution instead of 1x1 and depthwise
  int expansion, stride, in, out, blocks;
};
constexpr Stage kStages[] = {{true, 1, 1, 24, 24, 2},    {true, 4, 2, 24, 48, 4},
                             {true, 4, 2, 48, 64, 4},    {false, 4, 2, 64, 128, 6},
                             {false, 6, 1, 128, 160, 9}, {false, 6, 2, 160, 256, 15}};
constexpr int kAllBlocks = 40;

class Block : public Module {
 public:
  // In training the block is left out, sample by sample, with probability `drop`.
  Block(const Stage& stage, int in, int stride, float drop)
      : residual_(stride == 1 && in == stage.out), drop_(drop) {
    const int expanded = round_channels(in * stage.expansion);
    ConvNormAct::Options strided = kSilu;
    strided.stride = stride;
    if (stage.fused) {
      add(std::make_unique<ConvNormAct>(in, stage.expansion == 1 ? stage.out : expanded, 3, strided));
    } else {
      strided.depthwise = true;
      add(std::make_unique<ConvNormAct>(in, expanded, 1, kSilu));
      add(std::make_unique<ConvNormAct>(expanded, expanded, 3, strided));
      add(std::make_unique<SqueezeExcitation>(
          expanded, std::max(1, in / 4), SqueezeExcitationParams{Activation::silu, Activation::sigmoid}));
    }
    if (stage.fused && stage.expansion == 1) return;
    project_ = std::make_unique<ConvNormAct>(expanded, stage.out, 1, kLinear);
    register_module("block." + std::to_string(before_.size()), *project_);
  }

  Variable forward(const Variable& x) override {
    Variable y = x;
    for (const auto& module : before_) y = module->forward(y);
    if (!residual_) return project_ ? project_->forward(y) : y;
    // Nothing is dropped in evaluation: the addition is part of the projection.
    if (project_ && (!training() || drop_ == 0.0f)) return project_->forward(y, x);
    if (project_) y = project_->forward(y);
    return stochastic_depth_add(y, x, drop_, training());
  }

 private:
  void add(std::unique_ptr<Module> module) {
    register_module("block." + std::to_string(before_.size()), *module);
    before_.push_back(std::move(module));
  }

  bool residual_;
  float drop_;
  std::vector<std::unique_ptr<Module>> before_;
  std::unique_ptr<ConvNormAct> project_;
};

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
                    std::make_unique<Block>(stage, i == 0 ? stage.in : stage.out, i == 0 ? stage.stride : 1,
                                            kStochasticDepth * float(number) / float(kAllBlocks)));
      features_.add(std::to_string(stage_number++), std::move(blocks));
    }
    features_.add(std::to_string(stage_number), std::make_unique<ConvNormAct>(256, 1280, 1, kSilu));
    register_module("features", features_);
    register_module("classifier.1", classify_);
  }

  Variable forward(const Variable& images) override {
    const Variable pooled = global_avg_pool(features_.forward(images));
    return classify_.forward(dropout(pooled, kDropout, training()));
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
