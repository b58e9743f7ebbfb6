#include "engine/modules/mbconv.h"

#include "engine/ops/add.h"
#include "engine/ops/depthwise_pool.h"
#include "engine/ops/mbconv.h"

namespace plume {
namespace {

BatchNormParams linear(BatchNormParams norm) {
  norm.activation = Activation::identity;
  return norm;
}

// activation(sums + shift + x): the end of a projection.
Epilogue ending(const ConvBn& project, const Tensor& residual) {
  return {.shift = project.shift(), .residual = residual, .activation = project.activation()};
}

}  // namespace

MbConv::MbConv(const Options& o)
    : residual_(o.stride == 1 && o.in == o.out),
      drop_(o.drop),
      depthwise_(o.expanded, o.expanded, o.kernel, {.stride = o.stride, .depthwise = true, .norm = o.norm}),
      project_(o.expanded, o.out, 1, {.norm = linear(o.norm)}) {
  int number = 0;
  const auto add = [&](Module& child) { register_module("block." + std::to_string(number++), child); };
  if (o.expand) {
    expand_ = std::make_unique<ConvNormAct>(o.in, o.expanded, 1, ConvNormAct::Options{.norm = o.norm});
    add(*expand_);
  }
  add(depthwise_);
  if (o.squeezed > 0) {
    squeeze_ = std::make_unique<SqueezeExcitation>(o.expanded, o.squeezed, o.squeeze);
    add(*squeeze_);
  }
  add(project_);
}

Variable MbConv::forward(const Variable& x) {
  if ((expand_ || squeeze_) && depthwise_.pair().fused()) return forward_fused(x.value());
  const Variable residual = residual_ ? x : Variable();
  const float drop = residual_ && training() ? drop_ : 0.0f;
  return ConvNormAct::forward_chain({expand_.get(), &depthwise_, &project_}, x, residual, drop,
                                    squeeze_.get());
}

Tensor MbConv::forward_fused(const Tensor& x) {
  const ConvBn& project = project_.pair();
  Tensor pooled;
  const Tensor y = expand_ ? expand_fused(x, pooled) : depthwise_fused(x, pooled);
  const Tensor gate = squeeze_ ? squeeze_->gate(pooled, x.dtype()) : Tensor();
  const Scope scope(project_);
  const Tensor& filter = project.filter().in(x.dtype());
  const Epilogue end = ending(project, residual_ ? x : Tensor());
  PackedFilter* packed = &project.filter().packed;
  if (squeeze_) return gated_pointwise(y, gate, filter, end, packed);
  return conv2d_fused(y, filter, {.packed = packed}, end);
}

Tensor MbConv::expand_fused(const Tensor& x, Tensor& pooled) {
  const ConvBn &expand = expand_->pair(), &depthwise = depthwise_.pair();
  const Tensor &w1 = expand.filter().in(x.dtype()), &w2 = depthwise.filter().in(x.dtype());
  const ExpandDepthwiseParams params{expand.activation(), depthwise.activation(), depthwise.params().stride,
                                     depthwise.params().padding, &expand.filter().packed};
  return expand_depthwise(x, w1, expand.shift(), w2, depthwise.shift(), params, squeeze_ ? &pooled : nullptr);
}

Tensor MbConv::depthwise_fused(const Tensor& x, Tensor& pooled) {
  const Scope scope(depthwise_);
  const ConvBn& depthwise = depthwise_.pair();
  return depthwise_pool(x, depthwise.filter().in(x.dtype()), depthwise.params(),
                        {.shift = depthwise.shift(), .activation = depthwise.activation()}, pooled);
}

bool MbConv::zero_residual_branch_own() {
  if (residual_) project_.zero_scale();
  return residual_;
}

FusedMbConv::FusedMbConv(const Options& o)
    : residual_(o.stride == 1 && o.in == o.out),
      drop_(o.drop),
      expand_(o.in, o.expanded == o.in ? o.out : o.expanded, 3, {.stride = o.stride, .norm = o.norm}) {
  register_module("block.0", expand_);
  if (o.expanded == o.in) return;
  project_ =
      std::make_unique<ConvNormAct>(o.expanded, o.out, 1, ConvNormAct::Options{.norm = linear(o.norm)});
  register_module("block.1", *project_);
}

Variable FusedMbConv::forward(const Variable& x) {
  if (!project_) {
    if (residual_ && training() && drop_ > 0) return expand_.forward_dropped(x, x, drop_);
    if (residual_ && expand_.pair().fused() && !expand_.hooked()) return forward_onto(x.value());
    const Variable y = expand_(x);
    return residual_ ? add(y, x) : y;
  }
  const ConvBn &expand = expand_.pair(), &project = project_->pair();
  if (expand.fused()) {
    ConstantFilter &w1 = expand.filter(), &w2 = project.filter();
    const FusedMbconvParams params{expand.activation(), expand.params().stride, expand.params().padding,
                                   &w1.packed, &w2.packed};
    return fused_mbconv(x.value(), w1.in(x.dtype()), expand.shift(), w2.in(x.dtype()),
                        ending(project, residual_ ? x.value() : Tensor()), params);
  }
  return ConvNormAct::forward_chain({&expand_, project_.get()}, x, residual_ ? x : Variable(),
                                    residual_ && training() ? drop_ : 0.0f);
}

Tensor FusedMbConv::forward_onto(const Tensor& x) {
  const Scope scope(expand_);
  const ConvBn& expand = expand_.pair();
  Conv2dParams params = expand.params();
  params.packed = &expand.filter().packed;
  Epilogue end = ending(expand, x);
  end.residual_last = true;
  const Tensor& filter = expand.filter().in(x.dtype());
  return conv2d_fused(x, filter, params, end);
}

bool FusedMbConv::zero_residual_branch_own() {
  if (residual_) (project_ ? *project_ : expand_).zero_scale();
  return residual_;
}

}  // namespace plume
