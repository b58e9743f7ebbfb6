// A block whose squeeze-excitation is one operation with the norm before and the convolution behind
// (ops/batch_norm_excitation.h) trains like one that computes them one after the other, as far as what these
// round to 16 bits on their way allows.
#include <gtest/gtest.h>

#include "engine/autograd/tape.h"
#include "engine/modules/mbconv.h"
#include "engine/ops/batch_norm_excitation.h"
#include "engine/ops/cast.h"
#include "tests/support/networks.h"

namespace plume::excitation_fusion_test {
namespace {

constexpr Device kDevice = Device::simt;

uint64_t joint_runs() {
  uint64_t runs = 0;
  for (int i = 0; i < batch_norm_pool_forward.variant_count(kDevice); ++i)
    if (std::string_view(batch_norm_pool_forward.variant_name(kDevice, i)) != "separate")
      runs += batch_norm_pool_forward.runs(kDevice, i);
  return runs;
}

// Joint whatever the number of pixels, or never.
class Fused {
 public:
  explicit Fused(bool on) { batch_norm_pool_forward.prefer(kDevice, on ? "channel_groups" : "separate"); }
  ~Fused() { batch_norm_pool_forward.prefer(kDevice, ""); }
  Fused(const Fused&) = delete;
  Fused& operator=(const Fused&) = delete;
};

MbConv::Options options(bool expand, int stride) {
  return {.in = expand ? 16 : 32,
          .expanded = 32,
          .out = stride == 1 && !expand ? 32 : 16,
          .kernel = 3,
          .stride = stride,
          .expand = expand,
          .squeezed = 8,
          .squeeze = {Activation::silu, Activation::sigmoid},
          .norm = {.activation = Activation::silu}};
}

Variable values(const Shape& shape, uint64_t seed) {
  RandomSequence random(seed);
  std::vector<float> list(size_t(shape.elements()));
  for (float& v : list) v = random.normal();
  return cast(Variable(Tensor::from(list, shape, kDevice)), DType::bf16);
}

// The output, the input's gradient, the parameters', and running statistics.
using Results = std::vector<std::pair<std::string, Tensor>>;
Results train(const MbConv::Options& o, const char* hooked = nullptr) {
  MbConv block(o);
  RandomSequence random(7);
  block.initialize(random);
  test::disturb_norms(block);
  block.to(kDevice);
  if (hooked) block.find(hooked)->set_forward_hook([](const Variable& y) { return y; });
  const Variable x(values({4, 19, 15, o.in}, 8).value(), true);
  const Variable y = block.forward(x);
  backward(y, values(y.shape(), 9).value());
  Results results{{"y", y.value()}, {"dx", x.grad()}};
  for (const NamedParameter& p : block.parameters())
    results.emplace_back("gradient of " + p.name, p.variable.grad());
  for (const NamedTensor& t : block.state())
    if (t.tensor->dtype() == DType::f32) results.emplace_back(t.name, *t.tensor);
  return results;
}

TEST(ExcitationFusion, TrainsLikeTheOperationsApart) {
  constexpr double kTolerance = 0x1p-5;  // of the largest value of a tensor
  for (const auto& [expand, stride] : {std::pair{true, 1}, {true, 2}, {false, 1}}) {
    const MbConv::Options o = options(expand, stride);
    const auto run = [&](bool fused) {
      const Fused choice(fused);
      const uint64_t before = joint_runs();
      Results results = train(o);
      EXPECT_EQ(joint_runs() - before, fused ? 1u : 0u);
      return results;
    };
    const Results joint = run(true), again = run(true), apart = run(false);
    ASSERT_EQ(joint.size(), apart.size());
    for (size_t i = 0; i < joint.size(); ++i) {
      EXPECT_LE(test::relative_difference(joint[i].second, apart[i].second), kTolerance) << joint[i].first;
      EXPECT_EQ(test::relative_difference(joint[i].second, again[i].second), 0) << joint[i].first;
    }
  }
}

// Whoever hooks into the squeeze-excitation, or into what lies around it, wants to see an output.
TEST(ExcitationFusion, LeavesHookedLayersAlone) {
  const Fused choice(true);
  for (const char* hooked : {"block.1", "block.2", "block.3", "block.3.0"}) {
    const uint64_t before = joint_runs();
    train(options(true, 1), hooked);
    EXPECT_EQ(joint_runs(), before) << hooked;
  }
}

// Of few pixels the operations apart are fewer launches.
TEST(ExcitationFusion, LeavesFewPixelsApart) {
  const uint64_t before = joint_runs();
  train(options(true, 1));
  EXPECT_EQ(joint_runs(), before);
}

}  // namespace
}  // namespace plume::excitation_fusion_test
