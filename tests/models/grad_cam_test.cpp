// Grad-CAM against PyTorch: fixtures/grad_cam.safetensors, written by fixtures/make_grad_cam.py.
#include "models/grad_cam.h"

#include <gtest/gtest.h>

#include <cmath>

#include "engine/serialization/weights.h"
#include "models/registry.h"
#include "tests/support/networks.h"
#include "tests/support/test_support.h"

namespace plume::grad_cam_test {
namespace {

class GradCamTest : public testing::TestWithParam<std::string> {};

TEST_P(GradCamTest, EqualsPyTorch) {
  const std::string name = GetParam();
  const Weights file = open_weights(test::fixture("grad_cam.safetensors"));
  const auto read = [&](const std::string& entry) {
    const WeightTensor* tensor = find_tensor(file.tensors, name + "." + entry);
    EXPECT_NE(tensor, nullptr) << entry;
    return tensor->read();
  };
  const Tensor want = read("maps");
  const std::vector<float> numbers = read("classes").to_vector<float>();
  const auto model = make_model(name, {});
  test::set_fixture_state(*model);
  model->eval();
  const Tensor images = test::fixture_images("input96.7", 2, 96);
  const GradCam found =
      grad_cam(*model, grad_cam_layer(name), images, std::vector<int>{int(numbers[0]), int(numbers[1])});
  ASSERT_EQ(found.maps.shape(), want.shape());
  EXPECT_LT(test::relative_difference(found.maps, want), 1e-4);
  // The first image's class is its best one.
  EXPECT_EQ(grad_cam(*model, grad_cam_layer(name), images).explained[0], int(numbers[0]));
  // Nothing is left behind: neither a hook nor gradients.
  for (const NamedParameter& p : model->parameters()) EXPECT_FALSE(p.variable.grad().defined()) << p.name;
  EXPECT_TRUE((*model)(Variable(images)).requires_grad());
}

INSTANTIATE_TEST_SUITE_P(Networks, GradCamTest, testing::ValuesIn(model_names()),
                         [](const auto& network) { return network.param; });

std::string refusal(const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::usage);
    return error.what();
  }
  return "";
}

TEST(GradCamRefusalTest, SaysWhatIsWrong) {
  const auto model = make_model("squeezenet1_1", {.num_classes = 4});
  const Tensor images = test::random_images(1, 32);
  const auto explain = [&](const std::string& layer, std::vector<int> classes) {
    return refusal([&] { grad_cam(*model, layer, images, classes); });
  };
  const auto expect = [](const std::string& text, const char* part) {
    EXPECT_NE(text.find(part), std::string::npos) << text;
  };
  expect(explain("features.12", {}), "training mode");
  model->eval();
  expect(explain("features.99", {}), "no layer 'features.99'");
  expect(explain("", {}), "no layer ''");
  const auto other = make_model("resnet18", {.num_classes = 4});
  other->eval();
  // Called, but after the pooling; and computed together with its norm, so never called.
  for (const char* layer : {"fc", "bn1"})
    expect(refusal([&] { grad_cam(*other, layer, images); }), "gives no plane of activations");
  expect(explain("features.12", {4}), "class 4 of 4");
  expect(explain("features.12", {-1}), "class -1");
  expect(explain("features.12", {0, 1}), "2 classes for 1 images");
  model->fuse();
  expect(explain("features.12", {}), "fused");
  expect(refusal([] { grad_cam_layer("resnet"); }), "resnet18");
}

}  // namespace
}  // namespace plume::grad_cam_test
