#include "engine/modules/batch_statistics.h"

#include <gtest/gtest.h>

#include "models/registry.h"

namespace plume::batch_statistics_test {
namespace {

Tensor batch_of(const std::vector<float>& values) {
  return Tensor::from(values, {int64_t(values.size()), 1, 1, 1});
}

// Batches with the means 2 and 6 and the unbiased variances 2 and 8.
TEST(BatchStatistics, AreThePlainMeansOverTheBatches) {
  BatchNorm2d norm(1, {.momentum = 0.01f});
  RandomSequence random(1);
  norm.initialize(random);
  norm.train();
  norm(Variable(batch_of({40, 50})));  // training has left its traces
  {
    BatchStatistics statistics(norm);
    statistics.add(Variable(batch_of({1, 3})));
    statistics.add(Variable(batch_of({4, 8})));
  }
  EXPECT_FLOAT_EQ(norm.running_mean.item(), 4);
  EXPECT_FLOAT_EQ(norm.running_var.item(), 5);
  EXPECT_EQ(norm.params.momentum, 0.01f);
  EXPECT_EQ(*norm.num_batches_tracked.data<int64_t>(), 1);
  EXPECT_FALSE(norm.training());
  // They are used from now on, and no batch changes them.
  const float y = norm(Variable(batch_of({4, 9}))).value().to_vector<float>()[0];
  EXPECT_NEAR(y, 0, 1e-6);
  EXPECT_FLOAT_EQ(norm.running_mean.item(), 4);
}

TEST(BatchStatistics, LeaveFrozenNormsAndWeightsAlone) {
  const auto model = make_model("mobilenet_v3_small", {.num_classes = 10, .seed = 2});
  auto* frozen = dynamic_cast<BatchNorm2d*>(model->find("features.0.1"));
  auto* learning = dynamic_cast<BatchNorm2d*>(model->find("features.12.1"));
  ASSERT_TRUE(frozen && learning);
  frozen->weight.set_requires_grad(false);
  std::vector<std::vector<float>> before;
  for (const NamedParameter& p : model->parameters()) before.push_back(p.variable.value().to_vector<float>());
  {
    BatchStatistics statistics(*model);
    RandomSequence random(3);
    std::vector<float> values(4 * 32 * 32 * 3);
    for (float& v : values) v = random.normal();
    statistics.add(Variable(Tensor::from(values, {4, 32, 32, 3})));
  }
  EXPECT_EQ(frozen->running_var.to_vector<float>()[0], 1);
  // Its mean may well be 0: what comes before is normalised.
  EXPECT_NE(learning->running_var.to_vector<float>()[0], 1);
  size_t i = 0;
  for (const NamedParameter& p : model->parameters())
    EXPECT_EQ(p.variable.value().to_vector<float>(), before[i++]) << p.name;
}

}  // namespace
}  // namespace plume::batch_statistics_test
