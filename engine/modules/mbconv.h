// The blocks of MobileNetV3 and EfficientNetV2, under torchvision's names "block.0", "block.1", ...
//
// Fused for evaluation they run as the operations of engine/ops/mbconv.h, and else layer by layer.
#pragma once
#include <memory>

#include "engine/modules/blocks.h"

namespace plume {

// Expansion, depthwise convolution, squeeze-excitation, projection; plus the input where the shape stays.
class MbConv : public Module {
 public:
  struct Options {
    int in, expanded, out, kernel, stride;
    bool expand = true;  // the 1x1 convolution in front
    int squeezed = 0;    // channels inside the squeeze-excitation; 0: none
    SqueezeExcitationParams squeeze = {};
    BatchNormParams norm = {};  // of the first two convolutions, activation included
    float drop = 0;             // probability of leaving the block out, sample by sample, in training
  };
  explicit MbConv(const Options& options);
  Variable forward(const Variable& x) override;

 private:
  Tensor forward_fused(const Tensor& x);
  // What the projection reads; with a squeeze-excitation its planes' means, too (depthwise_pool.h).
  Tensor expand_fused(const Tensor& x, Tensor& pooled);
  Tensor depthwise_fused(const Tensor& x, Tensor& pooled);
  bool zero_residual_branch_own() override;

  bool residual_;
  float drop_;
  std::unique_ptr<ConvNormAct> expand_;
  ConvNormAct depthwise_;
  std::unique_ptr<SqueezeExcitation> squeeze_;
  ConvNormAct project_;
};

// A 3x3 convolution that expands, then the projection; without expansion the 3x3 convolution alone.
class FusedMbConv : public Module {
 public:
  struct Options {
    int in, expanded, out, stride;
    BatchNormParams norm = {};
    float drop = 0;
  };
  explicit FusedMbConv(const Options& options);
  Variable forward(const Variable& x) override;

 private:
  bool zero_residual_branch_own() override;
  Tensor forward_onto(const Tensor& x);  // in evaluation, without a projection: activation(...) + x

  bool residual_;
  float drop_;
  ConvNormAct expand_;
  std::unique_ptr<ConvNormAct> project_;
};

}  // namespace plume
