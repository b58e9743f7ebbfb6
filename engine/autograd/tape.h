// Reverse-mode differentiation on a tape of closures.
//
// An operation computes its value and, when a gradient is wanted, records one closure that turns the gradient
// of its output into gradients of its inputs. What the closure needs it captures; when it has run it is
// destroyed, and with it the tensors nobody else holds. Gradients are added up per input and freed as soon as
// they are consumed.
//
//   return record("relu", y, {x}, [x, y](const Tensor& dy, Gradients& g) { ... g.add(0, dx); });
#pragma once
#include <functional>
#include <initializer_list>
#include <utility>
#include <vector>

#include "engine/autograd/variable.h"

namespace plume {

// What a gradient rule writes into: one slot per input of the operation.
class Gradients {
 public:
  explicit Gradients(std::vector<Variable>& inputs) : inputs_(inputs) {}
  // False when nobody asks for the gradient of input i; the rule may skip the work.
  bool wants(int i) const;
  // Adds to the gradient of input i. The tensor must not be written to afterwards.
  void add(int i, Tensor gradient);

 private:
  std::vector<Variable>& inputs_;
};

using GradientRule = std::function<void(const Tensor& dy, Gradients& gradients)>;

// True unless a NoGrad is alive on this thread.
bool grad_enabled();

// While alive, operations on this thread record nothing.
class NoGrad {
 public:
  NoGrad();
  ~NoGrad();
  NoGrad(const NoGrad&) = delete;
  NoGrad& operator=(const NoGrad&) = delete;

 private:
  bool previous_;
};

// True when an operation on these inputs must be recorded, so that it knows whether to save what its gradient
// needs. Undefined inputs (absent bias, absent residual) count as constants.
bool needs_grad(std::initializer_list<Variable> inputs);

// Wraps the value of an operation; keeps `rule` only if needs_grad(inputs). Undefined inputs are allowed.
Variable record(const char* operation, Tensor value, std::initializer_list<Variable> inputs,
                GradientRule rule);
Variable record(const char* operation, Tensor value, std::vector<Variable> inputs, GradientRule rule);

// An operation whose rule adds two gradients on its way, so that where two operations read its output the
// tape does not: `more` is the second one's, undefined where there is none. What a third one brings is added
// to it.
using JoiningRule = std::function<void(const Tensor& dy, const Tensor& more, Gradients& gradients)>;
Variable record_joining(const char* operation, Tensor value, std::vector<Variable> inputs, JoiningRule rule);

// The same for an operation with two outputs: `rule` runs once, after all that reads either of them. The
// gradient of an output that nothing used is undefined.
using PairGradientRule = std::function<void(const Tensor& dy0, const Tensor& dy1, Gradients& gradients)>;
std::pair<Variable, Variable> record_pair(const char* operation, Tensor y0, Tensor y1,
                                          std::vector<Variable> inputs, PairGradientRule rule);

// Runs the tape backwards from `output` (dy = 1 when omitted, for one-element outputs) and adds to the
// gradients of the leaves. The tape is freed on the way: a second backward() through any part of it throws.
//
// `complete` is called once for each leaf that wants a gradient and that the tape reaches, as soon as this
// call adds nothing more to its gradient (which is undefined still when no operation gave it one).
using LeafHook = std::function<void(Variable& leaf)>;
void backward(const Variable& output, Tensor dy = {}, const LeafHook& complete = {});

}  // namespace plume
