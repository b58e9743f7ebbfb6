// Convolution by oneDNN in f32, on NHWC activations or on blocks of eight channels, whichever is faster for
// the shape with the conversions counted; 16-bit tensors are widened first. The filter is converted on every
// call unless the caller keeps it packed: less than 1 % of the time of a training step.
#include "engine/cpu/conv/blocked_layout.h"
#include "engine/cpu/conv/onednn.h"
#include "engine/cpu/conv/packed_layouts.h"
#include "engine/ops/conv2d.h"
#include "engine/ops/epilogue.h"

#if PLUME_HAVE_ONEDNN

namespace plume::cpu {
namespace {

using dnnl::memory;
using Tag = memory::format_tag;
constexpr auto kF32 = memory::data_type::f32;
enum class Kind : int64_t { forward, backward_input, backward_weight };

// The problem in oneDNN's terms: dimensions in the order n c h w, whatever the layout in memory.
struct Problem {
  memory::dims x, w, y, strides, dilation, padding, padding_after;

  Problem(const Shape& xs, const Shape& ws, const Shape& ys, const Conv2dParams& p)
      : x{xs[0], xs[3], xs[1], xs[2]},
        w{ws[0], ws[3], ws[1], ws[2]},
        y{ys[0], ys[3], ys[1], ys[2]},
        strides{p.stride, p.stride},
        dilation{p.dilation - 1, p.dilation - 1},
        padding{p.padding, p.padding},
        padding_after{after(xs[1], ws[1], ys[1], p), after(xs[2], ws[2], ys[2], p)} {}

  std::array<int64_t, 14> key(Kind kind, int64_t detail) const {
    return {int64_t(kind), detail, x[0], x[1], x[2],       x[3],        w[0],
            w[2],          w[3],   y[2], y[3], strides[0], dilation[0], padding[0]};
  }

 private:
  // What the last window needs beyond the image: less than the padding when the stride does not divide, and
  // negative when input is left over.
  static int64_t after(int64_t in, int64_t filter, int64_t out, const Conv2dParams& p) {
    return (out - 1) * p.stride + p.dilation * (filter - 1) + 1 - in - p.padding;
  }
};

// Blocks of eight suit AVX2; newer instruction sets have fast NHWC kernels.
bool use_blocked(const Problem& problem) {
  if (dnnl::get_effective_cpu_isa() != dnnl::cpu_isa::avx2) return false;
  if (problem.x[1] % kChannelBlock != 0 || problem.y[1] % kChannelBlock != 0) return false;
  return true;
}

struct Plan {
  bool blocked = false;
  dnnl::primitive primitive;
  memory::desc x, w, y, shift;
  dnnl::reorder filter_reorder;  // into the primitive's layout, or out of it for the filter's gradient
};

// Bits of an epilogue that change the primitive.
constexpr int64_t kShift = 1, kScale = 2, kRelu = 4;

int64_t parts_of(const Epilogue& e) {
  return (e.shift.defined() ? kShift : 0) | (e.scale.defined() ? kScale : 0) |
         (e.activation == Activation::relu ? kRelu : 0);
}

dnnl::primitive_attr fused(const Problem& problem, int64_t parts) {
  dnnl::post_ops ops;
  const memory::desc per_channel({1, problem.y[1], 1, 1}, kF32, Tag::nhwc);
  if (parts & kScale) {
    ops.append_binary(dnnl::algorithm::binary_mul, per_channel);
    if (parts & kShift) ops.append_binary(dnnl::algorithm::binary_add, per_channel);
  }
  if (parts & kRelu) ops.append_eltwise(1.0f, dnnl::algorithm::eltwise_relu, 0.0f, 0.0f);
  dnnl::primitive_attr attr;
  attr.set_post_ops(ops);
  return attr;
}

std::unique_ptr<Plan> make_plan(Kind kind, const Problem& q, int64_t parts) {
  auto plan = std::make_unique<Plan>();
  plan->blocked = use_blocked(q);
  const Tag tag = plan->blocked ? Tag::nChw8c : Tag::nhwc;
  plan->x = {q.x, kF32, tag};
  plan->y = {q.y, kF32, tag};
  const memory::desc any_w(q.w, kF32, Tag::any), plain_w(q.w, kF32, Tag::ohwi);
  const auto direct = dnnl::algorithm::convolution_direct;
  const dnnl::engine& engine = dnnl_engine();
  // The epilogue is part of the primitive in NHWC, and of the conversion back from blocks otherwise. A shift
  // without a scale is a bias.
  const bool with_bias = !plan->blocked && (parts & kShift) && !(parts & kScale);
  if (with_bias) plan->shift = {{q.y[1]}, kF32, Tag::x};
  const auto forward = [&](bool training) {
    return dnnl::convolution_forward::primitive_desc(
        {training ? dnnl::prop_kind::forward_training : dnnl::prop_kind::forward_inference, direct, plan->x,
         any_w, plan->shift, plan->y, q.strides, q.dilation, q.padding, q.padding_after},
        plan->blocked || training ? dnnl::primitive_attr() : fused(q, parts), engine);
  };
  switch (kind) {
    case Kind::forward: {
      const auto description = forward(false);
      plan->w = description.weights_desc();
      plan->primitive = dnnl::convolution_forward(description);
      break;
    }
    case Kind::backward_input: {
      const dnnl::convolution_backward_data::primitive_desc description(
          {direct, plan->x, any_w, plan->y, q.strides, q.dilation, q.padding, q.padding_after}, engine,
          forward(true));
      plan->w = description.weights_desc();
      plan->primitive = dnnl::convolution_backward_data(description);
      break;
    }
    case Kind::backward_weight: {
      const dnnl::convolution_backward_weights::primitive_desc description(
          {direct, plan->x, any_w, plan->y, q.strides, q.dilation, q.padding, q.padding_after}, engine,
          forward(true));
      plan->w = description.diff_weights_desc();
      plan->primitive = dnnl::convolution_backward_weights(description);
      break;
    }
  }
  const bool out = kind == Kind::backward_weight;
  plan->filter_reorder = dnnl::reorder(
      dnnl::reorder::primitive_desc(engine, out ? plan->w : plain_w, engine, out ? plain_w : plan->w));
  return plan;
}

Tensor workspace(const memory::desc& layout) {
  return Tensor::empty({int64_t(layout.get_size() / sizeof(float))}, DType::f32, Device::cpu, "workspace");
}

memory::desc plain_filter(const Tensor& w) {
  return {{w.dim(0), w.dim(3), w.dim(1), w.dim(2)}, kF32, Tag::ohwi};
}

// The filter in the plan's layout: from `packed` when it is kept there, otherwise converted into `buffer`.
memory filter_for(Plan& plan, const Tensor& w, PackedFilter* packed, Tensor& buffer) {
  if (packed) {
    std::vector<memory>& kept = packed_layouts(*packed).onednn;
    for (const memory& m : kept)
      if (m.get_desc() == plan.w) return m;
    memory filter(plan.w, dnnl_engine());
    const Tensor wide = widened(w);
    memory source = wrap(plain_filter(w), wide.raw());
    plan.filter_reorder.execute(dnnl_stream(), source, filter);
    return kept.emplace_back(filter);
  }
  const Tensor wide = widened(w);
  buffer = workspace(plan.w);
  memory source = wrap(plain_filter(w), wide.raw()), filter = wrap(plan.w, buffer.raw());
  plan.filter_reorder.execute(dnnl_stream(), source, filter);
  return filter;
}

// An activation in the plan's layout; `buffer` keeps a converted copy alive.
memory activation_for(const Plan& plan, const memory::desc& layout, const Tensor& t, Tensor& buffer) {
  buffer = widened(t);
  if (!plan.blocked) return wrap(layout, buffer.raw());
  Tensor blocked = workspace(layout);
  to_blocked(buffer, blocked.data<float>());
  buffer = blocked;
  return wrap(layout, buffer.raw());
}

void run_forward(Context& context, const Tensor& x, const Tensor& w, const Conv2dParams& params,
                 const Epilogue& epilogue, Tensor& y) {
  const Problem problem(x.shape(), w.shape(), y.shape(), params);
  // In NHWC oneDNN 2.6.3 adds residuals wrongly, which shapes depends on the instruction set.
  if (epilogue.residual.defined() && !use_blocked(problem)) {
    Tensor sums =
        y.dtype() == DType::f32 ? y : Tensor::empty(y.shape(), DType::f32, Device::cpu, "workspace");
    run_forward(context, x, w, params, {}, sums);
    return epilogue_apply(context, sums, epilogue, y);
  }
  const int64_t parts = parts_of(epilogue);
  Plan& plan = cached_plan<Plan>(problem.key(Kind::forward, parts),
                                 [&] { return make_plan(Kind::forward, problem, parts); });
  Tensor filter_buffer, x_buffer;
  const memory filter = filter_for(plan, w, params.packed, filter_buffer);
  const memory input = activation_for(plan, plan.x, x, x_buffer);
  Epilogue wide = epilogue;
  wide.residual = widened(epilogue.residual);
  through_f32(y, [&](Tensor& out) {
    if (plan.blocked) {
      Tensor blocked = workspace(plan.y);
      plan.primitive.execute(
          dnnl_stream(),
          {{DNNL_ARG_SRC, input}, {DNNL_ARG_WEIGHTS, filter}, {DNNL_ARG_DST, wrap(plan.y, blocked.raw())}});
      return from_blocked(blocked.data<float>(), wide, out);
    }
    std::unordered_map<int, memory> arguments{
        {DNNL_ARG_SRC, input}, {DNNL_ARG_WEIGHTS, filter}, {DNNL_ARG_DST, wrap(plan.y, out.raw())}};
    const memory::desc per_channel({1, problem.y[1], 1, 1}, kF32, Tag::nhwc);
    int place = 0;
    const auto binary = [&](const memory& m) {
      arguments.emplace(DNNL_ARG_ATTR_MULTIPLE_POST_OP(place++) | DNNL_ARG_SRC_1, m);
    };
    if (parts & kScale) {
      binary(wrap(per_channel, wide.scale.raw()));
      if (parts & kShift) binary(wrap(per_channel, wide.shift.raw()));
    } else if (parts & kShift) {
      arguments.emplace(DNNL_ARG_BIAS, wrap(plan.shift, wide.shift.raw()));
    }
    plan.primitive.execute(dnnl_stream(), arguments);
  });
}

void run_backward_input(Context&, const Tensor& dy, const Tensor& w, const Conv2dParams& params, Tensor& dx) {
  const Problem problem(dx.shape(), w.shape(), dy.shape(), params);
  Plan& plan = cached_plan<Plan>(problem.key(Kind::backward_input, 0),
                                 [&] { return make_plan(Kind::backward_input, problem, 0); });
  Tensor filter_buffer, dy_buffer;
  const memory filter = filter_for(plan, w, nullptr, filter_buffer);
  const memory gradient = activation_for(plan, plan.y, dy, dy_buffer);
  through_f32(dx, [&](Tensor& out) {
    Tensor blocked = plan.blocked ? workspace(plan.x) : out;
    plan.primitive.execute(dnnl_stream(), {{DNNL_ARG_DIFF_DST, gradient},
                                           {DNNL_ARG_WEIGHTS, filter},
                                           {DNNL_ARG_DIFF_SRC, wrap(plan.x, blocked.raw())}});
    if (plan.blocked) from_blocked(blocked.data<float>(), {}, out);
  });
}

void run_backward_weight(Context&, const Tensor& x, const Tensor& dy, const Conv2dParams& params,
                         Tensor& dw) {
  const Problem problem(x.shape(), dw.shape(), dy.shape(), params);
  Plan& plan = cached_plan<Plan>(problem.key(Kind::backward_weight, 0),
                                 [&] { return make_plan(Kind::backward_weight, problem, 0); });
  Tensor x_buffer, dy_buffer, dw_buffer = workspace(plan.w);
  const memory input = activation_for(plan, plan.x, x, x_buffer);
  const memory gradient = activation_for(plan, plan.y, dy, dy_buffer);
  memory packed = wrap(plan.w, dw_buffer.raw());
  plan.primitive.execute(
      dnnl_stream(), {{DNNL_ARG_SRC, input}, {DNNL_ARG_DIFF_DST, gradient}, {DNNL_ARG_DIFF_WEIGHTS, packed}});
  through_f32(dw, [&](Tensor& out) {
    memory target = wrap(plain_filter(out), out.raw());
    plan.filter_reorder.execute(dnnl_stream(), packed, target);
  });
}

// oneDNN is not asked about empty tensors or activations that only other variants are used with.
bool fits_forward(const Context&, const Tensor& x, const Tensor& w, const Conv2dParams&,
                  const Epilogue& epilogue, Tensor& y) {
  if (epilogue.activation != Activation::identity && epilogue.activation != Activation::relu) return false;
  return x.size() > 0 && w.size() > 0 && y.size() > 0;
}
bool fits_backward(const Context&, const Tensor& a, const Tensor& b, const Conv2dParams&, Tensor& out) {
  return a.size() > 0 && b.size() > 0 && out.size() > 0;
}

const bool registered =
    conv2d_forward.add(Device::cpu, {{"onednn", fits_forward, run_forward}}, KernelSlotBase::kVendor) &&
    conv2d_backward_input.add(Device::cpu, {{"onednn", fits_backward, run_backward_input}},
                              KernelSlotBase::kVendor) &&
    conv2d_backward_weight.add(Device::cpu, {{"onednn", fits_backward, run_backward_weight}},
                               KernelSlotBase::kVendor);

}  // namespace
}  // namespace plume::cpu
#endif  // PLUME_HAVE_ONEDNN
