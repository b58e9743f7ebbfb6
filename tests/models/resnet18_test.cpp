// ResNet18 without any file: names, shapes, initial values, and the same training on two devices.
// What it computes is compared with PyTorch in parity_test.cpp; fusion: evaluation_test.cpp.
#include "models/resnet18.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "engine/ops/softmax_cross_entropy.h"
#include "engine/optim/sgd.h"
#include "tests/support/networks.h"

namespace plume::resnet18_test {
namespace {

using test::random_images;
using test::relative_difference;

constexpr int64_t kParameters = 11'689'512;  // torchvision's, with 1000 classes

struct Entry {
  std::string name;
  Shape shape;  // in memory: filters KRSC
  bool operator==(const Entry&) const = default;
};

// torchvision's state_dict, with the shapes of the paper's table 1.
std::vector<Entry> expected_state(int classes, int stem_kernel) {
  std::vector<Entry> all;
  const auto convolution = [&](const std::string& name, int64_t out, int64_t kernel, int64_t in) {
    all.push_back({name + ".weight", {out, kernel, kernel, in}});
  };
  const auto norm = [&](const std::string& name, int64_t channels) {
    for (const char* part : {"weight", "bias", "running_mean", "running_var"})
      all.push_back({name + "." + part, {channels}});
    all.push_back({name + ".num_batches_tracked", {}});
  };
  convolution("conv1", 64, stem_kernel, 3);
  norm("bn1", 64);
  int64_t in = 64;
  for (int stage = 1; stage <= 4; ++stage) {
    const int64_t channels = int64_t{32} << stage;
    for (int block = 0; block < 2; ++block) {
      const std::string name = message("layer{}.{}", stage, block);
      convolution(name + ".conv1", channels, 3, in);
      norm(name + ".bn1", channels);
      convolution(name + ".conv2", channels, 3, channels);
      norm(name + ".bn2", channels);
      if (in != channels) {
        convolution(name + ".downsample.0", channels, 1, in);
        norm(name + ".downsample.1", channels);
      }
      in = channels;
    }
  }
  all.push_back({"fc.weight", {classes, 512}});
  all.push_back({"fc.bias", {classes}});
  return all;
}

void PrintTo(const Entry& entry, std::ostream* out) { *out << entry.name << " " << to_string(entry.shape); }

std::vector<Entry> actual_state(Module& model) {
  std::vector<Entry> all;
  for (const NamedTensor& entry : model.state()) all.push_back({entry.name, entry.tensor->shape()});
  return all;
}

TEST(ResNet18, HasTorchvisionsParametersInTorchvisionsOrder) {
  const auto model = make_model("resnet18", {});
  EXPECT_EQ(model->parameter_count(), kParameters);
  EXPECT_EQ(actual_state(*model), expected_state(1000, 7));
  EXPECT_EQ(model->parameters().size(), 62u);
  EXPECT_EQ(model->state().size(), 122u);
  int filters = 0;
  for (const NamedParameter& p : model->parameters()) {
    EXPECT_TRUE(p.variable.requires_grad()) << p.name;
    EXPECT_EQ(p.filter, p.variable.shape().rank() == 4) << p.name;
    filters += p.filter;
  }
  EXPECT_EQ(filters, 20);
}

TEST(ResNet18, ClassesAndStemAreOptions) {
  const auto model = make_model("resnet18", {.num_classes = 10, .stem = Stem::cifar});
  EXPECT_EQ(actual_state(*model), expected_state(10, 3));
  EXPECT_EQ(model->parameter_count(), kParameters - 990 * 513 - 64 * 3 * (49 - 9));
}

struct Moments {
  double mean = 0, deviation = 0, lowest = INFINITY, highest = -INFINITY, kurtosis = 0;
};

Moments moments(const Tensor& tensor) {
  const std::vector<float> values = tensor.to_vector<float>();
  const double n = double(values.size());
  Moments m;
  for (const float v : values) {
    m.mean += double(v) / n;
    m.lowest = std::min(m.lowest, double(v));
    m.highest = std::max(m.highest, double(v));
  }
  double second = 0, fourth = 0;
  for (const float v : values) {
    const double d = double(v) - m.mean;
    second += d * d / n;
    fourth += d * d * d * d / n;
  }
  m.deviation = std::sqrt(second);
  m.kurtosis = second > 0 ? fourth / (second * second) : 0;
  return m;
}

// Estimates from n draws are off by their standard errors, 1/sqrt(n) and so on; five of them are allowed.
TEST(ResNet18, FiltersStartNormalWithVarianceTwoOverFanOut) {
  const auto model = make_model("resnet18", {.seed = 11});
  for (const NamedParameter& p : model->parameters()) {
    if (!p.filter) continue;
    const Tensor& w = p.variable.value();
    const double n = double(w.size()), deviation = std::sqrt(2.0 / double(w.dim(0) * w.dim(1) * w.dim(2)));
    const Moments m = moments(w);
    EXPECT_NEAR(m.mean, 0, 5 * deviation / std::sqrt(n)) << p.name;
    EXPECT_NEAR(m.deviation, deviation, 5 * deviation / std::sqrt(2 * n)) << p.name;
    EXPECT_NEAR(m.kurtosis, 3, 5 * std::sqrt(24 / n)) << p.name;  // a uniform would have 1.8
  }
}

TEST(ResNet18, TheClassifierStartsUniformWithinOneOverRootFanIn) {
  const auto model = make_model("resnet18", {.seed = 11});
  const double bound = 1 / std::sqrt(512.0);
  for (const NamedParameter& p : model->parameters()) {
    if (!p.name.starts_with("fc.")) continue;
    const Moments m = moments(p.variable.value());
    const double n = double(p.variable.value().size());
    EXPECT_NEAR(m.mean, 0, 5 * bound / std::sqrt(3 * n)) << p.name;
    EXPECT_GE(m.lowest, -bound) << p.name;
    EXPECT_LE(m.highest, bound) << p.name;
    EXPECT_LT(m.lowest, -bound * (1 - 20 / n)) << p.name;
    EXPECT_GT(m.highest, bound * (1 - 20 / n)) << p.name;
    EXPECT_NEAR(m.kurtosis, 1.8, 0.3) << p.name;
  }
}

TEST(ResNet18, NormsStartAsTheIdentity) {
  const auto model = make_model("resnet18", {});
  for (const NamedTensor& entry : model->state()) {
    if (entry.tensor->dtype() == DType::i64) {
      EXPECT_EQ(entry.tensor->to_vector<int64_t>()[0], 0) << entry.name;
      continue;
    }
    const bool in_norm =
        entry.name.find("bn") != std::string::npos || entry.name.find("downsample.1") != std::string::npos;
    if (!in_norm) continue;
    const bool one = entry.name.ends_with(".weight") || entry.name.ends_with("running_var");
    EXPECT_THAT(entry.tensor->to_vector<float>(), testing::Each(one ? 1.0f : 0.0f)) << entry.name;
  }
}

TEST(ResNet18, TheSeedDecidesTheInitialValues) {
  const auto weights = [](uint64_t seed) {
    return make_model("resnet18", {.num_classes = 10, .seed = seed})->state()[0].tensor->to_vector<float>();
  };
  EXPECT_EQ(weights(1), weights(1));
  EXPECT_NE(weights(1), weights(2));
}

TEST(ResNet18, TakesImagesOfManySizes) {
  const NoGrad no_grad;
  for (const Stem stem : {Stem::imagenet, Stem::cifar}) {
    const auto model = make_model("resnet18", {.num_classes = 7, .stem = stem});
    model->eval();
    for (const int size : {32, 64, 33}) {
      const Variable logits = model->forward(Variable(random_images(2, size)));
      EXPECT_EQ(logits.shape(), (Shape{2, 7}));
      EXPECT_TRUE(std::isfinite(logits.value().to_vector<float>()[13]));
    }
  }
  const auto model = make_model("resnet18", {});
  model->eval();
  EXPECT_EQ(model->forward(Variable(random_images(1, 224))).shape(), (Shape{1, 1000}));
}

struct Trained {
  std::vector<float> losses;
  std::vector<NamedTensor> state;
  std::unique_ptr<Module> model;
};

constexpr float kSmall = 1e-2f;

Trained train(Device device, int steps) {
  Trained result;
  result.model = make_model("resnet18", {.num_classes = 10, .seed = 4});
  // In the last stage a channel has two values, and batch norm divides by their difference where that is more
  // than sqrt(eps): fresh weights would make rounding errors grow a hundredfold per step. Small ones do not.
  for (const NamedTensor& entry : result.model->state())
    if (entry.filter)
      for (int64_t i = 0; i < entry.tensor->size(); ++i) entry.tensor->data<float>()[i] *= kSmall;
  result.model->to(device);
  Sgd sgd(result.model->parameters(), {.momentum = 0.9f, .weight_decay = 5e-4f});
  const Variable images(random_images(2, 32).to(device));
  const Targets targets{Tensor::from(std::vector<int32_t>{3, 8}, {2}, device), {}};
  for (int step = 0; step < steps; ++step) {
    const Variable loss = softmax_cross_entropy(result.model->forward(images), targets);
    result.losses.push_back(loss.value().item());
    sgd.zero_grad();
    backward(loss);
    sgd.step(1e-5f);
  }
  result.state = result.model->state();
  return result;
}

TEST(ResNet18Training, TheEmulatedKernelsTrainLikeTheCpu) {
  constexpr int kSteps = 3;
  const Trained cpu = train(Device::cpu, kSteps), simt = train(Device::simt, kSteps);
  for (int step = 0; step < kSteps; ++step)
    EXPECT_NEAR(simt.losses[size_t(step)] / cpu.losses[size_t(step)], 1, 1e-4) << "step " << step;
  EXPECT_LT(cpu.losses.back(), cpu.losses.front());
  const auto fresh = make_model("resnet18", {.num_classes = 10, .seed = 4});
  const std::vector<NamedTensor> before = fresh->state();
  for (size_t i = 0; i < cpu.state.size(); ++i) {
    const Tensor &a = *simt.state[i].tensor, &b = *cpu.state[i].tensor;
    if (b.dtype() == DType::i64) {
      EXPECT_EQ(a.to_vector<int64_t>()[0], kSteps) << cpu.state[i].name;
      continue;
    }
    EXPECT_LE(relative_difference(a, b), 1e-4) << cpu.state[i].name;
    EXPECT_GT(relative_difference(*before[i].tensor, b), 0) << cpu.state[i].name << " has not moved";
  }
}

}  // namespace
}  // namespace plume::resnet18_test
