#include "engine/autograd/tape.h"

#include <queue>
#include <unordered_map>
#include <unordered_set>

#include "engine/core/graph.h"
#include "engine/core/kernel_slot.h"
#include "engine/core/scope.h"
#include "engine/ops/add.h"
#include "engine/ops/partial_sums.h"

namespace plume {

// One recorded operation. Sequence numbers grow, so that a larger one never feeds a smaller one.
struct TapeNode {
  const char* operation;
  uint64_t sequence;
  std::vector<Variable> inputs;
  JoiningRule rule;  // empty once it has run
  bool joins;        // whether it takes two gradients, dy and `more`
  Tensor dy, more;   // their sum is that of what arrived so far
  ScopeState scope;  // where it was recorded
};

struct TapeAccess {
  static std::shared_ptr<TapeNode>& node(const Variable& v) { return v.state_->node; }
};

namespace {

thread_local bool grad_enabled_on_thread = true;
thread_local uint64_t next_sequence = 0;

void accumulate(Tensor& sum, Tensor term) {
  if (!sum.defined()) {
    sum = std::move(term);
    return;
  }
  settle_sums_of(sum);
  settle_sums_of(term);
  // A tensor that others hold too (add hands the same dy to both inputs) must not be written to.
  Tensor out = sum.unique() ? sum : empty_like(sum);
  add_forward(context(sum.device()), sum, term, out);
  sum = out;
}

// The gradient that backward() begins with where none is given: made once, since a step that is recorded must
// not copy from the host. Held here as well, so that nobody adds to it in place.
Tensor one_on(Device device) {
  thread_local Tensor ones[kDeviceCount];
  Tensor& one = ones[size_t(device)];
  if (!one.defined()) one = Tensor::from(std::vector<float>{1.0f}, {1}, device);
  return one;
}
const bool prepared = before_recordings([](Device device) { one_on(device); });

// Tells when the last operation that reads a leaf has run.
class LeafCountdown {
 public:
  LeafCountdown(TapeNode* root, const LeafHook& complete) : complete_(complete) {
    if (!complete) return;
    std::unordered_set<TapeNode*> seen{root};
    std::vector<TapeNode*> open{root};
    while (!open.empty()) {
      TapeNode* node = open.back();
      open.pop_back();
      for (const Variable& v : node->inputs) {
        if (!v.defined()) continue;
        TapeNode* next = TapeAccess::node(v).get();
        if (!next)
          ++uses_[&v.value()];
        else if (seen.insert(next).second)
          open.push_back(next);
      }
    }
  }
  void used(Variable& v) {
    if (!complete_ || TapeAccess::node(v)) return;
    if (--uses_[&v.value()] > 0 || !v.requires_grad()) return;
    settle_sums();
    complete_(v);
  }

 private:
  const LeafHook& complete_;
  std::unordered_map<const Tensor*, int> uses_;  // handles of one variable have their value in one place
};

}  // namespace

Variable::Variable(Tensor value, bool requires_grad) : state_(std::make_shared<State>()) {
  state_->value = std::move(value);
  state_->requires_grad = requires_grad;
}

bool grad_enabled() { return grad_enabled_on_thread; }
NoGrad::NoGrad() : previous_(grad_enabled_on_thread) { grad_enabled_on_thread = false; }
NoGrad::~NoGrad() { grad_enabled_on_thread = previous_; }

bool needs_grad(std::initializer_list<Variable> inputs) {
  if (!grad_enabled_on_thread) return false;
  for (const Variable& v : inputs)
    if (v.defined() && v.requires_grad()) return true;
  return false;
}

bool Gradients::wants(int i) const {
  const Variable& v = inputs_[size_t(i)];
  return v.defined() && v.requires_grad();
}

void Gradients::add(int i, Tensor gradient) {
  if (!wants(i)) return;
  Variable& v = inputs_[size_t(i)];
  PLUME_CHECK(gradient.shape() == v.shape(), "backward: gradient {} for a value of shape {}",
              gradient.shape(), v.shape());
  if (const auto& node = TapeAccess::node(v)) {
    settle_sums_of(gradient);
    accumulate(node->joins && node->dy.defined() ? node->more : node->dy, std::move(gradient));
  } else {
    accumulate(v.grad(), std::move(gradient));
  }
}

namespace {

Variable record_node(const char* operation, Tensor value, std::vector<Variable> inputs, JoiningRule rule,
                     bool joins) {
  bool wanted = false;
  for (const Variable& v : inputs) wanted = wanted || (v.defined() && v.requires_grad());
  wanted = wanted && grad_enabled_on_thread;
  Variable output(std::move(value), wanted);
  if (wanted)
    TapeAccess::node(output) =
        std::make_shared<TapeNode>(TapeNode{operation, next_sequence++, std::move(inputs), std::move(rule),
                                            joins, Tensor(), Tensor(), current_scope()});
  return output;
}

}  // namespace

Variable record(const char* operation, Tensor value, std::vector<Variable> inputs, GradientRule rule) {
  return record_node(
      operation, std::move(value), std::move(inputs),
      [rule = std::move(rule)](const Tensor& dy, const Tensor&, Gradients& g) { rule(dy, g); }, false);
}

Variable record_joining(const char* operation, Tensor value, std::vector<Variable> inputs, JoiningRule rule) {
  return record_node(operation, std::move(value), std::move(inputs), std::move(rule), true);
}

Variable record(const char* operation, Tensor value, std::initializer_list<Variable> inputs,
                GradientRule rule) {
  return record(operation, std::move(value), std::vector<Variable>(inputs), std::move(rule));
}

// Both outputs hang on a node of their own, which stands for the operation; its value and its gradient say
// nothing. It is older than they are, so that it runs after both.
std::pair<Variable, Variable> record_pair(const char* operation, Tensor y0, Tensor y1,
                                          std::vector<Variable> inputs, PairGradientRule rule) {
  struct Arrived {
    Tensor dy[2];
  };
  const auto arrived = std::make_shared<Arrived>();
  const Tensor token = Tensor::zeros({1}, DType::f32, Device::cpu);
  const Variable both = record(operation, token, std::move(inputs),
                               [arrived, rule = std::move(rule)](const Tensor&, Gradients& g) {
                                 rule(arrived->dy[0], arrived->dy[1], g);
                               });
  const auto output = [&](Tensor value, int i) {
    return record(operation, std::move(value), {both}, [arrived, token, i](const Tensor& dy, Gradients& g) {
      const bool first = !arrived->dy[0].defined() && !arrived->dy[1].defined();
      arrived->dy[i] = dy;
      if (first) g.add(0, token);
    });
  };
  Variable first = output(std::move(y0), 0), second = output(std::move(y1), 1);
  return {first, second};
}

void backward(const Variable& output, Tensor dy, const LeafHook& complete) {
  PLUME_CHECK(output.defined() && output.requires_grad(),
              "backward: the output does not depend on any variable that wants a gradient");
  if (!dy.defined()) {
    PLUME_CHECK(output.value().size() == 1 && output.dtype() == DType::f32,
                "backward: {} needs an explicit gradient; only one-element f32 outputs default to 1",
                to_string(output.value()));
    dy = one_on(output.device()).reshape(output.shape());
  }
  const NoGrad no_grad;
  const SumsPutOff put_off;
  const std::shared_ptr<TapeNode> root = TapeAccess::node(output);
  if (!root) {
    Variable leaf = output;
    accumulate(leaf.grad(), std::move(dy));
    if (complete) complete(leaf);
    return;
  }
  root->dy = std::move(dy);
  LeafCountdown leaves(root.get(), complete);

  // Latest first: when a node is taken, everything that reads its output has already run.
  const auto earlier = [](const auto& a, const auto& b) { return a->sequence < b->sequence; };
  std::priority_queue<std::shared_ptr<TapeNode>, std::vector<std::shared_ptr<TapeNode>>, decltype(earlier)>
      ready(earlier);
  std::unordered_set<TapeNode*> queued{root.get()};
  ready.push(root);
  while (!ready.empty()) {
    const std::shared_ptr<TapeNode> node = ready.top();
    ready.pop();
    PLUME_CHECK(node->rule,
                "backward: the tape through '{}' was already used and freed; run the forward pass again",
                node->operation);
    const Tensor gradient = std::move(node->dy), more = std::move(node->more);
    node->dy = node->more = Tensor();
    // Moved out first: an exception must not leave a half-used tape that looks fresh.
    const JoiningRule rule = std::move(node->rule);
    std::vector<Variable> inputs = std::move(node->inputs);
    node->rule = nullptr;
    node->inputs.clear();
    if (gradient.defined()) {
      const Scope scope(ScopeState{node->scope.owner, true});
      Gradients gradients(inputs);
      rule(gradient, more, gradients);
    }
    for (Variable& v : inputs) {
      if (!v.defined()) continue;
      leaves.used(v);
      if (const auto& next = TapeAccess::node(v); next && queued.insert(next.get()).second) ready.push(next);
    }
  }
  settle_sums();
}

}  // namespace plume
