// Networks against PyTorch: fixtures/<network>.safetensors, written by fixtures/make_networks.py, which says
// what they hold. Weights and inputs are recomputed here by the same function of (name, index).
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "engine/ops/layer_random.h"
#include "engine/ops/softmax_cross_entropy.h"
#include "engine/optim/sgd.h"
#include "engine/serialization/state_dict.h"
#include "models/registry.h"
#include "tests/support/networks.h"
#include "tests/support/test_support.h"

namespace plume::parity_test {
namespace {

constexpr float kMomentum = 0.9f, kWeightDecay = 5e-4f;
constexpr int64_t kProjections = 4;

// Of float arithmetic, relative to the largest value: what is promised for every network.
constexpr double kTolerance = 1e-4, kGradientTolerance = 1e-3;

// |got - want|, relative to the largest |want|.
double relative_error(const Tensor& tensor, const std::vector<float>& want) {
  const std::vector<float> got = tensor.to(Device::cpu).to_vector<float>();
  EXPECT_EQ(got.size(), want.size());
  double difference = 0, largest = 0;
  for (size_t i = 0; i < std::min(got.size(), want.size()); ++i) {
    difference = std::max(difference, std::fabs(double(got[i]) - double(want[i])));
    largest = std::max(largest, std::fabs(double(want[i])));
  }
  return difference / largest;
}

// A row of the fixture: size, norm, largest magnitude, projections, samples.
constexpr int64_t kFirstProjection = 3, kFirstSample = kFirstProjection + kProjections;

// The same of a tensor and its row: elements relative to the largest, projections to the norm. The scale is
// at least `floor`, since batch norm makes some gradients zero but for rounding.
double summary_error(const std::string& name, const std::vector<float>& got, const std::vector<float>& row,
                     double floor) {
  EXPECT_EQ(double(got.size()), double(row[0])) << name;
  const double largest = std::max(double(row[2]), floor);
  const double norm = std::max(double(row[1]), floor * std::sqrt(double(row[0])));
  double square = 0;
  for (const float v : got) square += double(v) * double(v);
  double error = std::fabs(std::sqrt(square) - double(row[1])) / norm;
  for (int64_t i = 0; i < kProjections; ++i) {
    const auto direction =
        test::fixture_uniform("projection" + std::to_string(i) + "." + name, int64_t(got.size()));
    double sum = 0;
    for (size_t j = 0; j < got.size(); ++j) sum += double(got[j]) * direction[j];
    error = std::max(error, std::fabs(sum - double(row[size_t(kFirstProjection + i)])) / norm);
  }
  const int64_t samples = int64_t(row.size()) - kFirstSample;
  for (int64_t i = 0; i < samples; ++i) {
    const float value = got[size_t(i * int64_t(got.size()) / samples)];
    error = std::max(error, std::fabs(double(value) - double(row[size_t(kFirstSample + i)])) / largest);
  }
  return error;
}

class Fixture {
 public:
  Fixture(const std::string& network, int size)
      : file_(test::fixture(network + ".safetensors")), prefix_(std::to_string(size) + ".") {
    const std::vector<float> numbers = read("case").to_vector<float>();
    batch = int64_t(numbers[0]);
    learning_rate = numbers[2];
    const std::string name = "input" + std::to_string(size) + "." + std::to_string(int(numbers[1]));
    images = test::fixture_images(name, batch, size);
    std::vector<int32_t> classes;
    for (int32_t i = 0; i < batch; ++i) classes.push_back((37 * i + 11) % 1000);
    labels = Tensor::from(classes, {batch});
  }
  Tensor read(const std::string& name) const {
    const TensorInfo* info = file_.find(prefix_ + name);
    PLUME_CHECK(info != nullptr, "{}: there is no {}{}", file_.path(), prefix_, name);
    return file_.read(*info);
  }
  std::vector<float> values(const std::string& name) const { return read(name).to_vector<float>(); }

  int64_t batch;
  float learning_rate;
  Tensor images, labels;

 private:
  SafetensorsFile file_;
  std::string prefix_;
};

// Rows of `table` belong to `tensors` in the order of their names. Returns the largest error.
double compare_rows(const Tensor& table, const std::map<std::string, Tensor>& tensors, double tolerance) {
  constexpr double kFloor = 1e-3;  // of the largest magnitude of all
  EXPECT_EQ(table.dim(0), int64_t(tensors.size()));
  const std::vector<float> values = table.to_vector<float>();
  const int64_t width = table.dim(1);
  float largest = 0;
  for (int64_t row = 0; row < table.dim(0); ++row)
    largest = std::max(largest, values[size_t(row * width + 2)]);
  auto begin = values.begin();
  double worst = 0;
  for (const auto& [name, tensor] : tensors) {
    const std::vector<float> row(begin, begin + width);
    const double error = summary_error(name, tensor.to_vector<float>(), row, kFloor * double(largest));
    EXPECT_LE(error, tolerance) << name;
    worst = std::max(worst, error);
    begin += width;
  }
  return worst;
}

struct Case {
  std::string network;
  int size;
  Device device;
  int steps;  // of the loss curve
};

class Parity : public testing::TestWithParam<Case> {};

TEST_P(Parity, WithPyTorch) {
  const auto& [network, size, device, steps] = GetParam();
  const Fixture want(network, size);
  const double gradient_tolerance = network == "resnet18" ? kTolerance : kGradientTolerance;
  const auto model = make_model(network, {});
  test::set_fixture_state(*model);
  model->to(device);
  const Variable images(want.images.to(device));
  const Targets targets{want.labels.to(device), {}};
  {
    const NoGrad no_grad;
    model->eval();
    const std::vector<float> logits = want.values("logits_eval");
    const double unfused = relative_error(model->forward(images).value(), logits);
    model->fuse();
    const double fused = relative_error(model->forward(images).value(), logits);
    EXPECT_LE(unfused, kTolerance);
    EXPECT_LE(fused, kTolerance);
    std::printf("logits %.1e, fused %.1e", unfused, fused);
  }
  model->train();
  const NoDropout no_dropout;
  Sgd sgd(model->parameters(), {.momentum = kMomentum, .weight_decay = kWeightDecay});
  const std::vector<float> losses = want.values("loss");
  double worst_loss = 0;
  for (int step = 0; step < steps; ++step) {
    const Variable logits = model->forward(images);
    const Variable loss = softmax_cross_entropy(logits, targets);
    const double error = std::fabs(double(loss.value().item()) / double(losses[size_t(step)]) - 1);
    EXPECT_LE(error, kTolerance) << "loss of step " << step;
    worst_loss = std::max(worst_loss, error);
    sgd.zero_grad();
    backward(loss);
    if (step == 0) {
      const double train = relative_error(logits.value(), want.values("logits_train"));
      EXPECT_LE(train, kTolerance);
      std::map<std::string, Tensor> gradients, running;
      for (const NamedParameter& p : model->parameters()) {
        const Tensor gradient = p.variable.grad().to(Device::cpu);
        gradients[p.name] = p.filter ? filter_to_file(gradient) : gradient;
      }
      for (const NamedTensor& entry : model->state())
        if (entry.name.find("running_") != std::string::npos)
          running[entry.name] = entry.tensor->to(Device::cpu);
      std::printf(", training %.1e", train);
      std::printf(", gradients %.1e", compare_rows(want.read("gradients"), gradients, gradient_tolerance));
      if (!running.empty())
        std::printf(", running %.1e", compare_rows(want.read("running"), running, kTolerance));
    }
    sgd.step(want.learning_rate);
  }
  std::printf(", loss of %d steps %.1e\n", steps, worst_loss);
}

std::vector<Case> cases() {
  std::vector<Case> all;
  for (const std::string& network : model_names()) {
    // One of each pair of siblings is enough at one size.
    const bool sibling = network == "squeezenet1_0" || network == "shufflenet_v2_x0_5";
    for (const int size : {32, 64, 224})
      if (!sibling || size == 64) all.push_back({network, size, Device::cpu, 10});
  }
  all.push_back({"resnet18", 32, Device::simt, 2});
  return all;
}

INSTANTIATE_TEST_SUITE_P(Networks, Parity, testing::ValuesIn(cases()), [](const auto& one) {
  return one.param.network + "_" + std::to_string(one.param.size) + "_" + to_string(one.param.device);
});

}  // namespace
}  // namespace plume::parity_test
