#include "engine/modules/blocks.h"

#include <algorithm>

#include "engine/ops/cast.h"
#include "engine/ops/max_pool2d.h"
#include "engine/ops/mbconv.h"

namespace plume {

void Sequential::add(std::string name, std::unique_ptr<Module> module) {
  register_module(std::move(name), *module);
  modules_.push_back(std::move(module));
}

Variable Sequential::forward(const Variable& x) {
  Variable y = x;
  for (const auto& module : modules_) y = (*module)(y);
  return y;
}

ConvNormAct::ConvNormAct(int in_channels, int out_channels, int kernel, const Options& options)
    : conv_(in_channels, out_channels, kernel,
            {options.stride, (kernel - 1) / 2, false, options.depthwise, options.init}),
      norm_(out_channels, options.norm) {
  register_module("0", conv_);
  register_module("1", norm_);
}

Variable ConvNormAct::forward_pooled(const Variable& x, const MaxPool2dParams& pool) {
  // Whoever hooks into this module wants to see its output.
  if (hooked()) return max_pool2d((*this)(x), pool);
  const Scope scope(*this);
  return pair_.forward_pooled(x, pool);
}

Variable ConvNormAct::forward_chain(std::initializer_list<ConvNormAct*> all, const Variable& x,
                                    const Variable& residual, float drop, SqueezeExcitation* squeeze) {
  std::vector<ConvNormAct*> layers;
  std::copy_if(all.begin(), all.end(), std::back_inserter(layers), [](auto* layer) { return layer; });
  std::vector<ConvBn*> pairs;
  for (ConvNormAct* layer : layers) pairs.push_back(&layer->pair_);
  if (std::none_of(layers.begin(), layers.end(), [](auto* layer) { return layer->hooked(); }) &&
      !(squeeze && squeeze->hooked()))
    return ConvBn::forward_chain(pairs, x, residual, drop, squeeze);
  // Whoever hooks into a layer wants to see its output.
  Variable y = x;
  for (ConvNormAct* layer : layers)
    if (layer != layers.back()) y = (*layer)(y);
  if (squeeze) y = (*squeeze)(y);
  if (drop > 0) return layers.back()->forward_dropped(y, residual, drop);
  return residual.defined() ? layers.back()->forward(y, residual) : (*layers.back())(y);
}

SqueezeExcitation::SqueezeExcitation(int channels, int squeezed, const SqueezeExcitationParams& params)
    : params_(params), fc1_(channels, squeezed, 1, {}), fc2_(squeezed, channels, 1, {}) {
  register_module("fc1", fc1_);
  register_module("fc2", fc2_);
}

Tensor SqueezeExcitation::gate(const Tensor& pooled, DType images) const {
  const Scope scope(*this);
  return squeeze_gate(pooled, value_in(fc1_.weight, images), fc1_.bias.value(), value_in(fc2_.weight, images),
                      fc2_.bias.value(), params_);
}

int round_channels(double channels) {
  const int rounded = std::max(8, int(channels + 4) / 8 * 8);
  return rounded < 0.9 * channels ? rounded + 8 : rounded;
}

}  // namespace plume
