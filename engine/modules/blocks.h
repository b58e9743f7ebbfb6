// Blocks that several networks share, under torchvision's names.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "engine/modules/layers.h"
#include "engine/ops/batch_norm_excitation.h"

namespace plume {

// Modules one after the other, each with its own name.
class Sequential : public Module {
 public:
  void add(std::string name, std::unique_ptr<Module> module);
  Variable forward(const Variable& x) override;

 private:
  std::vector<std::unique_ptr<Module>> modules_;
};

// Convolution "0", batch norm "1", activation; padded so that stride 1 keeps the image's size.
class ConvNormAct : public Module {
 public:
  struct Options {
    int stride = 1;
    bool depthwise = false;
    BatchNormParams norm = {};  // its activation included
    Init init = Init::fan_out_normal;
  };
  ConvNormAct(int in_channels, int out_channels, int kernel, const Options& options);
  Variable forward(const Variable& x) override { return pair_.forward(x); }
  // activation(norm(conv(x)) + residual)
  Variable forward(const Variable& x, const Variable& residual) { return pair_.forward(x, residual); }
  Variable forward_dropped(const Variable& x, const Variable& residual, float drop) {
    return pair_.forward_dropped(x, residual, drop);
  }
  // max_pool2d((*this)(x)), as ConvBn has it.
  Variable forward_pooled(const Variable& x, const MaxPool2dParams& pool);
  const ConvBn& pair() const { return pair_; }
  // ConvBn::forward_chain of all layers but null.
  static Variable forward_chain(std::initializer_list<ConvNormAct*> layers, const Variable& x,
                                const Variable& residual = {}, float drop = 0,
                                SqueezeExcitation* squeeze = nullptr);
  void zero_scale() { norm_.zero_scale(); }

 private:
  void fuse_own(bool on) override { pair_.fuse(on); }
  Conv2d conv_;
  BatchNorm2d norm_;
  ConvBn pair_{conv_, norm_};
};

// "fc1" and "fc2" are 1x1 convolutions with biases.
class SqueezeExcitation : public Module {
 public:
  SqueezeExcitation(int channels, int squeezed, const SqueezeExcitationParams& params);
  Variable forward(const Variable& x) override {
    return squeeze_excitation(x, fc1_.weight, fc1_.bias, fc2_.weight, fc2_.bias, params_);
  }
  // The gates [N, C] of the plane's means, for blocks that do the rest themselves; weights as the images are.
  Tensor gate(const Tensor& pooled, DType images) const;
  ExcitationWeights weights() const { return {fc1_.weight, fc1_.bias, fc2_.weight, fc2_.bias}; }
  const SqueezeExcitationParams& params() const { return params_; }

 private:
  SqueezeExcitationParams params_;
  Conv2d fc1_, fc2_;
};

// The nearest multiple of 8 that is not more than 10 % smaller (the MobileNet papers' rule).
int round_channels(double channels);

}  // namespace plume
