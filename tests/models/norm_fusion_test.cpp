// Norms that the next convolution computes (ops/batch_norm_conv.h): the networks train like those that
// compute every norm alone, bit for bit on the cpu.
#include <gtest/gtest.h>

#include "engine/modules/mbconv.h"
#include "engine/ops/batch_norm_conv.h"
#include "tests/support/networks.h"

namespace plume::norm_fusion_test {
namespace {

uint64_t runs_beside_separate() {
  uint64_t runs = 0;
  for (int i = 0; i < batch_norm_conv_forward.variant_count(Device::cpu); ++i)
    if (std::string_view(batch_norm_conv_forward.variant_name(Device::cpu, i)) != "separate")
      runs += batch_norm_conv_forward.runs(Device::cpu, i);
  return runs;
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
    MbConv block({.in = 16,
                  .expanded = 32,
                  .out = 16,
                  .kernel = 3,
                  .stride = 1,
                  .norm = {.activation = Activation::hardswish}});
    RandomSequence random(7);
    block.initialize(random);
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

}  // namespace
}  // namespace plume::norm_fusion_test
