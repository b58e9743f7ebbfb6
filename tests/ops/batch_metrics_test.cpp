#include "engine/ops/batch_metrics.h"

#include <gtest/gtest.h>

#include <cmath>

#include "engine/ops/cast.h"
#include "tests/support/check_op.h"
#include "tests/support/coverage.h"

namespace plume::test {
namespace {

struct BatchSums {
  double loss, correct, images;
};

// By every variant of the device; they must agree.
BatchSums batch_sums(Device device, const std::vector<float>& logits, int64_t classes,
                     const std::vector<int32_t>& labels, int times = 1, DType dtype = DType::f32) {
  const int64_t rows = int64_t(logits.size()) / classes;
  const Tensor loss = Tensor::from(std::vector<float>{1.5f}, {1}, device);
  const Tensor z = cast(Variable(Tensor::from(logits, {rows, classes}, device)), dtype).value();
  const Tensor l = labels.empty() ? Tensor() : Tensor::from(labels, {rows}, device);
  BatchSums found{};
  for (int i = 0; i < batch_metrics_forward.variant_count(device); ++i) {
    const std::string variant = batch_metrics_forward.variant_name(device, i);
    batch_metrics_forward.force(device, variant);
    remember_run(batch_metrics_forward.name(), device, variant);
    Tensor sums = batch_metrics_sums(device);
    for (int n = 0; n < times; ++n) batch_metrics(loss, z, l, sums);
    const Tensor host = sums.to(Device::cpu);
    const auto* const values = static_cast<const double*>(host.raw());
    found = {values[0], values[1], values[2]};
    batch_metrics_forward.force(device, "");
  }
  return found;
}

TEST(BatchMetricsTest, TiesNaNAndInfinities) {
  const float nan = NAN, inf = INFINITY;
  const std::vector<float> logits{1,    2,   3,    //
                                  5,    5,   4,    // a tie: the first
                                  nan,  1,   0,    // NaN is not the largest
                                  nan,  nan, nan,  // nothing is
                                  -inf, inf, 0,    //
                                  -3,   -2,  -1};
  for (const Device device : devices_under_test()) {
    for (const DType dtype : {DType::f32, DType::bf16, DType::f16})
      EXPECT_EQ(batch_sums(device, logits, 3, {2, 0, 1, 0, 1, 2}, 1, dtype).correct, 5) << name(device);
    EXPECT_EQ(batch_sums(device, logits, 3, {0, 1, 0, 2, 2, 0}).correct, 0) << name(device);
  }
}

TEST(BatchMetricsTest, ManyRowsAndClasses) {
  constexpr int64_t kRows = 67;
  for (const int64_t classes : {int64_t(1), int64_t(31), int64_t(33), int64_t(1000)}) {
    std::vector<float> logits(size_t(kRows * classes), -1.0f);
    std::vector<int32_t> labels;
    int correct = 0;
    for (int64_t n = 0; n < kRows; ++n) {
      const int64_t top = n * 37 % classes;
      logits[size_t(n * classes + top)] = float(n);
      labels.push_back(int32_t(n % 3 ? top : (top + 1) % classes));
      correct += labels.back() == int32_t(top);
    }
    for (const Device device : devices_under_test())
      EXPECT_EQ(batch_sums(device, logits, classes, labels).correct, correct) << name(device) << classes;
  }
}

TEST(BatchMetricsTest, AddsUp) {
  for (const Device device : devices_under_test()) {
    const BatchSums sums = batch_sums(device, {0, 1, 1, 0, 0, 2}, 2, {1, 0, 0}, 3);
    EXPECT_EQ(sums.loss, 3 * 3 * 1.5) << name(device);
    EXPECT_EQ(sums.correct, 6) << name(device);
    EXPECT_EQ(sums.images, 9) << name(device);
  }
}

TEST(BatchMetricsTest, WithoutLabelsNothingIsCorrect) {
  for (const Device device : devices_under_test()) {
    const BatchSums sums = batch_sums(device, {0, 1, 1, 0}, 2, {});
    EXPECT_EQ(sums.correct, 0) << name(device);
    EXPECT_EQ(sums.images, 2) << name(device);
  }
}

TEST(BatchMetricsTest, OddArgumentsAreRefused) {
  Tensor sums = batch_metrics_sums(Device::cpu);
  const Tensor loss = Tensor::zeros({1}, DType::f32, Device::cpu),
               logits = Tensor::zeros({2, 3}, DType::f32, Device::cpu);
  EXPECT_THROW(batch_metrics(logits, logits, {}, sums), Error);
  EXPECT_THROW(batch_metrics(loss, loss, {}, sums), Error);
  EXPECT_THROW(batch_metrics(loss, Tensor::zeros({2, 3}, DType::i32, Device::cpu), {}, sums), Error);
  EXPECT_THROW(batch_metrics(loss, logits, Tensor::zeros({3}, DType::i32, Device::cpu), sums), Error);
  Tensor short_sums = loss.clone();
  EXPECT_THROW(batch_metrics(loss, logits, {}, short_sums), Error);
}

}  // namespace
}  // namespace plume::test
