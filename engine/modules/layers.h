// The layers networks are made of. Parameters are f32; operations round them to the dtype of
// the input (ops/cast.h).
#pragma once
#include <memory>
#include <span>

#include "engine/modules/module.h"
#include "engine/ops/batch_norm.h"
#include "engine/ops/conv2d.h"

namespace plume {

class SqueezeExcitation;  // blocks.h

struct MaxPool2dParams;

// How torchvision's networks begin. fan_in and fan_out are the weights per output and per input channel (of a
// depthwise filter: its size, and its size times the channels, which is PyTorch's reading).
enum class Init : uint8_t {
  fan_out_normal,   // N(0, 2 / fan_out), bias 0: Kaiming normal
  fan_in_uniform,   // U(+- sqrt(6 / fan_in)), bias 0: Kaiming uniform
  small_normal,     // N(0, 0.01^2), bias 0
  fan_out_uniform,  // U(+- 1 / sqrt(fan_out)), bias 0
  fan_in_default,   // U(+- 1 / sqrt(fan_in)), bias too: PyTorch's default
};

// A layer's weights once they are fixed: in the dtype that the network runs in, and in whatever layout
// the variant that uses them likes (conv2d.h).
class ConstantFilter {
 public:
  explicit ConstantFilter(Tensor values) : values_(std::move(values)) {}
  const Tensor& in(DType dtype);
  PackedFilter packed;

 private:
  Tensor values_, cast_;
};

class Conv2d : public Module {
 public:
  struct Options {
    int stride = 1;
    int padding = 0;
    bool bias = true;
    bool depthwise = false;  // one filter per channel: groups = in_channels = out_channels
    Init init = Init::fan_out_normal;
  };
  Conv2d(int in_channels, int out_channels, int kernel, const Options& options);
  Variable forward(const Variable& x) override;
  // relu(forward(x)), of a dense convolution with a bias.
  Variable forward_relu(const Variable& x) const;
  // For evaluation, with other weights of the same shape; records nothing. `pool`: of a max pooling behind.
  Tensor forward_fused(const Tensor& x, ConstantFilter& filter, const Epilogue& epilogue,
                       const MaxPool2dParams* pool = nullptr) const;

  Variable weight;  // [K, R, S, C]; depthwise [R, S, C]
  Variable bias;    // [K] or undefined
  Conv2dParams params;
  const bool depthwise;

 protected:
  void initialize_own(RandomSequence& random) override;

 private:
  Init init_;
};

class BatchNorm2d : public Module {
 public:
  explicit BatchNorm2d(int channels, const BatchNormParams& options = {});
  Variable forward(const Variable& x) override { return forward(x, {}); }
  // activation(norm(x) + residual). A frozen norm, whose weight wants no gradient, keeps its running
  // statistics and normalises with them in training too.
  Variable forward(const Variable& x, const Variable& residual);
  // The same of conv(x), as one operation where the device has a kernel for both (ops/conv_batch_norm.h), or
  // for their gradients (ops/first_layer.h).
  Variable forward_behind(Conv2d& conv, const Variable& x, const Variable& residual);
  // max_pool2d(activation(norm(conv(x)))), likewise (ops/batch_norm_max_pool.h).
  Variable forward_pooled_behind(Conv2d& conv, const Variable& x, const MaxPool2dParams& pool);
  // In training: activation(norm(x)) + residual, whole samples of the former left out with probability `drop`
  // (ops/stochastic_depth.h), above 0.
  Variable forward_dropped(const Variable& x, const Variable& residual, float drop);
  Variable forward_dropped_behind(Conv2d& conv, const Variable& x, const Variable& residual, float drop);
  // conv(norm(x)), where fuses_before(conv, x): as one operation (ops/batch_norm_conv.h).
  Variable forward_before(Conv2d& conv, const Variable& x);
  bool fuses_before(Conv2d& conv, const Variable& x) const;
  bool fuses_behind(Conv2d& conv, const Variable& x) const;
  // conv(squeeze(norm(x))), where fuses_excitation(conv, x): as one operation (ops/batch_norm_excitation.h).
  Variable forward_excited(const SqueezeExcitation& squeeze, Conv2d& conv, const Variable& x);
  bool fuses_excitation(const Conv2d& conv, const Variable& x) const;
  // In evaluation mode, too: normalises with the batch's statistics and averages them (batch_statistics.h).
  void collect(bool on) { collecting_ = on; }
  void zero_scale();  // gamma becomes 0; on the cpu

  Variable weight, bias;  // gamma, beta
  Tensor running_mean, running_var;
  Tensor num_batches_tracked;  // i64, always on the host
  BatchNormParams params;

 protected:
  void initialize_own(RandomSequence& random) override;  // gamma 1, beta 0, mean 0, var 1
  void synchronize_own(Communicator* ranks) override { ranks_ = ranks; }

 private:
  bool fuses_around(const Conv2d& conv) const;
  bool begins_behind(const Conv2d& conv, const Variable& x, const MaxPool2dParams* pool) const;
  Variable forward_first(Conv2d& conv, const Variable& x, const MaxPool2dParams* pool);
  bool alone() const;  // no other rank's batch is normalised together with this one
  SampleDrop next_drop(float drop, Device device) const;

  Communicator* ranks_ = nullptr;  // whose batches are normalised together
  bool collecting_ = false;
};

class Linear : public Module {
 public:
  Linear(int in_features, int out_features, Init init = Init::fan_in_default);
  Variable forward(const Variable& x) override;
  // activation(forward(x)); one kernel once fused.
  Variable forward_activated(const Variable& x, Activation activation);
  // activation(forward(global_avg_pool(x))), likewise.
  Variable forward_pooled(const Variable& x, Activation activation = Activation::identity);

  Variable weight;  // [out, in]
  Variable bias;    // [out]

 protected:
  void initialize_own(RandomSequence& random) override;
  void fuse_own(bool on) override;

 private:
  Init init_;
  std::unique_ptr<ConstantFilter> constant_;  // once fused: 16-bit weights are converted once
};

// A convolution and the batch norm after it. They stay separate modules with their own names; this pair
// computes them together and, once fused, as one convolution with folded weights and an epilogue.
class ConvBn {
 public:
  ConvBn(Conv2d& conv, BatchNorm2d& norm) : conv_(conv), norm_(norm) {}
  Variable forward(const Variable& x, const Variable& residual = {});
  // max_pool2d(forward(x)); one operation once fused, and in training the norm and the pooling are one where
  // the device has a kernel for both.
  Variable forward_pooled(const Variable& x, const MaxPool2dParams& pool);
  Variable forward_dropped(const Variable& x, const Variable& residual, float drop) {
    return norm_.forward_dropped_behind(conv_, x, residual, drop);
  }
  void fuse(bool on);
  // Each pair's forward of what the one before returns, the last with a residual and, in training, samples of
  // it dropped. In training, where the device has a kernel for both, a norm between two of them is part of
  // the next convolution, and what it returns is stored nowhere. `squeeze`, unless null, is applied before
  // the last pair.
  static Variable forward_chain(std::span<ConvBn* const> pairs, const Variable& x,
                                const Variable& residual = {}, float drop = 0,
                                SqueezeExcitation* squeeze = nullptr);

  // What blocks that fuse further need; only between fuse(true) and fuse(false).
  bool fused() const { return folded_ != nullptr; }
  ConstantFilter& filter() const { return folded_->filter; }  // weight * gamma / sqrt(var + eps)
  const Tensor& shift() const { return folded_->shift; }      // beta - mean * gamma / sqrt(var + eps)
  const Conv2dParams& params() const { return conv_.params; }
  Activation activation() const { return norm_.params.activation; }

 private:
  struct Folded {
    ConstantFilter filter;
    Tensor shift;
  };
  Conv2d& conv_;
  BatchNorm2d& norm_;
  std::unique_ptr<Folded> folded_;
};

// A convolution with a bias and the activation after it: one kernel once fused, and a ReLU always.
class ConvAct {
 public:
  ConvAct(Conv2d& conv, Activation activation) : conv_(conv), activation_(activation) {}
  Variable forward(const Variable& x);
  // max_pool2d(forward(x)) by one operation; only between fuse(true) and fuse(false).
  Variable forward_pooled(const Variable& x, const MaxPool2dParams& pool);
  void fuse(bool on);
  bool fused() const { return constant_ != nullptr; }

 private:
  Epilogue epilogue() const;
  Conv2d& conv_;
  Activation activation_;
  std::unique_ptr<ConstantFilter> constant_;  // once fused
};

}  // namespace plume
