#include "engine/autograd/gradient_check.h"

#include <algorithm>
#include <cmath>

#include "engine/autograd/tape.h"
#include "engine/core/random.h"

namespace plume {
namespace {

std::vector<double> to_doubles(const Tensor& tensor) {
  if (!tensor.defined()) return {};
  return dispatch_floating(tensor.dtype(), [&](auto zero) {
    const auto values = tensor.to_vector<decltype(zero)>();
    std::vector<double> out;
    for (const auto& v : values) out.push_back(double(float(v)));
    return out;
  });
}

// Standard normal weights, rounded to the dtype so that the reference sees what the op sees.
Tensor random_like(const Tensor& like, RandomSequence& random) {
  return dispatch_floating(like.dtype(), [&](auto zero) {
    using T = decltype(zero);
    std::vector<T> values;
    for (int64_t i = 0; i < like.size(); ++i) values.push_back(T(random.normal()));
    return Tensor::from(values, like.shape(), like.device());
  });
}

// Direction k touches about one element in 4^k: a single wrong element is not drowned by the others.
std::vector<double> random_direction(size_t size, int k, RandomSequence& random) {
  std::vector<double> v(size, 0.0);
  const uint64_t sparsity = std::clamp<uint64_t>(size, 1, uint64_t(1) << std::min(2 * k, 40));
  for (size_t i = random.below(sparsity); i < size; i += 1 + random.below(2 * sparsity - 1))
    v[i] = random.normal();
  return v;
}

double dot(const std::vector<double>& a, const std::vector<double>& b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  return sum;
}

double dot_of_magnitudes(const std::vector<double>& a, const std::vector<double>& b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += std::fabs(a[i] * b[i]);
  return sum;
}

}  // namespace

std::vector<std::string> check_gradients(const DifferentiableOp& op, const DoubleReference& reference,
                                         const std::vector<Tensor>& inputs,
                                         const GradientCheckOptions& options) {
  RandomSequence random(options.seed);
  std::vector<Variable> leaves;
  std::vector<std::vector<double>> point;
  for (const Tensor& input : inputs) {
    leaves.push_back(input.defined() ? Variable(input, true) : Variable());
    point.push_back(to_doubles(input));
  }
  const Variable y = op(leaves);
  const Tensor dy = random_like(y.value(), random);
  backward(y, dy);
  const std::vector<double> weights = to_doubles(dy);
  const auto projected = [&] {
    const std::vector<double> out = reference(point);
    PLUME_CHECK(out.size() == weights.size(), "gradient check: the reference has {} outputs, the op {}",
                out.size(), weights.size());
    return dot(weights, out);
  };

  std::vector<std::string> mismatches;
  for (size_t i = 0; i < inputs.size(); ++i) {
    if (!inputs[i].defined()) continue;
    std::vector<double> gradient(point[i].size(), 0.0);
    if (leaves[i].grad().defined()) gradient = to_doubles(leaves[i].grad());
    for (int k = 0; k < options.directions; ++k) {
      const std::vector<double> v = random_direction(gradient.size(), k, random);
      const std::vector<double> x = point[i];
      const auto moved = [&](double h) {
        for (size_t j = 0; j < x.size(); ++j) point[i][j] = x[j] + h * v[j];
        return projected();
      };
      const double numeric = (moved(options.step) - moved(-options.step)) / (2 * options.step);
      point[i] = x;
      const double analytic = dot(gradient, v);
      // Where the gradient vanishes, the roundings of the output's own size are what is left.
      const double floor = 1e-3 * std::sqrt(dot(v, v) * dot(weights, weights));
      const double allowed = options.tolerance * (dot_of_magnitudes(gradient, v) + floor);
      if (!(std::fabs(numeric - analytic) <= allowed))
        mismatches.push_back(message("input {}, direction {}: backward gives {}, finite differences {} +- {}",
                                     i, k, analytic, numeric, allowed));
    }
  }
  return mismatches;
}

}  // namespace plume
