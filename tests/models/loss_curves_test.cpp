// Twenty steps of training against PyTorch: every optimiser, with label smoothing, MixUp with a given lambda
// and weight decay. fixtures/make_optim.py wrote the losses, from PyTorch in double precision.
#include <gtest/gtest.h>

#include <cmath>

#include "engine/ops/layer_random.h"
#include "engine/ops/softmax_cross_entropy.h"
#include "engine/optim/optimizer.h"
#include "engine/serialization/safetensors.h"
#include "models/registry.h"
#include "tests/support/networks.h"
#include "tests/support/test_support.h"

namespace plume::loss_curves_test {
namespace {

constexpr double kTolerance = 1e-4;
constexpr float kLambda = 0.3f, kSmoothing = 0.1f;

std::vector<float> read(const std::string& path, const std::string& name) {
  const SafetensorsFile file(test::fixture(path));
  const TensorInfo* info = file.find(name);
  PLUME_CHECK(info != nullptr, "{}: there is no {}", path, name);
  return file.read(*info).to_vector<float>();
}

// lambda * x[n] + (1 - lambda) * x[n - 1], the first sample with the last.
Tensor mixed(const Tensor& x) {
  const std::vector<float> values = x.to_vector<float>();
  const size_t sample = values.size() / size_t(x.dim(0));
  std::vector<float> out(values.size());
  for (size_t i = 0; i < values.size(); ++i)
    out[i] = kLambda * values[i] + (1 - kLambda) * values[(i + values.size() - sample) % values.size()];
  return Tensor::from(out, x.shape());
}

class LossCurve : public testing::TestWithParam<std::tuple<std::pair<const char*, int>, std::string>> {};

TEST_P(LossCurve, FollowsPyTorch) {
  const auto& [kind, algorithm] = GetParam();
  const auto [network, size] = kind;
  const std::vector<float> description =
      read(std::string(network) + ".safetensors", std::to_string(size) + ".case");
  const auto batch = int64_t(description[0]);
  const auto model = make_model(network, {});
  test::set_fixture_state(*model);
  model->train();
  const NoDropout no_dropout;

  const std::string input = "input" + std::to_string(size) + "." + std::to_string(int(description[1]));
  const Variable images(mixed(test::fixture_images(input, batch, size)));
  Tensor one_hot = Tensor::zeros({batch, 1000}, DType::f32, Device::cpu);
  for (int64_t n = 0; n < batch; ++n) one_hot.data<float>()[n * 1000 + (37 * n + 11) % 1000] = 1;
  const Targets targets{{}, mixed(one_hot)};

  OptimizerOptions options = default_options(algorithm);
  options.weight_decay = 1e-4;
  if (algorithm == "sgd" || algorithm == "rmsprop_tf") options.momentum = 0.9;
  Optimizer optimizer(model->parameters(), options);
  const std::string name = std::string(network) + "." + algorithm;
  const float rate = read("optim.safetensors", "rate." + name)[0];
  const std::vector<float> losses = read("optim.safetensors", "curve." + name);
  ASSERT_EQ(losses.size(), 20u);
  EXPECT_LT(losses.back(), losses.front());
  double worst = 0;
  for (size_t step = 0; step < losses.size(); ++step) {
    const Variable loss =
        softmax_cross_entropy(model->forward(images), targets, {.label_smoothing = kSmoothing});
    const double error = std::fabs(double(loss.value().item()) / double(losses[step]) - 1);
    EXPECT_LE(error, kTolerance) << "step " << step;
    worst = std::max(worst, error);
    optimizer.zero_grad();
    backward(loss, optimizer.loss_scale());
    optimizer.step(rate);
  }
  std::printf("%s: %.1e\n", name.c_str(), worst);
}

INSTANTIATE_TEST_SUITE_P(
    Networks, LossCurve,
    testing::Combine(testing::Values(std::pair{"squeezenet1_1", 64}, std::pair{"mobilenet_v3_small", 32}),
                     testing::ValuesIn(optimizer_names())),
    [](const auto& one) { return std::string(std::get<0>(one.param).first) + "_" + std::get<1>(one.param); });

}  // namespace
}  // namespace plume::loss_curves_test
