// Stochastic gradient descent, with momentum by default: a short name for one of the optimisers.
#pragma once
#include "engine/optim/optimizer.h"

namespace plume {

class Sgd : public Optimizer {
 public:
  struct Options {
    float momentum = 0.9f;
    float weight_decay = 0.0f;
    bool nesterov = false;
    bool decay_norms_and_biases = true;  // see OptimizerOptions
  };
  Sgd(std::vector<NamedParameter> parameters, const Options& o)
      : Optimizer(std::move(parameters), {.momentum = double(o.momentum),
                                          .nesterov = o.nesterov,
                                          .weight_decay = double(o.weight_decay),
                                          .decay_norms_and_biases = o.decay_norms_and_biases}) {}
};

}  // namespace plume
