// Naive references of the optimisers' steps, in double precision.
#pragma once
#include "engine/ops/optimizer_step.h"
#include "tests/support/array.h"

namespace plume::test::reference {

// A constant that is rounded to float.
inline Real rounded_once(double v) { return {v, std::fabs(v)}; }

// What a step makes of a gradient.
inline Real transformed(const StepControl& c, Real g) {
  const Real scaled = g * double(c.gradient_factor);
  if (std::fabs(scaled.value) <= double(c.gradient_limit)) return scaled;
  return {std::copysign(double(c.gradient_limit), scaled.value), scaled.error};
}

inline void sgd_step(const SgdParams& p, double rate, double weight_decay, Real g, Real& parameter,
                     Real* velocity) {
  g = g + weight_decay * parameter;
  Real step = g;
  if (velocity) {
    *velocity = rounded_once(p.momentum) * *velocity + g;
    step = p.nesterov ? g + rounded_once(p.momentum) * *velocity : *velocity;
  }
  parameter = parameter - rate * step;
}

inline void adam_step(const AdamParams& p, const StepControl& c, double rate, double weight_decay, Real g,
                      Real& parameter, Real& mean, Real& square) {
  if (p.decoupled)
    parameter = (1.0 - Real(rate) * weight_decay) * parameter;
  else
    g = g + weight_decay * parameter;
  mean = rounded_once(p.beta1) * mean + rounded_once(1 - p.beta1) * g;
  square = rounded_once(p.beta2) * square + rounded_once(1 - p.beta2) * g * g;
  const Real root = sqrt(square) * double(c.second_correction) + rounded_once(p.epsilon);
  parameter = parameter - Real(rate) * double(c.first_correction) * mean / root;
}

inline void rmsprop_step(const RmspropParams& p, double rate, double weight_decay, Real g, Real& parameter,
                         Real* update, Real& square) {
  g = g + weight_decay * parameter;
  square = rounded_once(p.alpha) * square + rounded_once(1 - p.alpha) * g * g;
  const Real epsilon = rounded_once(p.epsilon);
  const Real root = p.tensorflow ? sqrt(square + epsilon) : sqrt(square) + epsilon;
  Real step = (p.tensorflow ? rate * g : g) / root;
  if (update) step = *update = rounded_once(p.momentum) * *update + step;
  parameter = parameter - (p.tensorflow ? step : rate * step);
}

}  // namespace plume::test::reference
