#include "models/resnet18.h"

#include <array>

#include "engine/modules/layers.h"
#include "engine/ops/max_pool2d.h"

namespace plume {
namespace {

constexpr BatchNormParams kNormRelu{.activation = Activation::relu};
constexpr MaxPool2dParams kPool{.window = 3, .stride = 2, .padding = 1};

// conv3x3 - norm - relu - conv3x3 - norm, plus the input (through a 1x1 convolution where the shape changes)
// - relu
class BasicBlock : public Module {
 public:
  BasicBlock(int in_channels, int channels, int stride)
      : conv1_(in_channels, channels, 3, {stride, 1, false}),
        norm1_(channels, kNormRelu),
        conv2_(channels, channels, 3, {1, 1, false}),
        norm2_(channels, kNormRelu) {
    register_module("conv1", conv1_);
    register_module("bn1", norm1_);
    register_module("conv2", conv2_);
    register_module("bn2", norm2_);
    if (stride != 1 || in_channels != channels) {
      downsample_ = std::make_unique<Downsample>(in_channels, channels, stride);
      register_module("downsample", *downsample_);
    }
  }

  Variable forward(const Variable& x) override {
    const Variable shortcut = downsample_ ? (*downsample_)(x) : x;
    return ConvBn::forward_chain(std::array{&first_, &second_}, x, shortcut);
  }

 private:
  class Downsample : public Module {
   public:
    Downsample(int in_channels, int channels, int stride)
        : conv_(in_channels, channels, 1, {stride, 0, false}), norm_(channels) {
      register_module("0", conv_);
      register_module("1", norm_);
    }
    Variable forward(const Variable& x) override { return pair_.forward(x); }

   private:
    void fuse_own(bool on) override { pair_.fuse(on); }
    Conv2d conv_;
    BatchNorm2d norm_;
    ConvBn pair_{conv_, norm_};
  };

  bool zero_residual_branch_own() override {
    norm2_.zero_scale();
    return true;
  }
  void fuse_own(bool on) override {
    first_.fuse(on);
    second_.fuse(on);
  }

  Conv2d conv1_;
  BatchNorm2d norm1_;
  Conv2d conv2_;
  BatchNorm2d norm2_;
  std::unique_ptr<Downsample> downsample_;
  ConvBn first_{conv1_, norm1_}, second_{conv2_, norm2_};
};

class Stage : public Module {
 public:
  Stage(int in_channels, int channels, int stride)
      : first_(in_channels, channels, stride), second_(channels, channels, 1) {
    register_module("0", first_);
    register_module("1", second_);
  }
  Variable forward(const Variable& x) override { return second_(first_(x)); }

 private:
  BasicBlock first_, second_;
};

class ResNet18 : public Module {
 public:
  explicit ResNet18(const ModelOptions& options)
      : imagenet_stem_(options.stem == Stem::imagenet),
        conv1_(3, 64, imagenet_stem_ ? 7 : 3, {imagenet_stem_ ? 2 : 1, imagenet_stem_ ? 3 : 1, false}),
        norm1_(64, kNormRelu),
        fc_(512, options.num_classes) {
    register_module("conv1", conv1_);
    register_module("bn1", norm1_);
    register_module("layer1", layer1_);
    register_module("layer2", layer2_);
    register_module("layer3", layer3_);
    register_module("layer4", layer4_);
    register_module("fc", fc_);
  }

  Variable forward(const Variable& images) override {
    Variable x = imagenet_stem_ ? stem_.forward_pooled(images, kPool) : stem_.forward(images);
    x = layer1_(x);
    x = layer2_(x);
    x = layer3_(x);
    x = layer4_(x);
    return fc_.forward_pooled(x);
  }

 private:
  void fuse_own(bool on) override { stem_.fuse(on); }

  bool imagenet_stem_;
  Conv2d conv1_;
  BatchNorm2d norm1_;
  ConvBn stem_{conv1_, norm1_};
  Stage layer1_{64, 64, 1}, layer2_{64, 128, 2}, layer3_{128, 256, 2}, layer4_{256, 512, 2};
  Linear fc_;
};

}  // namespace

std::unique_ptr<Module> make_resnet18(const ModelOptions& options) {
  return std::make_unique<ResNet18>(options);
}

}  // namespace plume
