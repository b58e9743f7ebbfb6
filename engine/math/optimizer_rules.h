// What optimisers do to one value, for loops and kernels, and the numbers that steer a step. All f32.
#pragma once
#include <cfloat>
#include <cmath>

#include "engine/core/half.h"
#include "engine/core/tensor.h"

namespace plume {

// The numbers of one step, and what is counted over the steps. They lie in device memory (f32
// [kStepNumbers]), where step_begin (ops/step_begin.h) computes them: a recorded step that is replayed reads
// them anew, and whether a step is skipped is decided without asking the host.
struct StepControl {
  float learning_rate = 0;
  float gradient_factor = 1;       // of every gradient: 1 / (loss_scale * passes), and clipping by norm
  float gradient_limit = FLT_MAX;  // then its magnitude is cut here
  float first_correction = 1;      // Adam: 1 / (1 - beta1^steps)
  float second_correction = 1;     // Adam: 1 / sqrt(1 - beta2^steps)
  float gradient_norm = 0;         // unscaled, before clipping; 0 when nothing asks for it
  float skip = 0;                  // 1: the step leaves everything as it is
  float steps = 0;                 // taken, without those skipped
  float loss_scale = 1;
  float steps_at_scale = 0;  // since the scale or a skip
  float skipped = 0, skipped_in_a_row = 0;

  // What a step makes of a gradient. A NaN stays one.
  PLUME_HD float gradient(float g) const {
    const float scaled = g * gradient_factor;
    return scaled > gradient_limit ? gradient_limit : scaled < -gradient_limit ? -gradient_limit : scaled;
  }
};
inline constexpr int kStepNumbers = sizeof(StepControl) / sizeof(float);

// Memory of the tensor's device.
inline StepControl* control_of(Tensor& control) {
  PLUME_CHECK(control.size() == kStepNumbers, "optimizer: the control is {}", to_string(control));
  return reinterpret_cast<StepControl*>(control.data<float>());
}
inline const StepControl* control_of(const Tensor& control) {
  Tensor handle = control;
  return control_of(handle);
}

// How the scale of the loss follows the gradients of 16-bit floats, as PyTorch's GradScaler: a step with a
// gradient that is not finite is skipped and shrinks it, `interval` steps without one let it grow.
struct LossScaling {
  bool enabled = false;
  float initial = 65536, growth = 2, backoff = 0.5f;
  int interval = 2000;
};

// What all optimisers do before a step.
struct StepRules {
  double beta1 = 0, beta2 = 0;                // of Adam's corrections
  float largest_norm = 0, largest_value = 0;  // clipping; 0: none
  LossScaling scaling = {};
};

// Begins a step: `norm` is that of the gradients as they are (0 when nothing asks for it), `passes` how many
// backward passes they were added up over. Clipping by norm: torch.nn.utils.clip_grad_norm_.
PLUME_HD inline void begin_step(StepControl& c, float learning_rate, float passes, float norm,
                                const StepRules& rules) {
  const float unscale = 1.0f / (c.loss_scale * passes);
  c.learning_rate = learning_rate;
  c.gradient_norm = norm * unscale;
  c.gradient_factor = unscale;
  if (rules.largest_norm > 0) {
    const float coefficient = rules.largest_norm / (c.gradient_norm + 1e-6f);
    if (!(coefficient > 1.0f)) c.gradient_factor *= coefficient;  // NaN too
  }
  c.gradient_limit = rules.largest_value > 0 ? rules.largest_value : FLT_MAX;
  const bool finite = norm <= FLT_MAX;  // not for NaN
  c.skip = rules.scaling.enabled && !finite ? 1.0f : 0.0f;
  if (c.skip != 0) {
    c.skipped += 1;
    c.skipped_in_a_row += 1;
    c.steps_at_scale = 0;
    c.loss_scale *= rules.scaling.backoff;
    return;
  }
  c.steps += 1;
  c.skipped_in_a_row = 0;
  c.first_correction = float(1.0 / (1.0 - pow(rules.beta1, double(c.steps))));
  c.second_correction = float(1.0 / sqrt(1.0 - pow(rules.beta2, double(c.steps))));
  if (!rules.scaling.enabled) return;
  c.steps_at_scale += 1;
  if (c.steps_at_scale < float(rules.scaling.interval)) return;
  c.steps_at_scale = 0;
  if (c.loss_scale * rules.scaling.growth <= FLT_MAX) c.loss_scale *= rules.scaling.growth;
}

struct SgdParams {
  double momentum = 0;
  bool nesterov = false;
};
struct AdamParams {
  double beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8;
  bool decoupled = false;  // AdamW: decay shrinks the parameter instead of joining the gradient
};
struct RmspropParams {
  double alpha = 0.99, epsilon = 1e-8, momentum = 0;
  bool tensorflow = false;  // epsilon inside the root, learning rate inside the momentum
};

// rule(parameter, gradient, first, second): first and second are what the optimiser keeps of the parameter.

//   g <- gradient + weight_decay * parameter
//   v <- momentum * v + g                        (v starts at 0)
//   parameter <- parameter - learning_rate * (nesterov ? g + momentum * v : v)
// torch.optim.SGD without dampening; first is v.
struct SgdRule {
  float rate, decay, momentum, of_gradient, of_velocity;

  // Without a velocity v is g.
  PLUME_HD SgdRule(const SgdParams& p, float learning_rate, float weight_decay, const StepControl&)
      : rate(learning_rate),
        decay(weight_decay),
        momentum(float(p.momentum)),
        of_gradient(p.nesterov ? 1.0f : 0.0f),
        of_velocity(p.nesterov ? float(p.momentum) : 1.0f) {}

  PLUME_HD void operator()(float& parameter, float gradient, float& velocity, float&) const {
    const float g = gradient + decay * parameter;
    velocity = momentum * velocity + g;
    parameter -= rate * (of_gradient * g + of_velocity * velocity);
  }
};

//   g <- gradient + weight_decay * parameter, or (AdamW)
//   parameter <- (1 - learning_rate weight_decay) parameter
//   m <- beta1 m + (1 - beta1) g,  v <- beta2 v + (1 - beta2) g^2                       (both start at 0)
//   parameter <- parameter - learning_rate m / (1 - beta1^t) / (sqrt(v / (1 - beta2^t)) + epsilon)
// torch.optim.Adam and AdamW (Kingma and Ba, arXiv:1412.6980; Loshchilov and Hutter, arXiv:1711.05101); first
// is m, second v.
struct AdamRule {
  float rate, joined_decay, shrink, beta1, rest1, beta2, rest2, correction, epsilon;

  PLUME_HD AdamRule(const AdamParams& p, float learning_rate, float weight_decay, const StepControl& c)
      : rate(learning_rate * c.first_correction),
        joined_decay(p.decoupled ? 0.0f : weight_decay),
        shrink(p.decoupled ? 1.0f - learning_rate * weight_decay : 1.0f),
        beta1(float(p.beta1)),
        rest1(float(1.0 - p.beta1)),
        beta2(float(p.beta2)),
        rest2(float(1.0 - p.beta2)),
        correction(c.second_correction),
        epsilon(float(p.epsilon)) {}

  PLUME_HD void operator()(float& parameter, float gradient, float& mean, float& square) const {
    const float shrunk = shrink * parameter;
    const float g = gradient + joined_decay * shrunk;
    mean = beta1 * mean + rest1 * g;
    square = beta2 * square + rest2 * (g * g);
    parameter = shrunk - rate * mean / (sqrtf(square) * correction + epsilon);
  }
};

//   g <- gradient + weight_decay * parameter
//   s <- alpha s + (1 - alpha) g^2
//   PyTorch:     u <- momentum u + g / (sqrt(s) + epsilon),              parameter -= learning_rate u
//   TensorFlow:  u <- momentum u + learning_rate g / sqrt(s + epsilon),  parameter -= u
// torch.optim.RMSprop (s starts at 0) and timm's RMSpropTF (s starts at 1); first is u, second s.
struct RmspropRule {
  float decay, alpha, rest, outside, inside, momentum, of_quotient, of_update;

  PLUME_HD RmspropRule(const RmspropParams& p, float learning_rate, float weight_decay, const StepControl&)
      : decay(weight_decay),
        alpha(float(p.alpha)),
        rest(float(1.0 - p.alpha)),
        outside(p.tensorflow ? 0.0f : float(p.epsilon)),
        inside(p.tensorflow ? float(p.epsilon) : 0.0f),
        momentum(float(p.momentum)),
        of_quotient(p.tensorflow ? learning_rate : 1.0f),
        of_update(p.tensorflow ? 1.0f : learning_rate) {}

  PLUME_HD void operator()(float& parameter, float gradient, float& update, float& square) const {
    const float g = gradient + decay * parameter;
    square = alpha * square + rest * (g * g);
    update = momentum * update + of_quotient * g / (sqrtf(square + inside) + outside);
    parameter -= of_update * update;
  }
};

}  // namespace plume
