#include "engine/modules/layers.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "models/registry.h"

namespace plume::layers_test {
namespace {

Tensor random_tensor(const Shape& shape, uint64_t seed) {
  RandomSequence random(seed);
  std::vector<float> values(size_t(shape.elements()));
  for (float& v : values) v = random.normal();
  return Tensor::from(values, shape);
}

// Norm-wise: the largest difference over the largest value.
double difference(const Tensor& a, const Tensor& b) {
  const auto x = a.to_vector<float>(), y = b.to_vector<float>();
  double error = 0, scale = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    error = std::max(error, std::abs(double(x[i]) - double(y[i])));
    scale = std::max(scale, std::abs(double(y[i])));
  }
  return error / scale;
}

TEST(ResNet18, HasTorchvisionsNamesAndSizes) {
  const auto model = make_model("resnet18", {});
  EXPECT_EQ(model->parameter_count(), 11689512);
  const auto state = model->state();
  ASSERT_EQ(state.size(), 122u);
  EXPECT_EQ(state[0].name, "conv1.weight");
  EXPECT_EQ(state[0].tensor->shape(), (Shape{64, 7, 7, 3}));
  EXPECT_EQ(state[1].name, "bn1.weight");
  EXPECT_EQ(state[5].name, "bn1.num_batches_tracked");
  EXPECT_EQ(state[6].name, "layer1.0.conv1.weight");
  EXPECT_EQ(state.back().name, "fc.bias");
  bool found = false;
  for (const NamedTensor& t : state) found = found || t.name == "layer2.0.downsample.1.running_var";
  EXPECT_TRUE(found);
}

TEST(ResNet18, StartsLikeTorchvision) {
  const auto model = make_model("resnet18", {.seed = 3});
  for (const NamedParameter& p : model->parameters()) {
    double squares = 0;
    const auto values = p.variable.value().to_vector<float>();
    for (const float v : values) squares += double(v) * double(v);
    const Shape& s = p.variable.shape();
    if (p.filter) {  // Kaiming normal, fan out
      EXPECT_NEAR(squares / double(values.size()) * double(s[0] * s[1] * s[2]) / 2, 1.0, 0.08) << p.name;
    } else if (p.name == "fc.weight") {  // uniform in +- 1 / sqrt(512)
      EXPECT_NEAR(squares / double(values.size()) * 512 * 3, 1.0, 0.02);
    }
  }
}

// Counted in torchvision's models: blocks whose input is added to their output.
TEST(Models, ResidualBranchesCanBeginAtNothing) {
  const std::pair<const char*, int> branches[] = {{"resnet18", 8},
                                                  {"mobilenet_v3_small", 6},
                                                  {"efficientnet_v2_s", 35},
                                                  {"squeezenet1_1", 0},
                                                  {"shufflenet_v2_x1_0", 0}};
  for (const auto& [name, count] : branches) {
    const std::unique_ptr<Module> model = make_model(name, {.num_classes = 10, .seed = 1});
    EXPECT_EQ(model->zero_residual_branches(), count) << name;
    int zero = 0;
    for (const NamedParameter& p : model->parameters()) {
      const std::vector<float> values = p.variable.value().to_vector<float>();
      const bool scale = p.name.ends_with("weight") && p.variable.shape().rank() == 1;
      if (scale && std::all_of(values.begin(), values.end(), [](float v) { return v == 0; })) ++zero;
    }
    EXPECT_EQ(zero, count) << name;
  }
  // What such a block returns is its input, cut off below 0.
  const std::unique_ptr<Module> model = make_model("resnet18", {.num_classes = 10, .seed = 1});
  Module* const block = model->find("layer1.1");
  ASSERT_NE(block, nullptr);
  const Variable x(random_tensor({2, 4, 4, 64}, 3));
  std::vector<float> expected = x.value().to_vector<float>();
  for (float& v : expected) v = std::max(v, 0.0f);
  EXPECT_NE((*block)(x).value().to_vector<float>(), expected);
  model->zero_residual_branches();
  EXPECT_EQ((*block)(x).value().to_vector<float>(), expected);
}

TEST(Models, AreDeterministicBySeed) {
  const auto a = make_model("resnet18", {.num_classes = 10, .seed = 5}),
             b = make_model("resnet18", {.num_classes = 10, .seed = 5});
  const auto c = make_model("resnet18", {.num_classes = 10, .seed = 6});
  EXPECT_EQ(a->parameters()[0].variable.value().to_vector<float>(),
            b->parameters()[0].variable.value().to_vector<float>());
  EXPECT_NE(a->parameters()[0].variable.value().to_vector<float>(),
            c->parameters()[0].variable.value().to_vector<float>());
}

TEST(Models, UnknownNameNamesTheNearest) {
  try {
    make_model("resnet81", {});
    FAIL();
  } catch (const Error& e) {
    EXPECT_STREQ(e.what(), "there is no model 'resnet81'; nearest: 'resnet18'");
  }
}

TEST(Fuse, EqualsTheUnfusedNetwork) {
  for (const Stem stem : {Stem::imagenet, Stem::cifar}) {
    const auto model = make_model("resnet18", {.num_classes = 10, .stem = stem});
    const Tensor x = random_tensor({2, 32, 32, 3}, 1);
    {
      const NoGrad no_grad;
      model->forward(x);  // moves the running statistics away from their initial values
      model->eval();
      const Tensor plain = model->forward(x).value();
      model->fuse();
      EXPECT_LT(difference(model->forward(x).value(), plain), 1e-4);
      EXPECT_LT(difference(model->forward(x).value(), plain), 1e-4);  // with filters packed by the first call
    }
    model->train();
    EXPECT_TRUE(model->forward(x).requires_grad());
  }
}

TEST(Fuse, NeedsEvaluationMode) {
  const auto model = make_model("resnet18", {.num_classes = 10});
  EXPECT_THROW(model->fuse(), Error);
}

TEST(BatchNorm2d, CountsBatches) {
  BatchNorm2d norm(4);
  RandomSequence random(1);
  norm.initialize(random);
  const Tensor x = random_tensor({3, 5, 5, 4}, 2);
  norm.forward(x);
  norm.forward(x);
  EXPECT_EQ(norm.num_batches_tracked.to_vector<int64_t>()[0], 2);
  norm.eval();
  norm.forward(x);
  EXPECT_EQ(norm.num_batches_tracked.to_vector<int64_t>()[0], 2);
}

}  // namespace
}  // namespace plume::layers_test
