// Gradient check: backward() against central differences of a double-precision reference.
//
// The derivative is compared along random directions, for each input alone: with fixed random weights dy,
//   d/dh sum_i dy[i] * reference(x + h v)[i]   against   sum_j gradient[j] * v[j].
// The reference computes in double, so that the difference quotient is good to about nine digits and the
// tolerance can be that of the operation's own arithmetic.
#pragma once
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "engine/autograd/variable.h"

namespace plume {

struct GradientCheckOptions {
  int directions = 4;  // per input; the first is dense, later ones touch fewer and fewer elements
  double step = 1e-5;  // h, for inputs of about unit size
  double tolerance =
      1e-5;  // of sum |gradient[j] * v[j]| + |v| |dy| / 1000, the latter where gradients vanish
  uint64_t seed = 1;
};

using DifferentiableOp = std::function<Variable(std::vector<Variable>& inputs)>;
// The op's output from its inputs, all as flat arrays of double.
using DoubleReference = std::function<std::vector<double>(const std::vector<std::vector<double>>& inputs)>;

// One line per mismatch, naming the input by its number; empty when all agree. Inputs are floating tensors of
// one device; undefined ones (absent operands) are passed on as undefined and as empty arrays. An input that
// backward() does not reach counts as having gradient zero. The op must not be at a kink (relu at 0, equal
// maxima) within a step of the inputs.
std::vector<std::string> check_gradients(const DifferentiableOp& op, const DoubleReference& reference,
                                         const std::vector<Tensor>& inputs,
                                         const GradientCheckOptions& options = {});

}  // namespace plume
