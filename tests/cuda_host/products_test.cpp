// Products through cuBLASLt: which of its algorithms stays, and what becomes of a bias.
#include <gmock/gmock.h>

#include <array>
#include <utility>

#include "engine/core/graph.h"
#include "engine/core/half.h"
#include "engine/memory/allocator.h"
#include "engine/ops/cast.h"
#include "engine/ops/conv2d.h"
#include "engine/ops/epilogue.h"
#include "engine/ops/linear.h"
#include "tests/cuda_host/on_stand_in.h"

namespace plume::test::products_test {
namespace {

using testing::ElementsAre;

class ProductsTest : public OnStandIn {
 protected:
  ~ProductsTest() override { ctx().deterministic = false; }
  static Context& ctx() { return context(Device::cuda); }

  // y [3, 8] of `depth` ones times two; each test has its own depth, so that each makes its own plan.
  struct Product {
    Tensor x, w, y;
  };
  static Product product(int64_t depth, DType type = DType::f32) {
    const auto filled = [&](const Shape& shape, float value) {
      const Tensor t = Tensor::from(std::vector<float>(size_t(shape.elements()), value), shape, Device::cuda);
      Tensor converted = Tensor::empty(shape, type, Device::cuda);
      cast_forward(ctx(), t, converted);
      return converted;
    };
    return {filled({3, depth}, 1), filled({8, depth}, 2), Tensor::empty({3, 8}, type, Device::cuda)};
  }
  static void run(Product& p, const Epilogue& epilogue = {}) {
    linear_forward(ctx(), p.x, p.w, epilogue, p.y);
  }

  // How often each algorithm ran since the last question.
  std::array<uint64_t, 3> ran() {
    const std::array<uint64_t, 3> now = counts().products, before = std::exchange(seen_, now);
    return {now[0] - before[0], now[1] - before[1], now[2] - before[2]};
  }
  template <class Slot>
  static uint64_t runs(const Slot& slot) {
    uint64_t all = 0;
    for (int i = 0; i < slot.variant_count(Device::cuda); ++i) all += slot.runs(Device::cuda, i);
    return all;
  }

 private:
  std::array<uint64_t, 3> seen_{};
};

TEST_F(ProductsTest, TheFastestAlgorithmStays) {
  Product p = product(72);
  run(p);
  EXPECT_THAT(ran(), ElementsAre(4, 5, 4)) << "each once and three times by the clock, then the fastest";
  run(p);
  EXPECT_THAT(ran(), ElementsAre(0, 1, 0));
  EXPECT_EQ(p.y.to_vector<float>(), std::vector<float>(24, 144.0f));
}

TEST_F(ProductsTest, DeterministicTakesTheFirst) {
  Product p = product(32);
  run(p);
  ran();
  ctx().deterministic = true;
  run(p);
  run(p);
  EXPECT_THAT(ran(), ElementsAre(2, 0, 0));
}

TEST_F(ProductsTest, NothingIsTimedInARecording) {
  Product p = product(40);
  linear_forward.choose(ctx(), p.x, p.w, {}, p.y);  // makes the plan
  StepGraph graph;
  graph.capture(ctx(), [&] { run(p); });
  EXPECT_THAT(ran(), ElementsAre(1, 0, 0));
  graph.replay();
  EXPECT_EQ(p.y.to_vector<float>(), std::vector<float>(24, 80.0f));
  run(p);
  EXPECT_THAT(ran(), ElementsAre(4, 5, 4));
}

TEST_F(ProductsTest, WithoutScratchMemoryTheOneThatNeedsNoneRuns) {
  Product p = product(48);
  device_allocator(Device::cuda).release_cached();
  stand_in_control().fail_malloc(1);
  run(p);
  EXPECT_THAT(ran(), ElementsAre(0, 0, 5));
  stand_in_control().fail_malloc(0);
  run(p);
  EXPECT_THAT(ran(), ElementsAre(4, 5, 4)) << "all are timed again";
  EXPECT_EQ(p.y.to_vector<float>(), std::vector<float>(24, 96.0f));
}

// y = round(sum + round(bias)): no f32 sums, and no kernel of ours behind them.
TEST_F(ProductsTest, ABiasIsFusedIn16Bits) {
  Product p = product(56, DType::bf16);
  const Epilogue epilogue{.shift = Tensor::from(std::vector<float>(8, 1.00390625f), {8}, Device::cuda)};
  const uint64_t epilogues = runs(epilogue_apply), casts = runs(cast_forward);
  run(p, epilogue);
  EXPECT_EQ(runs(epilogue_apply), epilogues);
  EXPECT_EQ(runs(cast_forward), casts + 1);
  for (const bf16 v : p.y.to_vector<bf16>())
    EXPECT_EQ(float(v), float(bf16(112.0f + float(bf16(1.00390625f)))));
}

TEST_F(ProductsTest, TheBiasOfAConstantFilterIsConvertedOnce) {
  Product p = product(64, DType::bf16);
  const Tensor x = p.x.reshape({1, 3, 1, 64}), w = p.w.reshape({8, 1, 1, 64});
  Tensor y = p.y.reshape({1, 3, 1, 8});
  const Epilogue epilogue{.shift = Tensor::from(std::vector<float>(8, 3), {8}, Device::cuda)};
  PackedFilter packed;
  const uint64_t casts = runs(cast_forward);
  conv2d_forward.force(Device::cuda, "cublaslt_1x1");
  for (int i = 0; i < 3; ++i) conv2d_forward(ctx(), x, w, {.packed = &packed}, epilogue, y);
  conv2d_forward.force(Device::cuda, "");
  EXPECT_EQ(runs(cast_forward), casts + 1);
  for (const bf16 v : y.to_vector<bf16>()) EXPECT_EQ(float(v), 131.0f);
}

// dw = dy^T x, as the optimiser wants it.
TEST_F(ProductsTest, AFilterGradientOf16BitsIsF32) {
  const Product p = product(80, DType::bf16);
  Tensor dw = Tensor::empty({8, 80}, DType::f32, Device::cuda);
  const Tensor dy = product(8, DType::bf16).x;
  EXPECT_STREQ(linear_backward_weight.choose(ctx(), p.x, dy, dw), "cublaslt");
  linear_backward_weight(ctx(), p.x, dy, dw);
  EXPECT_EQ(dw.to_vector<float>(), std::vector<float>(640, 3.0f));
}

}  // namespace
}  // namespace plume::test::products_test
