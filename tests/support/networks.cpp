#include "tests/support/networks.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "engine/ops/cast.h"

namespace plume::test {
namespace {

std::vector<float> floats(const Tensor& tensor) {
  return cast(Variable(tensor), DType::f32).value().to_vector<float>();
}

}  // namespace

Tensor random_images(int n, int size, uint64_t seed) {
  RandomSequence random(seed);
  std::vector<float> values(size_t(n) * size_t(size) * size_t(size) * 3);
  for (float& v : values) v = random.normal();
  return Tensor::from(values, {n, size, size, 3});
}

void disturb_norms(Module& model) {
  RandomSequence random(5);
  const std::vector<NamedTensor> state = model.state();
  const auto module_of = [](const std::string& name) { return name.substr(0, name.rfind('.')); };
  std::set<std::string> norms;
  for (const NamedTensor& entry : state)
    if (entry.name.ends_with("running_var")) norms.insert(module_of(entry.name));
  for (const NamedTensor& entry : state) {
    if (entry.tensor->dtype() != DType::f32 || !norms.contains(module_of(entry.name))) continue;
    const bool mean = entry.name.ends_with("running_mean"), var = entry.name.ends_with("running_var");
    float* values = entry.tensor->data<float>();
    for (int64_t i = 0; i < entry.tensor->size(); ++i) {
      if (mean)
        values[i] = random.uniform(-0.5f, 0.5f);
      else if (var)
        values[i] = random.uniform(0.5f, 2.0f);
      else
        values[i] += random.uniform(-0.3f, 0.3f);
    }
  }
}

double relative_difference(const Tensor& a, const Tensor& b) {
  const std::vector<float> x = floats(a), y = floats(b);
  EXPECT_EQ(x.size(), y.size());
  double difference = 0, magnitude = 0;
  for (size_t i = 0; i < std::min(x.size(), y.size()); ++i) {
    if (!std::isfinite(x[i]) || !std::isfinite(y[i])) return INFINITY;
    difference = std::max(difference, std::fabs(double(x[i]) - double(y[i])));
    magnitude = std::max(magnitude, std::fabs(double(y[i])));
  }
  return magnitude > 0 ? difference / magnitude : difference;
}

}  // namespace plume::test
