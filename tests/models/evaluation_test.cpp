// Every network in evaluation, on every device here: fused like unfused, 16 bits like 32.
#include <gtest/gtest.h>

#include "engine/ops/cast.h"
#include "engine/profiler/kernel_counts.h"
#include "models/registry.h"
#include "tests/support/networks.h"

namespace plume::evaluation_test {
namespace {

constexpr double kFusedTolerance = 1e-4;
// Of a network's logits, relative to the largest. A value of bf16 has 8 digits: one rounding errs by up to
// 0.4 %, and what 20 to 100 layers round adds up like a random walk. f16 has 11.
constexpr double kBf16Tolerance = 5e-2, kF16Tolerance = 8e-3;

struct Case {
  std::string network;
  Device device;
  Stem stem = Stem::imagenet;
};

class Evaluation : public testing::TestWithParam<Case> {
 protected:
  Evaluation() : model_(make_model(GetParam().network, {10, GetParam().stem, 2})) {
    test::disturb_norms(*model_);
    model_->to(GetParam().device);
    model_->eval();
    const int batch = GetParam().device == Device::simt ? 1 : 2;
    images_ = Variable(test::random_images(batch, 32).to(GetParam().device));
  }
  Tensor logits(DType dtype) const { return model_->forward(cast(images_, dtype)).value(); }

  const NoGrad no_grad_;
  std::unique_ptr<Module> model_;
  Variable images_;
};

TEST_P(Evaluation, FusedEqualsUnfused) {
  const Tensor unfused = logits(DType::f32);
  model_->fuse();
  const Tensor fused = logits(DType::f32);
  EXPECT_LE(test::relative_difference(fused, unfused), kFusedTolerance);
  if (!GetParam().network.starts_with("squeezenet")) {  // which has no norms to fold
    EXPECT_NE(fused.to_vector<float>(), unfused.to_vector<float>());
  }
  model_->train();
  model_->eval();  // undoes fusion
  EXPECT_EQ(logits(DType::f32).to_vector<float>(), unfused.to_vector<float>());
}

TEST_P(Evaluation, SixteenBitsStayNearThirtyTwo) {
  const Tensor exact = logits(DType::f32);
  model_->fuse();
  for (const DType dtype : {DType::bf16, DType::f16}) {
    const Tensor rounded = logits(dtype);
    EXPECT_EQ(rounded.dtype(), dtype);
    const double difference = test::relative_difference(rounded, exact);
    EXPECT_LE(difference, dtype == DType::bf16 ? kBf16Tolerance : kF16Tolerance) << name(dtype);
    EXPECT_GT(difference, 1e-6) << name(dtype);  // it was not computed in f32
    std::printf("%s: %.1e\n", name(dtype), difference);
  }
}

std::vector<Case> cases() {
  std::vector<Case> all;
  for (const std::string& network : model_names())
    for (const Device device : {Device::cpu, Device::simt}) {
      // One of each pair of siblings is enough for the emulator.
      const bool sibling = network == "squeezenet1_0" || network == "shufflenet_v2_x0_5";
      if (sibling && device == Device::simt) continue;
      all.push_back({network, device});
      if (device == Device::cpu) all.push_back({network, device, Stem::cifar});
    }
  return all;
}

// ShuffleNetV2's padded rows (models/README.md) stay its own affair, and change no bit.
TEST(PaddedChannels, AreNotSeenByHooks) {
  const NoGrad no_grad;
  const auto model = make_model("shufflenet_v2_x1_0", {10, Stem::imagenet, 2});
  test::disturb_norms(*model);
  model->to(Device::simt);
  model->eval();
  model->fuse();
  const Variable images = cast(Variable(test::random_images(1, 32).to(Device::simt)), DType::f16);
  const auto launches = [] { return kernel_counter(Device::simt).launches(); };
  model->forward(images);  // what is made once
  const uint64_t first = launches();
  const Tensor padded = model->forward(images).value();
  const uint64_t second = launches();
  std::vector<int64_t> channels;
  for (const char* name : {"stage2", "stage3", "stage3.0.branch1"})
    model->find(name)->set_forward_hook([&](const Variable& y) {
      channels.push_back(y.dim(-1));
      return y;
    });
  const Tensor watched = model->forward(images).value();
  EXPECT_EQ(channels, (std::vector<int64_t>{116, 116, 232}));
  EXPECT_EQ(cast(Variable(padded), DType::f32).value().to_vector<float>(),
            cast(Variable(watched), DType::f32).value().to_vector<float>());
  EXPECT_LT(second - first, launches() - second);  // they were not computed alike
}

INSTANTIATE_TEST_SUITE_P(Networks, Evaluation, testing::ValuesIn(cases()), [](const auto& one) {
  return one.param.network + "_" + to_string(one.param.device) +
         (one.param.stem == Stem::cifar ? "_cifar" : "");
});

}  // namespace
}  // namespace plume::evaluation_test
