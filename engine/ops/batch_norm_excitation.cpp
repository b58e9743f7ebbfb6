#include "engine/ops/batch_norm_excitation.h"

#include "engine/autograd/tape.h"
#include "engine/ops/cast.h"
#include "engine/ops/depthwise_pool.h"
#include "engine/ops/global_avg_pool.h"
#include "engine/ops/separate.h"
#include "engine/profiler/cost.h"

namespace plume {

namespace {

CallCost backward_cost(const Tensor& x, const Tensor&, const KnownNorm&, const Tensor& w1, const Tensor&,
                       const SqueezeExcitationKept&, const SqueezeExcitationParams&, const Tensor&,
                       const Tensor&, const Tensor&, const Tensor&, const Tensor&, const Tensor&,
                       const Tensor&) {
  return {CallClass::fused, 4.0 * double(x.dim(0) * w1.size())};
}

}  // namespace

constinit KernelSlot<BatchNormPool> batch_norm_pool_forward{"batch_norm_pool.forward",
                                                            costs<CallClass::batch_norm>};
constinit KernelSlot<BatchNormExcitationBackward> batch_norm_excitation_backward{
    "batch_norm_excitation.backward", backward_cost};

namespace {

void run_separate(Context& context, const Tensor& x, const Tensor& gamma, const Tensor& beta,
                  const BatchNormParams& params, Tensor& y, Tensor& mean, Tensor& inv_std,
                  Tensor& running_mean, Tensor& running_var, Tensor& pooled) {
  batch_norm_forward_train(context, x, gamma, beta, {}, params, {}, y, mean, inv_std, running_mean,
                           running_var);
  Tensor means = pooled.reshape({x.dim(0), x.dim(3)});
  global_avg_pool_forward(context, y, means);
}

void run_separate_backward(Context& context, const Tensor& x, const Tensor& dv, const KnownNorm& norm,
                           const Tensor& w1, const Tensor& w2, const SqueezeExcitationKept& kept,
                           const SqueezeExcitationParams& params, Tensor& dx, Tensor& dgamma, Tensor& dbeta,
                           Tensor& dw1, Tensor& db1, Tensor& dw2, Tensor& db2) {
  Tensor u = empty_like(x), du = empty_like(x), none;
  batch_norm_normalise(context, x, norm, u);
  squeeze_excitation_backward(context, u, dv, w1, w2, kept.pooled, kept.z1, kept.z2, params, du, dw1, db1,
                              dw2, db2);
  batch_norm_backward(context, x, {}, du, {}, norm.gamma, norm.beta, norm.mean, norm.inv_std,
                      {norm.activation, false}, {}, dx, none, dgamma, dbeta);
}

const bool registered = add_separate(batch_norm_pool_forward, run_separate) &&
                        add_separate(batch_norm_excitation_backward, run_separate_backward);

Tensor as_matrix(const Tensor& w) { return w.reshape({w.dim(0), w.size() / w.dim(0)}); }

}  // namespace

bool fuses_batch_norm_excitation(const Variable& x, const Variable& weight) {
  Tensor none;
  const bool in_chunks = weight.value().rank() == 4 && weight.dim(1) == 1 && weight.dim(2) == 1 &&
                         weight.dim(0) % 8 == 0 && x.dtype() != DType::f32;
  return in_chunks && is_joint(batch_norm_pool_forward.choose(x.context(), x.value(), none, none, {}, none,
                                                              none, none, none, none, none));
}

Variable batch_norm_excitation_conv_train(const Variable& x, const Variable& gamma, const Variable& beta,
                                          Tensor& running_mean, Tensor& running_var,
                                          const BatchNormParams& norm, const ExcitationWeights& excitation,
                                          const SqueezeExcitationParams& params, const Variable& weight) {
  check_batch_norm_train(x, gamma, beta, {}, norm.activation, {});
  const auto& [w1, b1, w2, b2] = excitation;
  const int64_t images = x.dim(0), channels = x.dim(3), hidden = w1.dim(0);
  PLUME_CHECK(w1.value().size() == hidden * channels && w2.dim(0) == channels &&
                  w2.value().size() == hidden * channels && weight.dim(1) == 1 && weight.dim(2) == 1,
              "batch_norm_excitation: input {} does not fit weights {} and {}, or filter {}", x.shape(),
              w1.shape(), w2.shape(), weight.shape());
  Context& context = x.context();
  const DType type = x.dtype();
  const Tensor filter = value_in(weight, type);
  Tensor y = empty(conv2d_shape(x.shape(), weight.shape(), {}), x.value());
  Tensor u = empty_like(x.value()), pooled = plane_means(u, 1);
  Tensor mean = empty_like(gamma.value()), inv_std = empty_like(gamma.value());
  Tensor gate = Tensor::empty({images, channels}, DType::f32, x.device());
  SqueezeExcitationKept kept{empty_like(gate), Tensor::empty({images, hidden}, DType::f32, x.device()),
                             empty_like(gate)};
  count_macs(Work::squeeze_excitation, images * 2 * hidden * channels);
  count_macs(Work::pointwise, conv2d_macs(x.shape(), weight.shape(), {}));
  batch_norm_pool_forward(context, x.value(), gamma.value(), beta.value(), norm, u, mean, inv_std,
                          running_mean, running_var, pooled);
  squeeze_gate_forward(context, pooled, as_matrix(value_in(w1, type)), b1.value(),
                       as_matrix(value_in(w2, type)), b2.value(), params, gate, kept);
  gated_pointwise_forward(context, u, gate, filter, nullptr, {}, y);
  const auto rule = [=, &context, activation = norm.activation](const Tensor& dy, Gradients& g) {
    if (g.wants(7)) {
      Tensor dw = Tensor::empty(filter.shape(), weight.dtype(), filter.device());
      gated_pointwise_backward_weight(context, u, gate, dy, dw);
      g.add(7, dw);
    }
    Tensor dv = empty_like(u), dx = empty_like(u);
    conv2d_backward_input(context, dy, filter, {}, dv);
    const Tensor matrix1 = as_matrix(w1.value()), matrix2 = as_matrix(w2.value());
    Tensor dgamma = empty_like(gamma.value()), dbeta = empty_like(beta.value());
    Tensor dw1 = empty_like(matrix1), dw2 = empty_like(matrix2);
    Tensor db1 = empty_like(b1.value()), db2 = empty_like(b2.value());
    batch_norm_excitation_backward(context, x.value(), dv,
                                   {gamma.value(), beta.value(), mean, inv_std, activation}, matrix1, matrix2,
                                   kept, params, dx, dgamma, dbeta, dw1, db1, dw2, db2);
    g.add(0, dx);
    g.add(1, dgamma);
    g.add(2, dbeta);
    g.add(3, dw1.reshape(w1.shape()));
    g.add(4, db1);
    g.add(5, dw2.reshape(w2.shape()));
    g.add(6, db2);
  };
  return record("batch_norm_excitation", y, {x, gamma, beta, w1, b1, w2, b2, weight}, rule);
}

}  // namespace plume
