// Norms that the next convolution computes (ops/batch_norm_conv.h): the networks train like those that
// compute every norm alone, bit for bit on the cpu, nearly so in 16 bits on a GPU. And norms that are pooled
// at once (ops/batch_norm_max_pool.h).
#include <gtest/gtest.h>

#include "engine/autograd/tape.h"
#include "engine/modules/mbconv.h"
#include "engine/ops/batch_norm_conv.h"
#include "engine/ops/batch_norm_max_pool.h"
#include "engine/ops/cast.h"
#include "engine/ops/first_layer.h"
#include "tests/support/networks.h"

namespace plume::norm_fusion_test {
namespace {

// How often the variants ran whose name `counts`.
template <class F>
uint64_t runs_where(const KernelSlotBase& slot, Device device, F&& counts) {
  uint64_t runs = 0;
  for (int i = 0; i < slot.variant_count(device); ++i)
    if (counts(std::string_view(slot.variant_name(device, i)))) runs += slot.runs(device, i);
  return runs;
}
uint64_t runs_beside_separate(const KernelSlotBase& slot = batch_norm_conv_forward,
                              Device device = Device::cpu) {
  return runs_where(slot, device, [](std::string_view name) { return name != "separate"; });
}

MbConv::Options with_expanded(int channels) {
  return {.in = 16,
          .expanded = channels,
          .out = 16,
          .kernel = 3,
          .stride = 1,
          .norm = {.activation = Activation::hardswish}};
}
void initialize(Module& module) {
  RandomSequence random(7);
  module.initialize(random);
}

class Unfused {
 public:
  Unfused() { force_variants("batch_norm_conv.forward=separate"); }
  ~Unfused() { force_variants("batch_norm_conv.forward="); }
  Unfused(const Unfused&) = delete;
  Unfused& operator=(const Unfused&) = delete;
};

class NormFusion : public testing::TestWithParam<const char*> {};

TEST_P(NormFusion, ChangesNoBitOfATrainingStep) {
  const uint64_t before = runs_beside_separate();
  const test::NamedValues fused = test::training_step_values(GetParam());
  const uint64_t with = runs_beside_separate();
  const Unfused unfused;
  const test::NamedValues alone = test::training_step_values(GetParam());
  EXPECT_EQ(runs_beside_separate(), with);
  // ResNet18 has dense convolutions only, which are not fused with AVX2's blocked layouts.
  EXPECT_TRUE(with > before || GetParam() == std::string_view("resnet18"));
  ASSERT_EQ(fused.size(), alone.size());
  for (size_t i = 0; i < fused.size(); ++i) EXPECT_TRUE(fused[i] == alone[i]) << fused[i].first;
}

INSTANTIATE_TEST_SUITE_P(Networks, NormFusion,
                         testing::Values("resnet18", "mobilenet_v3_small", "shufflenet_v2_x1_0",
                                         "efficientnet_v2_s"),
                         [](const auto& one) { return std::string(one.param); });

// Whoever hooks into a layer sees what its norm returns.
TEST(NormFusionTest, LeavesHookedLayersAlone) {
  Tensor seen;
  const auto output = [&](const char* hooked) {
    MbConv block(with_expanded(32));
    initialize(block);
    if (hooked)
      block.find(hooked)->set_forward_hook([&](const Variable& y) {
        seen = y.value();
        return y;
      });
    RandomSequence values(8);
    std::vector<float> x(2 * 12 * 12 * 16);
    for (float& v : x) v = values.normal();
    const uint64_t before = runs_beside_separate();
    const std::vector<float> y = block.forward(Tensor::from(x, {2, 12, 12, 16})).value().to_vector<float>();
    EXPECT_EQ(runs_beside_separate() > before, !hooked);
    return y;
  };
  const std::vector<float> alone = output(nullptr);
  for (const char* layer : {"block.0", "block.1"}) {
    seen = Tensor();
    EXPECT_EQ(output(layer), alone) << layer;
    ASSERT_TRUE(seen.defined()) << layer;
    EXPECT_EQ(seen.shape(), (Shape{2, 12, 12, 32})) << layer;
  }
}

// What a stem in 16 bits returns, its running statistics and the gradients of its norm. (Not that of the
// convolution: where the norm is pooled at once another one of maxima that rounding made equal has it.)
class PooledStem {
 public:
  PooledStem() {
    initialize(layer_);
    layer_.to(Device::simt);
  }
  ConvNormAct& layer() { return layer_; }
  std::vector<Tensor> step(int size) {
    const Variable images = cast(test::random_images(4, size).to(Device::simt), DType::bf16);
    const Variable y = layer_.forward_pooled(images, {.window = 3, .stride = 2, .padding = 1});
    backward(y, y.value());
    std::vector<Tensor> results{y.value()};
    for (const NamedTensor& t : layer_.state())
      if (t.name.starts_with("1.running")) results.push_back(*t.tensor);
    for (const NamedParameter& p : layer_.parameters())
      if (p.name.starts_with("1.")) results.push_back(p.variable.grad());
    return results;
  }

 private:
  ConvNormAct layer_{3, 24, 3, {.stride = 2, .norm = {.activation = Activation::relu}}};
};

uint64_t pooled_runs() { return runs_beside_separate(batch_norm_max_pool_forward, Device::simt); }

TEST(NormFusionTest, StemsArePooledAtOnce) {
  uint64_t before = pooled_runs();
  const std::vector<Tensor> fused = PooledStem().step(70);
  EXPECT_EQ(pooled_runs(), ++before);
  force_variants("batch_norm_max_pool.forward=separate");
  const std::vector<Tensor> alone = PooledStem().step(70);
  force_variants("batch_norm_max_pool.forward=");
  EXPECT_EQ(pooled_runs(), before);
  ASSERT_EQ(fused.size(), size_t(5));
  for (size_t i = 0; i < fused.size(); ++i)
    EXPECT_LE(test::relative_difference(fused[i], alone[i]), 1e-2) << i;
}

// The gradient of a network's first convolution, made with that of its norm, pooled or not.
TEST(NormFusionTest, FirstLayersHaveTheirGradientsAtOnce) {
  const auto step = [](const ConvNormAct::Options& options, int filters, bool pooled) {
    ConvNormAct layer(3, filters, 3, options);
    initialize(layer);
    layer.to(Device::simt);
    const Variable images = cast(test::random_images(4, 70).to(Device::simt), DType::bf16);
    const Variable y = pooled ? layer.forward_pooled(images, {.window = 3, .stride = 2, .padding = 1})
                              : layer.forward(images);
    backward(y, y.value());
    std::vector<Tensor> results{y.value()};
    for (const NamedParameter& p : layer.parameters()) results.push_back(p.variable.grad());
    return results;
  };
  for (const bool pooled : {false, true}) {
    const ConvNormAct::Options options{.stride = 2,
                                       .norm = {.activation = pooled ? Activation::relu : Activation::silu}};
    uint64_t before = runs_beside_separate(first_layer_backward, Device::simt);
    const std::vector<Tensor> fused = step(options, 24, pooled);
    EXPECT_EQ(runs_beside_separate(first_layer_backward, Device::simt), before + 1);
    force_variants("first_layer.backward=separate");
    const std::vector<Tensor> alone = step(options, 24, pooled);
    force_variants("first_layer.backward=");
    EXPECT_EQ(runs_beside_separate(first_layer_backward, Device::simt), before + 1);
    ASSERT_EQ(fused.size(), size_t(4));
    for (size_t i = 0; i < fused.size(); ++i)
      EXPECT_LE(test::relative_difference(fused[i], alone[i]), 5e-3) << pooled << ", " << i;
  }
}

// Whoever hooks into a layer sees what it returns; in evaluation nothing is pooled at once.
TEST(NormFusionTest, WatchedStemsArePooledApart) {
  const uint64_t before = pooled_runs();
  PooledStem stem;
  Tensor seen;
  stem.layer().set_forward_hook([&](const Variable& y) {
    seen = y.value();
    return y;
  });
  stem.step(30);
  EXPECT_EQ(seen.shape(), (Shape{4, 15, 15, 24}));
  stem.layer().set_forward_hook({});
  stem.layer().eval();
  stem.step(30);
  EXPECT_EQ(pooled_runs(), before);
}

// The output and all gradients of a block whose depthwise convolution, or whose 1x1 behind it, computes the
// norm before it.
TEST(NormFusionTest, IsNearlyTheSameIn16Bits) {
  constexpr Device kDevice = Device::simt;
  const auto results = [&](const char* variant, uint64_t& runs) {
    const auto runs_now = [&] {
      return runs_where(batch_norm_conv_forward, kDevice,
                        [&](std::string_view name) { return name == variant; });
    };
    MbConv block(with_expanded(48));
    initialize(block);
    block.to(kDevice);
    RandomSequence values(8);
    std::vector<float> x(2 * 24 * 24 * 16);
    for (float& v : x) v = values.normal();
    const uint64_t before = runs_now();
    batch_norm_conv_forward.prefer(kDevice, variant);
    const Variable images = cast(Variable(Tensor::from(x, {2, 24, 24, 16}, kDevice)), DType::f16);
    const Variable y = block.forward(images);
    batch_norm_conv_forward.prefer(kDevice, "");
    backward(y, images.value());
    runs = runs_now() - before;
    std::vector<Tensor> all{cast(Variable(y.value()), DType::f32).value()};
    for (const NamedParameter& p : block.parameters()) all.push_back(p.variable.grad());
    return all;
  };
  uint64_t runs = 0;
  const std::vector<Tensor> alone = results("separate", runs);
  EXPECT_EQ(runs, 0u);
  for (const char* variant : {"wide_stream", "stream", "tensor_core"}) {
    const std::vector<Tensor> fused = results(variant, runs);
    EXPECT_EQ(runs, 1u) << variant;
    ASSERT_EQ(fused.size(), alone.size());
    for (size_t i = 0; i < fused.size(); ++i)
      EXPECT_LT(test::relative_difference(fused[i], alone[i]), 0x1p-9) << variant << ", " << i;
  }
}

}  // namespace
}  // namespace plume::norm_fusion_test
