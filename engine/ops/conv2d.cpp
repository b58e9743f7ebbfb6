#include "engine/ops/conv2d.h"

#include "engine/autograd/tape.h"
#include "engine/ops/cast.h"
#include "engine/ops/relu_bias.h"
#include "engine/ops/separate.h"
#include "engine/ops/sum_rows.h"
#include "engine/profiler/cost.h"

namespace plume {

namespace {

CallCost cost(const Shape& x, const Shape& w, const Conv2dParams& p) {
  return {w[1] * w[2] == 1 ? CallClass::pointwise : CallClass::dense, double(conv2d_macs(x, w, p))};
}
CallCost forward_cost(const Tensor& x, const Tensor& w, const Conv2dParams& p, const Epilogue&,
                      const Tensor&) {
  return cost(x.shape(), w.shape(), p);
}
CallCost backward_input_cost(const Tensor&, const Tensor& w, const Conv2dParams& p, const Tensor& dx) {
  return cost(dx.shape(), w.shape(), p);
}
CallCost backward_weight_cost(const Tensor& x, const Tensor&, const Conv2dParams& p, const Tensor& dw) {
  return cost(x.shape(), dw.shape(), p);
}
CallCost backward_cost(const Tensor& x, const Tensor& w, const Tensor&, const Conv2dParams& p, const Tensor&,
                       const Tensor&) {
  return {CallClass::fused, 2 * double(conv2d_macs(x.shape(), w.shape(), p))};
}

}  // namespace

constinit KernelSlot<Conv2dForward> conv2d_forward{"conv2d.forward", forward_cost};
constinit KernelSlot<Conv2dBackwardInput> conv2d_backward_input{"conv2d.backward_input", backward_input_cost};
constinit KernelSlot<Conv2dBackwardWeight> conv2d_backward_weight{"conv2d.backward_weight",
                                                                  backward_weight_cost};
constinit KernelSlot<Conv2dBackward> conv2d_backward{"conv2d.backward", backward_cost};

namespace {

void run_separate(Context& context, const Tensor& x, const Tensor& w, const Tensor& dy, const Conv2dParams& p,
                  Tensor& dx, Tensor& dw) {
  conv2d_backward_input(context, dy, w, p, dx);
  conv2d_backward_weight(context, x, dy, p, dw);
}

const bool registered = add_separate(conv2d_backward, run_separate);

}  // namespace

Shape conv2d_shape(const Shape& x, const Shape& w, const Conv2dParams& p) {
  PLUME_CHECK(x.rank() == 4 && w.rank() == 4, "conv2d: input {} and weight {} must have rank 4", x, w);
  PLUME_CHECK(x[3] == w[3], "conv2d: weight {} has {} channels, input {} has {}", w, w[3], x, x[3]);
  PLUME_CHECK(p.stride > 0 && p.dilation > 0 && p.padding >= 0, "conv2d: stride {}, dilation {}, padding {}",
              p.stride, p.dilation, p.padding);
  const auto extent = [&](int64_t in, int64_t filter) {
    const int64_t span = in + 2 * p.padding - p.dilation * (filter - 1) - 1;
    PLUME_CHECK(span >= 0, "conv2d: filter {} does not fit into input {} with padding {}", w, x, p.padding);
    return span / p.stride + 1;
  };
  return {x[0], extent(x[1], w[1]), extent(x[2], w[2]), w[0]};
}

int64_t conv2d_macs(const Shape& x, const Shape& w, const Conv2dParams& p) {
  return conv2d_shape(x, w, p).elements() * w[1] * w[2] * w[3];
}

Tensor conv2d_fused(const Tensor& x, const Tensor& w, const Conv2dParams& p, const Epilogue& epilogue) {
  Tensor y = empty(conv2d_shape(x.shape(), w.shape(), p), x);
  const bool pointwise = w.dim(1) == 1 && w.dim(2) == 1;
  count_macs(pointwise ? Work::pointwise : Work::dense, conv2d_macs(x.shape(), w.shape(), p));
  conv2d_forward(context(x.device()), x, w, p, epilogue, y);
  return y;
}

Variable conv2d(const Variable& x, const Variable& w, const Variable& bias, const Conv2dParams& p,
                Activation activation) {
  PLUME_CHECK(activation == Activation::identity || (activation == Activation::relu && bias.defined()),
              "conv2d: {} behind it is not relu behind a bias", name(activation));
  Epilogue epilogue;
  if (bias.defined()) epilogue.shift = bias.value();
  epilogue.activation = activation;
  const Tensor filter = value_in(w, x.dtype());
  Tensor y = conv2d_fused(x.value(), filter, p, epilogue);
  const DType type = w.dtype();
  if (activation == Activation::identity)
    return record("conv2d", y, {x, w, bias}, [x, filter, type, p](const Tensor& dy, Gradients& g) {
      conv2d_gradients(g, dy, x, filter, type, p, 1);
      add_bias_gradient(g, 2, dy);
    });
  return record_joining("conv2d", y, {x, w, bias},
                        [x, y, filter, type, p](const Tensor& dy, const Tensor& more, Gradients& g) {
                          Tensor dz = empty_like(y), none;
                          Tensor db = Tensor::empty({y.dim(3)}, DType::f32, y.device());
                          relu_bias_backward(x.context(), y, dy, more, dz, db, none, none);
                          conv2d_gradients(g, dz, x, filter, type, p, 1);
                          g.add(2, db);
                        });
}

bool conv2d_backward_in_one(Context& context, const Tensor& x, const Tensor& w, const Tensor& dy,
                            const Conv2dParams& p, Tensor& dx, Tensor& dw) {
  const char* variant = conv2d_backward.choose(context, x, w, dy, p, dx, dw);
  if (!is_joint(variant)) return false;
  conv2d_backward(context, x, w, dy, p, dx, dw);
  return true;
}

void conv2d_gradients(Gradients& g, const Tensor& dy, const Variable& x, const Tensor& w, DType dw_type,
                      const Conv2dParams& p, int w_place) {
  Context& context = x.context();
  Tensor dx, dw;
  if (g.wants(0)) dx = empty_like(x.value());
  if (g.wants(w_place)) dw = Tensor::empty(w.shape(), dw_type, w.device());
  if (!dx.defined() || !dw.defined() || !conv2d_backward_in_one(context, x.value(), w, dy, p, dx, dw)) {
    if (dx.defined()) conv2d_backward_input(context, dy, w, p, dx);
    if (dw.defined()) conv2d_backward_weight(context, x.value(), dy, p, dw);
  }
  if (dx.defined()) g.add(0, dx);
  if (dw.defined()) g.add(w_place, dw);
}

}  // namespace plume
