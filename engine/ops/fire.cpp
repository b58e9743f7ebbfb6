#include "engine/ops/fire.h"

#include "engine/autograd/tape.h"
#include "engine/ops/cast.h"
#include "engine/ops/concat.h"
#include "engine/ops/relu_bias.h"
#include "engine/ops/separate.h"
#include "engine/profiler/cost.h"

namespace plume {

namespace {

CallCost fire_expand_cost(const Tensor& x, const Tensor& w1, const Tensor&, const Tensor& w3, const Tensor&,
                          PackedFilter* const&, PackedFilter* const&, const Tensor&) {
  return {CallClass::fused, double(conv2d_macs(x.shape(), w1.shape(), {}) +
                                   conv2d_macs(x.shape(), w3.shape(), {.padding = 1}))};
}

}  // namespace

constinit KernelSlot<FireExpandForward> fire_expand_forward{"fire_expand.forward", fire_expand_cost};

namespace {

const Conv2dParams kOne{}, kThree{.padding = 1};

Conv2dParams with(Conv2dParams params, PackedFilter* packed) {
  params.packed = packed;
  return params;
}

// On any device, for what no other variant takes: two convolutions, then a concatenation.
void run_separate(Context& context, const Tensor& x, const Tensor& w1, const Tensor& b1, const Tensor& w3,
                  const Tensor& b3, PackedFilter* packed1, PackedFilter* packed3, Tensor& y) {
  Tensor one = empty(y.shape().with(-1, w1.dim(0)), x), three = empty(y.shape().with(-1, w3.dim(0)), x);
  const auto relu_after = [](const Tensor& bias) {
    return Epilogue{.shift = bias, .activation = Activation::relu};
  };
  conv2d_forward(context, x, w1, with(kOne, packed1), relu_after(b1), one);
  conv2d_forward(context, x, w3, with(kThree, packed3), relu_after(b3), three);
  concat_forward(context, one, three, y);
}

const bool registered = add_separate(fire_expand_forward, run_separate);

}  // namespace

Variable fire_expand(const Variable& x, const Variable& w1, const Variable& b1, const Variable& w3,
                     const Variable& b3, PackedFilter* packed1, PackedFilter* packed3) {
  const Shape one = conv2d_shape(x.shape(), w1.shape(), kOne),
              three = conv2d_shape(x.shape(), w3.shape(), kThree);
  PLUME_CHECK(one.with(-1, 0) == three.with(-1, 0), "fire_expand: filters {} and {} must be 1x1 and 3x3",
              w1.shape(), w3.shape());
  Tensor y = empty(one.with(-1, one[3] + three[3]), x.value());
  count_macs(Work::pointwise, conv2d_macs(x.shape(), w1.shape(), kOne));
  count_macs(Work::dense, conv2d_macs(x.shape(), w3.shape(), kThree));
  const Tensor filter1 = value_in(w1, x.dtype()), filter3 = value_in(w3, x.dtype());
  fire_expand_forward(x.context(), x.value(), filter1, b1.value(), filter3, b3.value(), packed1, packed3, y);
  if (packed1 || packed3) return Variable(y);
  return record_joining("fire_expand", y, {x, w1, b1, w3, b3},
                        [=](const Tensor& dy, const Tensor& more, Gradients& g) {
                          Tensor dz1 = empty(one, y), dz3 = empty(three, y);
                          Tensor db1 = empty_like(b1.value()), db3 = empty_like(b3.value());
                          relu_bias_backward(x.context(), y, dy, more, dz1, db1, dz3, db3);
                          conv2d_gradients(g, dz1, x, filter1, w1.dtype(), kOne, 1);
                          conv2d_gradients(g, dz3, x, filter3, w3.dtype(), kThree, 3);
                          g.add(2, db1);
                          g.add(4, db3);
                        });
}

}  // namespace plume
