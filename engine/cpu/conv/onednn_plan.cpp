#include "engine/cpu/conv/onednn_plan.h"

#include "engine/cpu/conv/blocked_layout.h"

#if PLUME_HAVE_ONEDNN

namespace plume::cpu {

bool use_blocked(const Problem& problem) {
  if (dnnl::get_effective_cpu_isa() != dnnl::cpu_isa::avx2) return false;
  if (problem.x[1] % kChannelBlock != 0 || problem.y[1] % kChannelBlock != 0) return false;
  return true;
}

namespace {

dnnl::primitive_attr fused(const Problem& problem, int64_t parts) {
  dnnl::post_ops ops;
  const memory::desc per_channel({1, problem.y[1], 1, 1}, kF32, Tag::nhwc);
  if (parts & kScale) {
    ops.append_binary(dnnl::algorithm::binary_mul, per_channel);
    if (parts & kShift) ops.append_binary(dnnl::algorithm::binary_add, per_channel);
  }
  dnnl::primitive_attr attr;
  attr.set_post_ops(ops);
  attr.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  return attr;
}

}  // namespace

std::unique_ptr<Plan> make_plan(Kind kind, const Problem& q, int64_t parts) {
  auto plan = std::make_unique<Plan>();
  plan->blocked = use_blocked(q);
  const Tag tag = plan->blocked ? Tag::nChw8c : Tag::nhwc;
  plan->x = {q.x, kF32, tag};
  plan->y = {q.y, kF32, tag};
  const memory::desc any_w(q.w, kF32, Tag::any), plain_w(q.w, kF32, Tag::ohwi);
  const auto direct = dnnl::algorithm::convolution_direct;
  const dnnl::engine& engine = dnnl_engine();
  // Scale and shift are part of the primitive in NHWC, and of the conversion back from blocks otherwise. A
  // shift without a scale is a bias.
  const bool with_bias = !plan->blocked && (parts & kShift) && !(parts & kScale);
  if (with_bias) plan->shift = {{q.y[1]}, kF32, Tag::x};
  dnnl::primitive_attr plain;
  plain.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  const auto forward = [&](bool training) {
    return dnnl::convolution_forward::primitive_desc(
        {training ? dnnl::prop_kind::forward_training : dnnl::prop_kind::forward_inference, direct, plan->x,
         any_w, plan->shift, plan->y, q.strides, q.dilation, q.padding, q.padding_after},
        plan->blocked || training ? plain : fused(q, parts), engine);
  };
  switch (kind) {
    case Kind::forward: {
      const auto description = forward(false);
      plan->w = description.weights_desc();
      plan->scratchpad = description.scratchpad_desc();
      plan->primitive = dnnl::convolution_forward(description);
      break;
    }
    case Kind::backward_input: {
      const dnnl::convolution_backward_data::primitive_desc description(
          {direct, plan->x, any_w, plan->y, q.strides, q.dilation, q.padding, q.padding_after}, plain, engine,
          forward(true));
      plan->w = description.weights_desc();
      plan->scratchpad = description.scratchpad_desc();
      plan->primitive = dnnl::convolution_backward_data(description);
      break;
    }
    case Kind::backward_weight: {
      const dnnl::convolution_backward_weights::primitive_desc description(
          {direct, plan->x, any_w, plan->y, q.strides, q.dilation, q.padding, q.padding_after}, plain, engine,
          forward(true));
      plan->w = description.diff_weights_desc();
      plan->scratchpad = description.scratchpad_desc();
      plan->primitive = dnnl::convolution_backward_weights(description);
      break;
    }
  }
  const bool out = kind == Kind::backward_weight;
  plan->filter_reorder = dnnl::reorder(
      dnnl::reorder::primitive_desc(engine, out ? plan->w : plain_w, engine, out ? plain_w : plan->w));
  return plan;
}

memory::desc plain_filter(const Tensor& w) {
  return {{w.dim(0), w.dim(3), w.dim(1), w.dim(2)}, kF32, Tag::ohwi};
}

}  // namespace plume::cpu
#endif  // PLUME_HAVE_ONEDNN
