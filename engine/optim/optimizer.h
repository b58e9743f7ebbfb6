// Optimisers over a module's parameters: SGD, Adam, AdamW, RMSprop (formulas: engine/math/optimizer_rules.h).
//
//   Optimizer optimizer(net.parameters(), default_options("adamw"));
//   optimizer.zero_grad();
//   backward(loss, optimizer.loss_scale());
//   optimizer.step(1e-3f);
//
// A step is prepare(), which hands the device what changes from step to step, and apply(), which may be
// recorded (engine/core/graph.h): it neither waits for the device nor reads from it.
#pragma once
#include <optional>
#include <string>
#include <vector>

#include "engine/memory/staging.h"
#include "engine/modules/module.h"
#include "engine/ops/optimizer_step.h"
#include "engine/ops/step_begin.h"

namespace plume {

enum class Algorithm : uint8_t { sgd, adam, adamw, rmsprop, rmsprop_tf };

struct OptimizerOptions {
  Algorithm algorithm = Algorithm::sgd;
  double momentum = 0;  // of SGD and RMSprop
  bool nesterov = false;
  double beta1 = 0.9, beta2 = 0.999;  // of Adam
  double alpha = 0.99;                // of RMSprop
  double epsilon = 1e-8;              // of Adam and RMSprop
  double weight_decay = 0;
  // PyTorch's default; false spares parameters of rank <= 1 and those whose name ends in ".bias", as timm.
  bool decay_norms_and_biases = true;
  double clip_norm = 0;   // of all gradients together; 0: no clipping
  double clip_value = 0;  // of each element, after clip_norm; 0: no clipping
  LossScaling loss_scaling = {};
};
// "sgd", "adam", "adamw", "rmsprop", "rmsprop_tf" with PyTorch's defaults (momentum 0; decay of adamw 0.01),
// those of rmsprop_tf from timm (alpha 0.9, epsilon 1e-10). Throws usage.
OptimizerOptions default_options(const std::string& name);
std::vector<std::string> optimizer_names();
const char* name(Algorithm algorithm);

// Parameters with settings of their own. Those that do not require a gradient are frozen: left alone, and
// nothing is kept for them.
struct ParameterGroup {
  std::vector<NamedParameter> parameters;
  float rate_factor = 1;               // times the step's learning rate
  std::optional<double> weight_decay;  // instead of the options'
};
// Two groups: parameters whose names begin with one of `prefixes` (a classifier, say), and the others with
// `rate_factor` of the learning rate; where that is 0 they are frozen. Throws usage when no name begins so.
std::vector<ParameterGroup> fine_tuning_groups(const std::vector<NamedParameter>& parameters,
                                               const std::vector<std::string>& prefixes, float rate_factor);

// After how many skipped steps in a row Optimizer::check() gives up: the loss scale is 2^-20 by then.
inline constexpr int kMostSkippedInARow = 20;

class Optimizer {
 public:
  // Throws usage for options that make no sense. All parameters f32 on one device.
  Optimizer(std::vector<ParameterGroup> groups, const OptimizerOptions& options);
  Optimizer(std::vector<NamedParameter> parameters, const OptimizerOptions& options);

  // The learning rate of the next step, and over how many backward passes its gradients are added up (they
  // are divided by it). Also before a recorded apply() is replayed.
  void prepare(float learning_rate, int passes = 1);
  // Parameters without a gradient are left alone.
  void apply();
  void step(float learning_rate, int passes = 1) {
    prepare(learning_rate, passes);
    apply();
  }
  void zero_grad();

  // f32 [1] on the device: the gradient that backward() of the loss starts with, 1 without loss scaling.
  Tensor loss_scale() const;
  // Of the latest step, and counts; waits for the device.
  StepControl status() const;
  // Throws numeric after kMostSkippedInARow skipped steps in a row; waits for the device.
  void check() const;

  // What a checkpoint must keep: "control" (a StepControl: steps, loss scale, ...) and per parameter
  // "velocity.NAME" (SGD, RMSprop's momentum), "mean.NAME" (Adam), "square.NAME" (Adam, RMSprop).
  std::vector<NamedTensor> state();
  const OptimizerOptions& options() const { return options_; }

 private:
  struct Entry {
    NamedParameter parameter;
    StepTensor step;  // without gradient
  };
  void add(const NamedParameter& parameter, const ParameterGroup& group);

  OptimizerOptions options_;
  std::vector<NamedParameter> parameters_;  // all, frozen ones too
  std::vector<Entry> entries_;
  Tensor input_, norm_, control_;
  Upload to_input_;
};

}  // namespace plume
