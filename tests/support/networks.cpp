#include "tests/support/networks.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "engine/autograd/tape.h"
#include "engine/ops/cast.h"
#include "engine/ops/layer_random.h"
#include "engine/ops/softmax_cross_entropy.h"
#include "engine/optim/sgd.h"
#include "engine/serialization/state_dict.h"
#include "models/registry.h"

namespace plume::test {
namespace {

std::vector<float> floats(const Tensor& tensor) {
  return cast(Variable(tensor), DType::f32).value().to_vector<float>();
}

}  // namespace

std::vector<double> fixture_uniform(const std::string& name, int64_t count) {
  uint64_t hash = 0xCBF29CE484222325;
  for (const char c : name) hash = (hash ^ uint8_t(c)) * 0x100000001B3;
  std::vector<double> all(static_cast<size_t>(count));
  for (double& v : all) {
    hash += 0x9E3779B97F4A7C15;
    uint64_t z = (hash ^ (hash >> 30)) * 0xBF58476D1CE4E5B9;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
    z ^= z >> 31;
    v = double(z >> 40) * 0x1p-23 - 1.0;
  }
  return all;
}

namespace {

// An entry of the state dictionary in PyTorch's layout.
std::vector<float> initial_values(const std::string& name, const Shape& in_file) {
  double scale = 0.1, offset = 0;
  if (name.ends_with("running_var"))
    scale = 0.6, offset = 2;
  else if (name.ends_with("running_mean"))
    scale = 0.1;
  else if (in_file.rank() == 4)
    scale = std::sqrt(6.0 / double(in_file[1] * in_file[2] * in_file[3]));
  else if (in_file.rank() == 2)
    scale = 1 / std::sqrt(double(in_file[1]));
  else if (name.ends_with("weight"))
    scale = 0.2, offset = 1;
  std::vector<float> values;
  for (const double u : fixture_uniform(name, in_file.elements()))
    values.push_back(float(offset + scale * u));
  return values;
}

}  // namespace

void set_fixture_state(Module& model) {
  for (const NamedTensor& entry : model.state()) {
    if (entry.tensor->dtype() != DType::f32) continue;
    const Shape shape = entry.filter ? filter_to_file(*entry.tensor).shape() : entry.tensor->shape();
    Tensor value = Tensor::from(initial_values(entry.name, shape), shape);
    if (entry.filter) value = filter_from_file(value, entry.tensor->shape());
    std::copy_n(value.data<float>(), value.size(), entry.tensor->data<float>());
  }
}

Tensor fixture_images(const std::string& name, int64_t count, int64_t size) {
  std::vector<float> values;
  for (const double u : fixture_uniform(name, count * 3 * size * size)) values.push_back(2 * float(u));
  return channels_last(Tensor::from(values, {count, 3, size, size}));
}

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

NamedValues training_step_values(const std::string& network) {
  constexpr int kBatch = 6;
  const auto model = make_model(network, {.num_classes = 10, .seed = 5});
  std::vector<int32_t> labels;
  for (int i = 0; i < kBatch; ++i) labels.push_back(i % 10);
  Sgd sgd(model->parameters(), {.momentum = 0.9f, .weight_decay = 5e-4f});
  NamedValues values;
  layer_random().begin_step(1);
  const Variable loss = softmax_cross_entropy(model->forward(Variable(random_images(kBatch, 64))),
                                              {Tensor::from(labels, {kBatch}, Device::cpu), {}});
  sgd.zero_grad();
  backward(loss);
  values.emplace_back("loss", loss.value().to_vector<float>());
  for (const NamedParameter& p : model->parameters())
    values.emplace_back("gradient of " + p.name, p.variable.grad().to_vector<float>());
  sgd.step(0.1f);
  for (const NamedTensor& t : model->state())  // running statistics among them
    if (t.tensor->dtype() == DType::f32)
      values.emplace_back(t.name + " after the step", t.tensor->to_vector<float>());
  return values;
}

}  // namespace plume::test
