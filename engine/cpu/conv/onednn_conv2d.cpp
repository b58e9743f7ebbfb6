// Convolution by oneDNN in f32, on NHWC activations or on blocks of eight channels, whichever is faster for
// the shape with the conversions counted; 16-bit tensors are widened first. The filter is converted on every
// call unless the caller keeps it packed: less than 1 % of the time of a training step.
//
// The batch is cut into parts of some images, whatever the number of threads, and each part computed by
// oneDNN on one thread; the parts' filter gradients are added in order.
#include "engine/cpu/conv/onednn_conv2d.h"

#include <algorithm>

#include "engine/cpu/batch_norm.h"
#include "engine/cpu/conv/blocked_layout.h"
#include "engine/cpu/conv/onednn_plan.h"
#include "engine/cpu/conv/packed_layouts.h"
#include "engine/cpu/scratch.h"
#include "engine/ops/epilogue.h"

#if PLUME_HAVE_ONEDNN

namespace plume::cpu {
namespace {

int64_t parts_of(const Epilogue& e) {
  return (e.shift.defined() ? kShift : 0) | (e.scale.defined() ? kScale : 0);
}

Tensor workspace(const memory::desc& layout) {
  return Tensor::empty({int64_t(layout.get_size() / sizeof(float))}, DType::f32, Device::cpu, "workspace");
}

// The filter in the plan's layout: from `packed` when it is kept there, otherwise converted into `buffer`.
memory filter_for(const Plan& plan, const Tensor& w, PackedFilter* packed, Tensor& buffer) {
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

// Images first..first+count-1 make part number `index`.
struct Part {
  int64_t index, first, count;
};

// Parts of equal length, but for the last.
class Parts {
 public:
  Parts(int64_t images, int64_t most) : images_(images), length_((images + most - 1) / most) {}
  int64_t count() const { return (images_ + length_ - 1) / length_; }
  Part operator[](int64_t i) const { return {i, i * length_, std::min(length_, images_ - i * length_)}; }
  // Calls f(part) for all.
  template <class F>
  void for_each(const F& f) const {
    for_each_onednn_piece(count(), [&](int64_t i) { f((*this)[i]); });
  }

 private:
  int64_t images_, length_;
};

constexpr int64_t kMostParts = 16;

Plan& plan_for(Kind kind, Problem q, const Part& part, int64_t fused_parts) {
  q.x[0] = q.y[0] = part.count;
  return cached_plan<Plan>(q.key(kind, fused_parts), [&] { return make_plan(kind, q, fused_parts); });
}

// The plans of all parts and the filter as they want it: the last part's may differ. Made before the parts
// are shared out, so that the threads find all of it made, whichever of them helps.
class Plans {
 public:
  Plans(Kind kind, const Problem& q, const Parts& parts, int64_t fused_parts, const Tensor& w,
        PackedFilter* packed) {
    const OneDnnOnOneThread guard;
    const Part ends[] = {parts[0], parts[parts.count() - 1]};
    for (int i = 0; i < 2; ++i) {
      plans_[i] = &plan_for(kind, q, ends[i], fused_parts);
      counts_[i] = ends[i].count;
      const bool same = i == 1 && plans_[1]->w == plans_[0]->w;
      filters_[i] = same ? filters_[0] : filter_for(*plans_[i], w, packed, buffers_[i]);
    }
  }
  const Plan& plan(const Part& part) const { return *plans_[part.count != counts_[0]]; }
  const memory& filter(const Part& part) const { return filters_[part.count != counts_[0]]; }

 private:
  const Plan* plans_[2];
  int64_t counts_[2];
  Tensor buffers_[2];
  memory filters_[2];
};

// On this thread.
void execute(const Plan& plan, std::unordered_map<int, memory> arguments) {
  Tensor scratchpad;
  if (const auto bytes = int64_t(plan.scratchpad.get_size())) {
    scratchpad = Tensor::empty({bytes}, DType::u8, Device::cpu, "workspace");
    arguments.emplace(DNNL_ARG_SCRATCHPAD, wrap(plan.scratchpad, scratchpad.raw()));
  }
  plan.primitive.execute(dnnl_stream(), arguments);
}

// A batch of activations as oneDNN reads it: widened, and in blocks of channels where those are used.
Tensor activations_for(bool blocked, const Tensor& t) {
  const Tensor wide = widened(t);
  if (!blocked) return wide;
  Tensor buffer = Tensor::empty(t.shape(), DType::f32, Device::cpu, "workspace");
  to_blocked(wide, buffer.data<float>());
  return buffer;
}

// The part's images in `batch`.
memory images_of(const memory::desc& layout, const Tensor& batch, const Part& part) {
  return wrap(layout, batch.data<float>() + part.first * (batch.size() / batch.dim(0)));
}

// The same, normalised on the way where there is a norm: into memory that stays with the thread.
memory inputs_of(const memory::desc& layout, const Tensor& batch, const Normaliser* norm, const Part& part) {
  if (!norm) return images_of(layout, batch, part);
  static thread_local Scratch<float> normalised;
  const int64_t image = batch.size() / batch.dim(0), rows = part.count * image / batch.dim(3);
  float* const to = normalised.get(part.count * image);
  (*norm)(batch.data<float>() + part.first * image, rows, to);
  return wrap(layout, to);
}

// In place of oneDNN's own, which makes NaN 0.
void relu_images(Tensor& batch, const Part& part) {
  const int64_t image = batch.size() / batch.dim(0);
  float* values = batch.data<float>() + part.first * image;
  PLUME_SIMD
  for (int64_t i = 0; i < part.count * image; ++i) values[i] = activate(Activation::relu, values[i]);
}

void forward(const Tensor& x, const Normaliser* norm, const Tensor& w, const Conv2dParams& params,
             const Epilogue& epilogue, Tensor& y) {
  const Problem problem(x.shape(), w.shape(), y.shape(), params);
  const bool blocked = use_blocked(problem);
  const int64_t fused_parts = parts_of(epilogue);
  const Parts parts(x.dim(0), kMostParts);
  const Plans plans(Kind::forward, problem, parts, fused_parts, w, params.packed);
  const Tensor input = activations_for(blocked, x);
  Epilogue wide = epilogue;
  wide.residual = widened(epilogue.residual);
  const memory::desc per_channel({1, problem.y[1], 1, 1}, kF32, Tag::nhwc);
  through_f32(y, [&](Tensor& out) {
    Tensor result = blocked ? Tensor::empty(out.shape(), DType::f32, Device::cpu, "workspace") : out;
    parts.for_each([&](const Part& part) {
      const Plan& plan = plans.plan(part);
      std::unordered_map<int, memory> arguments{{DNNL_ARG_SRC, inputs_of(plan.x, input, norm, part)},
                                                {DNNL_ARG_WEIGHTS, plans.filter(part)},
                                                {DNNL_ARG_DST, images_of(plan.y, result, part)}};
      int place = 0;
      const auto binary = [&](const memory& m) {
        arguments.emplace(DNNL_ARG_ATTR_MULTIPLE_POST_OP(place++) | DNNL_ARG_SRC_1, m);
      };
      if (!blocked && fused_parts & kScale) {
        binary(wrap(per_channel, wide.scale.raw()));
        if (fused_parts & kShift) binary(wrap(per_channel, wide.shift.raw()));
      } else if (!blocked && fused_parts & kShift) {
        arguments.emplace(DNNL_ARG_BIAS, wrap(plan.shift, wide.shift.raw()));
      }
      execute(plan, std::move(arguments));
      if (!blocked && epilogue.activation == Activation::relu) relu_images(result, part);
    });
    if (blocked) from_blocked(result.data<float>(), wide, out);
  });
}

void run_forward(Context& context, const Tensor& x, const Tensor& w, const Conv2dParams& params,
                 const Epilogue& epilogue, Tensor& y) {
  // In NHWC oneDNN 2.6.3 adds residuals wrongly, which shapes depends on the instruction set.
  if (epilogue.residual.defined() && !use_blocked(Problem(x.shape(), w.shape(), y.shape(), params))) {
    Tensor sums =
        y.dtype() == DType::f32 ? y : Tensor::empty(y.shape(), DType::f32, Device::cpu, "workspace");
    forward(x, nullptr, w, params, {}, sums);
    return epilogue_apply(context, sums, epilogue, y);
  }
  forward(x, nullptr, w, params, epilogue, y);
}

void run_backward_input(Context&, const Tensor& dy, const Tensor& w, const Conv2dParams& params, Tensor& dx) {
  const Problem problem(dx.shape(), w.shape(), dy.shape(), params);
  const bool blocked = use_blocked(problem);
  const Parts parts(dy.dim(0), kMostParts);
  const Plans plans(Kind::backward_input, problem, parts, 0, w, nullptr);
  const Tensor gradient = activations_for(blocked, dy);
  through_f32(dx, [&](Tensor& out) {
    Tensor result = blocked ? Tensor::empty(out.shape(), DType::f32, Device::cpu, "workspace") : out;
    parts.for_each([&](const Part& part) {
      const Plan& plan = plans.plan(part);
      execute(plan, {{DNNL_ARG_DIFF_DST, images_of(plan.y, gradient, part)},
                     {DNNL_ARG_WEIGHTS, plans.filter(part)},
                     {DNNL_ARG_DIFF_SRC, images_of(plan.x, result, part)}});
    });
    if (blocked) from_blocked(result.data<float>(), {}, out);
  });
}

// Each part's gradient is as large as the filter: with many parts adding them up would cost more than it
// brings.
constexpr int64_t kMostWeightParts = 4;

void backward_weight(const Tensor& x, const Normaliser* norm, const Tensor& dy, const Conv2dParams& params,
                     Tensor& dw) {
  const Problem problem(x.shape(), dw.shape(), dy.shape(), params);
  const bool blocked = use_blocked(problem);
  // Parts of one length: their gradients must lie in one layout to be added.
  int64_t most = std::min(kMostWeightParts, x.dim(0));
  while (x.dim(0) % most != 0) --most;
  const Parts parts(x.dim(0), most);
  const OneDnnOnOneThread guard;
  const Plan& plan = plan_for(Kind::backward_weight, problem, parts[0], 0);
  const int64_t size = int64_t(plan.w.get_size() / sizeof(float));
  Tensor sums = Tensor::empty({parts.count() * size}, DType::f32, Device::cpu, "workspace");
  const Tensor input = activations_for(blocked, x), gradient = activations_for(blocked, dy);
  parts.for_each([&](const Part& part) {
    execute(plan, {{DNNL_ARG_SRC, inputs_of(plan.x, input, norm, part)},
                   {DNNL_ARG_DIFF_DST, images_of(plan.y, gradient, part)},
                   {DNNL_ARG_DIFF_WEIGHTS, wrap(plan.w, sums.data<float>() + part.index * size)}});
  });
  float* sum = sums.data<float>();
  if (parts.count() > 1)
    parallel_for(size, kElementGrain / 4, [=](int64_t begin, int64_t end) {
      for (int64_t part = 1; part < parts.count(); ++part) {
        const float* more = sum + part * size;
        PLUME_SIMD
        for (int64_t i = begin; i < end; ++i) sum[i] += more[i];
      }
    });
  through_f32(dw, [&](Tensor& out) {
    memory packed = wrap(plan.w, sum), target = wrap(plain_filter(out), out.raw());
    plan.filter_reorder.execute(dnnl_stream(), packed, target);
  });
}

void run_backward_weight(Context&, const Tensor& x, const Tensor& dy, const Conv2dParams& params,
                         Tensor& dw) {
  backward_weight(x, nullptr, dy, params, dw);
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

bool fits_normalised_conv2d(const Tensor& x, const Shape& w, const Conv2dParams& params) {
  const Shape y = conv2d_shape(x.shape(), w, params);
  return x.dtype() == DType::f32 && y.elements() > 0 && x.size() > 0 && y[1] * y[2] > kLargestPositionPlane &&
         !use_blocked(Problem(x.shape(), w, y, params));
}

void normalised_conv2d(const Tensor& x, const Normaliser& norm, const Tensor& w, const Conv2dParams& params,
                       Tensor& y) {
  forward(x, &norm, w, params, {}, y);
}

void normalised_conv2d_backward_weight(const Tensor& x, const Normaliser& norm, const Tensor& dy,
                                       const Conv2dParams& params, Tensor& dw) {
  backward_weight(x, &norm, dy, params, dw);
}

}  // namespace plume::cpu
#endif  // PLUME_HAVE_ONEDNN
