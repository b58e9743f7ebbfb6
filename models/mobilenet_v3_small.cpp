#include "models/mobilenet_v3_small.h"

#include "engine/modules/mbconv.h"
#include "engine/ops/dropout.h"

namespace plume {
namespace {

BatchNormParams norm(Activation activation) {
  return {.eps = 1e-3f, .momentum = 0.01f, .activation = activation};
}

struct BlockSettings {
  int in, kernel, expanded, out;
  bool squeeze;
  Activation activation;
  int stride;
};
constexpr BlockSettings kBlocks[] = {
    {16, 3, 16, 16, true, Activation::relu, 2},       {16, 3, 72, 24, false, Activation::relu, 2},
    {24, 3, 88, 24, false, Activation::relu, 1},      {24, 5, 96, 40, true, Activation::hardswish, 2},
    {40, 5, 240, 40, true, Activation::hardswish, 1}, {40, 5, 240, 40, true, Activation::hardswish, 1},
    {40, 5, 120, 48, true, Activation::hardswish, 1}, {48, 5, 144, 48, true, Activation::hardswish, 1},
    {48, 5, 288, 96, true, Activation::hardswish, 2}, {96, 5, 576, 96, true, Activation::hardswish, 1},
    {96, 5, 576, 96, true, Activation::hardswish, 1}};

std::unique_ptr<Module> make_block(const BlockSettings& s) {
  return std::make_unique<MbConv>(MbConv::Options{.in = s.in,
                                                  .expanded = s.expanded,
                                                  .out = s.out,
                                                  .kernel = s.kernel,
                                                  .stride = s.stride,
                                                  .expand = s.expanded != s.in,
                                                  .squeezed = s.squeeze ? round_channels(s.expanded / 4) : 0,
                                                  .squeeze = {Activation::relu, Activation::hardsigmoid},
                                                  .norm = norm(s.activation)});
}

class MobileNetV3Small : public Module {
 public:
  explicit MobileNetV3Small(const ModelOptions& options)
      : expand_(576, 1024, Init::small_normal), classify_(1024, options.num_classes, Init::small_normal) {
    int index = 0;
    const auto name = [&] { return std::to_string(index++); };
    const int stride = options.stem == Stem::imagenet ? 2 : 1;
    features_.add(name(),
                  std::make_unique<ConvNormAct>(
                      3, 16, 3, ConvNormAct::Options{.stride = stride, .norm = norm(Activation::hardswish)}));
    for (const BlockSettings& s : kBlocks) features_.add(name(), make_block(s));
    features_.add(name(), std::make_unique<ConvNormAct>(
                              96, 576, 1, ConvNormAct::Options{.norm = norm(Activation::hardswish)}));
    register_module("features", features_);
    register_module("classifier.0", expand_);
    register_module("classifier.3", classify_);
  }

  Variable forward(const Variable& images) override {
    const Variable hidden = expand_.forward_pooled(features_(images), Activation::hardswish);
    return classify_(dropout(hidden, kDropout, training()));
  }

 private:
  static constexpr float kDropout = 0.2f;
  Sequential features_;
  Linear expand_, classify_;
};

}  // namespace

std::unique_ptr<Module> make_mobilenet_v3_small(const ModelOptions& options) {
  return std::make_unique<MobileNetV3Small>(options);
}

}  // namespace plume
