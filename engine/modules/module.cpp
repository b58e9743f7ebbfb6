#include "engine/modules/module.h"

namespace plume {

void Module::visit(const std::string& prefix, const std::function<void(const std::string&, Module&)>& f) {
  f(prefix, *this);
  for (auto& [name, child] : children_) child->visit(prefix + name + ".", f);
}

void Module::for_each(const std::function<void(Module&)>& f) {
  visit("", [&](const std::string&, Module& m) { f(m); });
}

Module* Module::find(std::string_view name) {
  Module* found = nullptr;
  visit("", [&](const std::string& prefix, Module& m) {
    if (!name.empty() && prefix == std::string(name) + ".") found = &m;
  });
  return found;
}

void Module::train(bool on) {
  visit("", [on](const std::string&, Module& m) {
    m.training_ = on;
    m.fuse_own(false);
  });
}

void Module::fuse() {
  PLUME_CHECK(!training_, "fuse: the module is in training mode; call eval() first");
  const NoGrad no_grad;
  visit("", [](const std::string&, Module& m) { m.fuse_own(true); });
}

void Module::synchronize_batch_norms(Communicator* communicator) {
  visit("", [=](const std::string&, Module& m) { m.synchronize_own(communicator); });
}

int Module::zero_residual_branches() {
  int branches = 0;
  visit("", [&](const std::string&, Module& m) { branches += m.zero_residual_branch_own(); });
  return branches;
}

std::vector<NamedParameter> Module::parameters() {
  std::vector<NamedParameter> all;
  visit("", [&](const std::string& prefix, Module& m) {
    for (Parameter& p : m.parameters_) all.push_back({prefix + p.name, *p.variable, p.filter});
  });
  return all;
}

std::vector<NamedTensor> Module::state() {
  std::vector<NamedTensor> all;
  visit("", [&](const std::string& prefix, Module& m) {
    for (Parameter& p : m.parameters_) all.push_back({prefix + p.name, &p.variable->value(), p.filter});
    for (auto& [name, buffer] : m.buffers_) all.push_back({prefix + name, buffer, false});
  });
  return all;
}

void Module::to(Device device) {
  for (const NamedParameter& p : parameters()) {
    Variable variable = p.variable;
    variable.value() = variable.value().to(device);
    variable.value().count_writes();
    variable.clear_grad();
  }
  // Integer buffers count batches on the host.
  for (const NamedTensor& entry : state())
    if (is_floating(entry.tensor->dtype())) *entry.tensor = entry.tensor->to(device);
}

void Module::initialize(RandomSequence& random) {
  visit("", [&](const std::string&, Module& m) { m.initialize_own(random); });
}

int64_t Module::parameter_count() {
  int64_t count = 0;
  for (const NamedParameter& p : parameters()) count += p.variable.value().size();
  return count;
}

void Module::register_parameter(std::string name, Variable& parameter, bool filter) {
  parameters_.push_back({std::move(name), &parameter, filter});
}
void Module::register_buffer(std::string name, Tensor& buffer) {
  buffers_.emplace_back(std::move(name), &buffer);
}
void Module::register_module(std::string name, Module& child) {
  child.parent_ = this;
  children_.emplace_back(std::move(name), &child);
}

std::string Module::scope_name() const {
  if (!parent_) return {};
  std::string name = parent_->scope_name();
  for (const auto& [child_name, child] : parent_->children_)
    if (child == this) name += (name.empty() ? "" : ".") + child_name;
  return name;
}

}  // namespace plume
