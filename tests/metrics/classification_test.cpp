// Classification metrics against scikit-learn: fixtures/metrics.safetensors, written by
// fixtures/make_metrics.py.
#include "engine/metrics/classification.h"

#include <gtest/gtest.h>

#include "engine/serialization/safetensors.h"
#include "tests/support/test_support.h"

namespace plume::classification_test {
namespace {

// The fixture is in single precision.
constexpr double kRounding = 1e-7;

TEST(ClassificationTest, EqualsScikitLearn) {
  const SafetensorsFile file(test::fixture("metrics.safetensors"));
  int cases = 0;
  for (; file.find(std::to_string(cases) + ".logits"); ++cases) {
    SCOPED_TRACE(cases);
    const auto read = [&](const std::string& name) {
      return file.read(*file.find(std::to_string(cases) + "." + name)).to_vector<float>();
    };
    const std::vector<float> logits = read("logits"), numbers = read("labels"), scores = read("scores"),
                             per_class = read("per_class");
    const std::vector<int32_t> labels(numbers.begin(), numbers.end());
    const int classes = int(logits.size() / labels.size());
    ClassificationMetrics metrics(classes, int(scores[0]));
    // In two batches: counts add up.
    const size_t half = labels.size() / 2, values = half * size_t(classes);
    metrics.add(std::span(logits).first(values), std::span(labels).first(half));
    metrics.add(std::span(logits).subspan(values), std::span(labels).subspan(half));
    EXPECT_EQ(metrics.count(), int64_t(labels.size()));
    EXPECT_NEAR(metrics.accuracy(), double(scores[1]), kRounding);
    EXPECT_NEAR(metrics.top_k_accuracy(), double(scores[2]), kRounding);
    EXPECT_NEAR(metrics.macro_f1(), double(scores[3]), kRounding);
    for (int c = 0; c < classes; ++c) {
      const size_t row = size_t(c) * 3;
      EXPECT_NEAR(metrics.precision(c), double(per_class[row]), kRounding) << c;
      EXPECT_NEAR(metrics.recall(c), double(per_class[row + 1]), kRounding) << c;
      EXPECT_NEAR(metrics.f1(c), double(per_class[row + 2]), kRounding) << c;
    }
  }
  EXPECT_EQ(cases, 5);
}

// By hand: of ten classes 0 and 1 have labels, 0 and 2 are predicted. F1 of 0 is 2 * 1 / (2 + 2), that of 1
// and 2 is 0; the other seven do not occur. Over all ten the mean would be 0.05.
TEST(ClassificationTest, AClassThatOccursNowhereDoesNotCount) {
  constexpr int kClasses = 10;
  ClassificationMetrics metrics(kClasses);
  EXPECT_EQ(metrics.macro_f1(), 0);
  EXPECT_EQ(metrics.occurring_classes(), 0);
  std::vector<float> logits(4 * kClasses);
  const int predicted[] = {0, 0, 2, 2};
  for (size_t n = 0; n < 4; ++n) logits[n * kClasses + size_t(predicted[n])] = 1;
  metrics.add(logits, std::vector<int32_t>{0, 1, 0, 1});
  EXPECT_EQ(metrics.occurring_classes(), 3);
  EXPECT_DOUBLE_EQ(metrics.macro_f1(), 0.5 / 3);
}

}  // namespace
}  // namespace plume::classification_test
