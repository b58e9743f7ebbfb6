// Stochastic gradient descent over a module's parameters (see ops/sgd_step.h for the formula).
#pragma once
#include <vector>

#include "engine/modules/module.h"
#include "engine/ops/sgd_step.h"

namespace plume {

class Sgd {
 public:
  struct Options {
    float momentum = 0.9f;
    float weight_decay = 0.0f;
    bool nesterov = false;
    bool decay_norms_and_biases = true;  // PyTorch's default; false spares parameters of rank <= 1
  };
  Sgd(std::vector<NamedParameter> parameters, const Options& options);

  // One step with the gradients at hand; parameters without one are left alone.
  void step(float learning_rate);
  void zero_grad();
  // Velocities under their parameters' names, and the step counter (i64, host): what a checkpoint must keep.
  std::vector<NamedTensor> state();

 private:
  Options options_;
  std::vector<NamedParameter> parameters_;
  std::vector<SgdTensor> tensors_;
  Tensor steps_;
};

}  // namespace plume
