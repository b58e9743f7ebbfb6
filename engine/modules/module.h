// A module: parameters, buffers and submodules with names, and a forward function.
//
// Names and their order are those of torchvision's state_dict: own parameters, own buffers, then submodules
// in order of registration. Modules register the addresses of their members, so they are neither copied nor
// moved.
#pragma once
#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "engine/autograd/tape.h"
#include "engine/core/random.h"
#include "engine/core/scope.h"

namespace plume {

class Communicator;

// One entry of a state dictionary. `filter`: convolution weights, [K, R, S, C] in memory and [K, C, R, S]
// (OIHW) in files; depthwise [R, S, C] and [C, 1, R, S].
struct NamedTensor {
  std::string name;
  Tensor* tensor;
  bool filter = false;
};

struct NamedParameter {
  std::string name;
  Variable variable;  // a handle: changing its value changes the module's
  bool filter = false;
};

class Module : public ScopeOwner {
 public:
  Module() = default;
  virtual ~Module() = default;
  Module(const Module&) = delete;
  Module& operator=(const Module&) = delete;

  // x: NHWC activations, or [N, C] for linear layers. Modules override forward() and call each other by (),
  // so that a profile knows whose work is done.
  virtual Variable forward(const Variable& x) = 0;
  Variable operator()(const Variable& x) {
    const Scope scope(*this);
    return hook_ ? hook_(forward(x)) : forward(x);
  }
  // "features.3.block.0.0": its place in the tree, empty for the root.
  std::string scope_name() const override;

  // Called with what () is about to return, and returns what is returned instead: to look at an activation,
  // or to cut the tape there. An empty function takes it away.
  using ForwardHook = std::function<Variable(const Variable& output)>;
  void set_forward_hook(ForwardHook hook) { hook_ = std::move(hook); }
  bool hooked() const { return bool(hook_); }
  // The submodule of this name, e.g. "layer4.1"; null when there is none.
  Module* find(std::string_view name);

  // This module and all below it.
  void for_each(const std::function<void(Module&)>& f);

  // Training mode (the default) or evaluation. Entering training undoes fuse().
  void train(bool on = true);
  void eval() { train(false); }
  bool training() const { return training_; }

  // For evaluation: folds batch norms into the convolutions before them. Parameters stay as they are; call
  // again after changing them.
  void fuse();

  // Lets batch norms in training normalise over all ranks' batches (ops/sync_batch_norm.h); null undoes it.
  // The communicator must outlive the module.
  void synchronize_batch_norms(Communicator* communicator);

  std::vector<NamedParameter> parameters();  // those that are learned
  std::vector<NamedTensor> state();          // parameters and buffers
  void to(Device device);                    // moves parameters and buffers; gradients are dropped
  void initialize(RandomSequence& random);   // fresh values for all parameters and buffers
  // Residual branches begin at nothing: the scale of the batch norm that ends each of them becomes 0, so that
  // a deep network begins as a shallow one (torchvision's zero_init_residual; Goyal et al. 2017, 5.1). On the
  // cpu, before training. Returns how many branches there are.
  int zero_residual_branches();
  int64_t parameter_count();

 protected:
  void register_parameter(std::string name, Variable& parameter, bool filter = false);
  void register_buffer(std::string name, Tensor& buffer);
  void register_module(std::string name, Module& child);

  // What a module does itself; the public functions visit the whole tree.
  virtual void initialize_own(RandomSequence&) {}
  virtual bool zero_residual_branch_own() { return false; }  // whether there is one
  virtual void fuse_own(bool /*on*/) {}
  virtual void synchronize_own(Communicator*) {}

 private:
  void visit(const std::string& prefix, const std::function<void(const std::string&, Module&)>& f);

  struct Parameter {
    std::string name;
    Variable* variable;
    bool filter;
  };
  std::vector<Parameter> parameters_;
  std::vector<std::pair<std::string, Tensor*>> buffers_;
  std::vector<std::pair<std::string, Module*>> children_;
  Module* parent_ = nullptr;
  ForwardHook hook_;
  bool training_ = true;
};

}  // namespace plume
