#include "models/shufflenet_v2.h"

#include <array>

#include "engine/modules/blocks.h"
#include "engine/ops/concat.h"
#include "engine/ops/conv2d_concat.h"
#include "engine/ops/conv2d_interleave.h"
#include "engine/ops/depthwise_conv2d.h"
#include "engine/ops/interleave.h"
#include "engine/ops/max_pool2d.h"

namespace plume {
namespace {

constexpr Init kInit = Init::fan_in_default;

// Both halves of the channels of a feature map once they are only evaluated: the first and the second, or all
// of it and nothing.
using Parts = std::pair<Tensor, Tensor>;

// A filter's matrix [rows, columns] among zeros, with its columns from `begin` on. w: [K, 1, 1, C] or
// [R, S, C] of f32.
Tensor among_zeros(const Tensor& w, int64_t rows, int64_t begin, int64_t columns) {
  const std::vector<float> values = w.to_vector<float>();
  const int64_t channels = w.dim(-1);
  std::vector<float> padded(size_t(rows * columns));
  for (int64_t i = 0; i < w.size(); ++i)
    padded[size_t(i / channels * columns + begin + i % channels)] = values[size_t(i)];
  const Shape shape = w.shape().with(-1, columns);
  return Tensor::from(padded, w.rank() == 4 ? shape.with(0, rows) : shape, w.device());
}

// Weights for evaluation, in other rows than their module's.
struct Constants {
  ConstantFilter filter;
  Tensor shift;
};

// The two 1x1 convolutions that a unit with stride 2 ends in as one, of both inputs' channels: its outputs
// are both halves of the shuffled channels in padded rows.
Constants join(const ConvBn& passing, const ConvBn& other) {
  const ConvBn* const parts[] = {&passing, &other};
  const int64_t half = passing.shift().size(), first = chunked_channels(half);
  const int64_t begin = second_half_begin(half), rows = first + chunked_channels(begin + half);
  int64_t columns = 0;
  for (const ConvBn* part : parts) columns += chunked_channels(part->filter().in(DType::f32).dim(3));
  std::vector<float> w(rows * columns), shift(rows);
  for (int64_t number = 0, column = 0; number < 2; ++number) {
    const Tensor& filters = parts[number]->filter().in(DType::f32);
    const std::vector<float> from = filters.to_vector<float>(),
                             shifts = parts[number]->shift().to_vector<float>();
    const int64_t channels = filters.dim(3);
    for (int64_t k = 0; k < half; ++k) {
      const int64_t channel = 2 * k + number, row = channel < half ? channel : first + begin + channel - half;
      std::copy_n(from.begin() + k * channels, channels, w.begin() + row * columns + column);
      shift[size_t(row)] = shifts[size_t(k)];
    }
    column += chunked_channels(channels);
  }
  const Device device = passing.shift().device();
  return {ConstantFilter(Tensor::from(w, {rows, 1, 1, columns}, device)),
          Tensor::from(shift, {rows}, device)};
}

// Convolutions and batch norms under the numbers they have in torchvision's Sequential, where activations
// count too.
//
// Evaluated in 16 bits on a GPU, rows are padded to whole chunks of channels (conv2d_interleave.h), and
// filters with zeros, which keeps those channels zero.
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
    std::vector<ConvBn*> pairs;
    for (const auto& layer : layers_) pairs.push_back(&layer->pair);
    return ConvBn::forward_chain(pairs, x);
  }

  // For evaluation. In padded rows what the branch reads begins at `begin`.
  void fuse(bool on, int64_t begin) {
    for (const auto& layer : layers_)
      layer->fuse(on, layer == layers_.front() ? begin : 0, layer != layers_.back());
  }
  // The others only once fused. The last layer, what it reads, what it returns, and that shuffled with `a`,
  // the channels that passed the branch by.
  const ConvBn& last() const { return layers_.back()->pair; }
  Tensor evaluate_to_last(const Tensor& x, bool padded) {
    const Scope scope(*this);
    Tensor y = x;
    for (const auto& layer : layers_)
      if (layer != layers_.back()) y = layer->evaluate(y, padded);
    return y;
  }
  Tensor evaluate(const Tensor& x) { return layers_.back()->evaluate(evaluate_to_last(x, false), false); }
  Parts evaluate_shuffled(const Tensor& x, const Tensor& a, bool split, bool padded) {
    return layers_.back()->evaluate_shuffled(evaluate_to_last(x, padded), a, split, padded);
  }

 private:
  struct Layer {
    Layer(int in, int out, int kernel, const Conv2d::Options& options, Activation activation)
        : conv(in, out, kernel, options), norm(out, {.activation = activation}) {}

    // In padded rows its input begins at `begin`; `pad_filters`: its output is padded.
    void fuse(bool on, int64_t begin, bool pad_filters) {
      pair.fuse(on);
      padded.reset();
      if (!on || conv.weight.device() == Device::cpu) return;
      const Tensor& w = pair.filter().in(DType::f32);
      const int64_t out = pair.shift().size(), chunks = chunked_channels(out);
      const int64_t rows = conv.depthwise ? w.dim(0) * w.dim(1) : pad_filters ? chunks : out;
      padded = std::make_unique<Constants>(
          Constants{ConstantFilter(among_zeros(w, rows, begin, chunked_channels(begin + w.dim(-1)))),
                    among_zeros(pair.shift(), 1, 0, chunks)});
    }
    Tensor evaluate(const Tensor& x, bool pad) {
      const auto [w, params, epilogue] = arguments(x, pad);
      const Scope scope(conv);
      return conv.depthwise ? depthwise_conv2d_fused(x, w, params, epilogue)
                            : conv2d_fused(x, w, params, epilogue);
    }
    Parts evaluate_shuffled(const Tensor& x, const Tensor& a, bool split, bool pad) {
      const auto [w, params, epilogue] = arguments(x, pad);
      const Scope scope(conv);
      return conv2d_interleave(x, w, params, epilogue, a, split, pad);
    }

    Conv2d conv;
    BatchNorm2d norm;
    ConvBn pair{conv, norm};

   private:
    std::tuple<Tensor, Conv2dParams, Epilogue> arguments(const Tensor& x, bool pad) {
      ConstantFilter& filter = pad ? padded->filter : pair.filter();
      const Tensor& w = filter.in(x.dtype());
      Conv2dParams params = pair.params();
      params.packed = &filter.packed;
      return {w, params, {.shift = pad ? padded->shift : pair.shift(), .activation = pair.activation()}};
    }
    std::unique_ptr<Constants> padded;  // once fused, on devices whose kernels gain from it
  };
  void add(int in, int out, int kernel, const Conv2d::Options& options, Activation activation) {
    layers_.push_back(std::make_unique<Layer>(in, out, kernel, options, activation));
    register_module(std::to_string(next_), layers_.back()->conv);
    register_module(std::to_string(next_ + 1), layers_.back()->norm);
    next_ += activation == Activation::identity ? 2 : 3;
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
  Unit(int in, int out, int stride) : stride_(stride), half_(out / 2) {
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

  // Once fused; x and the result are shuffled. With stride 2 x is whole, and the result split.
  Parts evaluate(const Parts& x, bool split, bool padded) {
    const Scope scope(*this);
    if (stride_ == 1) return branch2_.evaluate_shuffled(x.second, x.first, split, padded);
    if (!padded) return branch2_.evaluate_shuffled(x.first, branch1_.evaluate(x.first), split, padded);
    const Tensor y1 = branch1_.evaluate_to_last(x.first, padded),
                 y2 = branch2_.evaluate_to_last(x.first, padded);
    return conv2d_concat(y1, y2, joint_->filter.in(y1.dtype()), &joint_->filter.packed,
                         {.shift = joint_->shift, .activation = branch2_.last().activation()},
                         chunked_channels(half_));
  }

  Variable forward(const Variable& x) override {
    const Halves halves = stride_ > 1 ? forward_stride2(x) : forward_stride1(channel_split(x));
    return interleave(halves.first, halves.second);
  }

 private:
  void fuse_own(bool on) override {
    joint_.reset();
    if (stride_ > 1) branch1_.fuse(on, 0);
    branch2_.fuse(on, stride_ > 1 ? 0 : second_half_begin(half_));
    if (on && stride_ > 1 && branch2_.last().shift().device() != Device::cpu)
      joint_ = std::make_unique<Constants>(join(branch1_.last(), branch2_.last()));
  }

  int stride_, half_;
  Branch branch1_, branch2_;
  std::unique_ptr<Constants> joint_;  // of stride 2, once fused
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
  // Once fused: the shuffle is part of each unit's last convolution.
  Tensor evaluate(const Tensor& x, bool padded) {
    const Scope scope(*this);
    Parts parts{x, {}};
    for (const auto& unit : units_) parts = unit->evaluate(parts, unit != units_.back(), padded);
    return parts.first;
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
    Variable x = imagenet_stem_ ? conv1_.forward_pooled(images, kPool) : conv1_(images);
    if (conv1_.pair().fused() && !watched()) {
      const bool padded = x.dtype() != DType::f32 && x.value().device() != Device::cpu;
      for (Stage* stage : {&stage2_, &stage3_, &stage4_}) x = stage->evaluate(x.value(), padded);
    } else {
      x = stage4_(stage3_(stage2_(x)));
    }
    return fc_.forward_pooled(conv5_(x));
  }

 private:
  // Does anybody hook into a module, and want to see what it returns?
  bool watched() {
    bool any = false;
    for_each([&](Module& module) { any = any || module.hooked(); });
    return any;
  }
  static constexpr BatchNormParams kRelu{.activation = Activation::relu};
  static constexpr MaxPool2dParams kPool{.window = 3, .stride = 2, .padding = 1};
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
