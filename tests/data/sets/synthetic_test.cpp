#include "data/sets/synthetic.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "engine/core/error.h"
#include "engine/core/random.h"

namespace plume::data::synthetic_test {
namespace {

constexpr size_t kFeatures = size_t(kSyntheticSize) * kSyntheticSize * kChannels;

std::shared_ptr<const Dataset> make(Split split, int64_t count, int threads = 0, uint64_t seed = 1) {
  return make_synthetic(split, {.count = count, .seed = seed, .threads = threads});
}

// The bytes are part of the promise: results on this set are compared between machines and versions.
TEST(Synthetic, SameBytesForAnyNumberOfThreads) {
  for (const int threads : {1, 2, 3, 16}) {
    EXPECT_EQ(make(Split::train, 500, threads)->fingerprint(), "2c57f9a6ee3aacfe") << threads;
    EXPECT_EQ(make(Split::test, 500, threads)->fingerprint(), "cee3c4855b30d8db") << threads;
  }
  EXPECT_NE(make(Split::train, 500, 1, 2)->fingerprint(), make(Split::train, 500)->fingerprint());
}

TEST(Synthetic, ImagesDoNotDependOnTheCount) {
  const auto few = make(Split::train, 30), many = make(Split::train, 100);
  for (int64_t i = 0; i < few->size(); ++i) {
    const Sample a = few->get(i), b = many->get(i);
    ASSERT_EQ(a.label, b.label);
    ASSERT_TRUE(std::equal(a.pixels.begin(), a.pixels.end(), b.pixels.begin()));
  }
}

TEST(Synthetic, ImagesAreDistinctAndClassesBalanced) {
  std::set<uint64_t> seen;
  std::vector<int> per_class(kSyntheticClasses);
  for (const Split split : {Split::train, Split::test}) {
    const auto set = make(split, 1000);
    for (int64_t i = 0; i < set->size(); ++i) {
      const Sample sample = set->get(i);
      seen.insert(hash_bytes(sample.pixels));
      ++per_class[size_t(sample.label)];
    }
  }
  EXPECT_EQ(seen.size(), 2000u);
  for (const int count : per_class) EXPECT_EQ(count, 200);
}

TEST(Synthetic, StatisticsAreTheMeasuredOnes) {
  const auto set = make(Split::train, 4000);
  for (size_t c = 0; c < kChannels; ++c) {
    double sum = 0, squares = 0;
    for (int64_t i = 0; i < set->size(); ++i) {
      const Sample sample = set->get(i);
      for (size_t p = c; p < kFeatures; p += kChannels) {
        const double value = sample.pixels[p] / 255.0;
        sum += value;
        squares += value * value;
      }
    }
    const double count = double(set->size()) * kFeatures / kChannels, mean = sum / count;
    EXPECT_NEAR(mean, double(set->statistics().mean[c]), 0.02);
    EXPECT_NEAR(std::sqrt(squares / count - mean * mean), double(set->statistics().std[c]), 0.02);
  }
}

TEST(Synthetic, DefaultsAndLimits) {
  EXPECT_EQ(make(Split::test, 0)->size(), kSyntheticTestCount);
  EXPECT_EQ(make(Split::train, 1)->size(), 1);
  EXPECT_EQ(make(Split::train, 1)->classes(), kSyntheticClasses);
  EXPECT_THROW(make(Split::train, -1), Error);
  EXPECT_THROW(make(Split::val, 1), Error);
  EXPECT_THROW(make(Split::train, 1'000'000'000'000), Error);
}

// A softmax over a linear map of the features, trained by stochastic gradient descent.
class LinearClassifier {
 public:
  explicit LinearClassifier(size_t features)
      : weights_((features + 1) * kSyntheticClasses), features_(features) {}

  int predict(const float* x) const {
    const auto scores = score(x);
    return int(std::max_element(scores.begin(), scores.end()) - scores.begin());
  }
  void step(const float* x, int label, float learning_rate) {
    auto scores = score(x);
    const float largest = *std::max_element(scores.begin(), scores.end());
    float sum = 0;
    for (float& s : scores) sum += s = std::exp(s - largest);
    for (size_t k = 0; k < kSyntheticClasses; ++k) {
      const float gradient = learning_rate * (scores[k] / sum - (int(k) == label ? 1.0f : 0.0f));
      float* w = row(k);
      for (size_t i = 0; i < features_; ++i) w[i] -= gradient * x[i];
      w[features_] -= gradient;
    }
  }

 private:
  float* row(size_t k) { return weights_.data() + k * (features_ + 1); }
  std::array<float, kSyntheticClasses> score(const float* x) const {
    std::array<float, kSyntheticClasses> scores{};
    for (size_t k = 0; k < kSyntheticClasses; ++k) {
      const float* w = weights_.data() + k * (features_ + 1);
      float sums[8] = {};
      size_t i = 0;
      for (; i + 8 <= features_; i += 8)
        for (size_t lane = 0; lane < 8; ++lane) sums[lane] += w[i + lane] * x[i + lane];
      for (; i < features_; ++i) sums[0] += w[i] * x[i];
      for (const float s : sums) scores[k] += s;
      scores[k] += w[features_];
    }
    return scores;
  }

  std::vector<float> weights_;
  size_t features_;
};

using Features = std::vector<std::vector<float>>;

template <class F>
Features features_of(const Dataset& set, F&& extract) {
  Features all;
  for (int64_t i = 0; i < set.size(); ++i) all.push_back(extract(set.get(i).pixels));
  return all;
}

double accuracy(const Dataset& train, const Features& train_x, const Dataset& test, const Features& test_x,
                int epochs, float learning_rate) {
  LinearClassifier classifier(train_x[0].size());
  for (int epoch = 0; epoch < epochs; ++epoch)
    for (size_t i = 0; i < train_x.size(); ++i)
      classifier.step(train_x[i].data(), train.get(int64_t(i)).label, learning_rate / float(1 + epoch));
  int right = 0;
  for (size_t i = 0; i < test_x.size(); ++i)
    right += classifier.predict(test_x[i].data()) == test.get(int64_t(i)).label;
  return double(right) / double(test_x.size());
}

std::vector<float> raw(std::span<const uint8_t> pixels) {
  std::vector<float> x;
  for (const uint8_t p : pixels) x.push_back((float(p) / 255 - 0.5f) / 0.29f);
  return x;
}

TEST(Synthetic, NoLinearModelSolvesIt) {
  const auto train = make(Split::train, 4000), test = make(Split::test, 1000);
  const Features train_x = features_of(*train, raw), test_x = features_of(*test, raw);
  EXPECT_LT(accuracy(*train, train_x, *test, test_x, 4, 1e-3f), 0.35);
}

}  // namespace
}  // namespace plume::data::synthetic_test
