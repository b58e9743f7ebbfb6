// The gradient checker must find wrong gradients, and nothing where there is nothing wrong.
#include "engine/autograd/gradient_check.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "engine/autograd/tape.h"
#include "engine/core/random.h"

namespace plume::gradient_check_test {
namespace {

using testing::Each;
using testing::IsEmpty;
using testing::Not;
using testing::SizeIs;
using testing::StartsWith;

constexpr int kElements = 500;

Tensor random_tensor(uint64_t seed, int elements = kElements) {
  RandomSequence random(seed);
  std::vector<float> values(static_cast<size_t>(elements));
  for (float& v : values) v = random.normal();
  return Tensor::from(values, {elements});
}

// y = a^2 b, with a planted fault in what backward reports.
struct Fault {
  float a_factor = 1, b_factor = 1;  // of the whole gradient
  int element = -1;                  // of a single one of da ...
  float element_factor = 1;          // ... this
  bool forget_b = false;
};

DifferentiableOp square_times(Fault fault) {
  return [=](std::vector<Variable>& in) {
    const std::vector<float> a = in[0].value().to_vector<float>(), b = in[1].value().to_vector<float>();
    std::vector<float> y(a.size());
    for (size_t i = 0; i < y.size(); ++i) y[i] = a[i] * a[i] * b[i];
    return record("test_square_times", Tensor::from(y, in[0].shape()), {in[0], in[1]},
                  [=](const Tensor& dy, Gradients& g) {
                    std::vector<float> da = dy.to_vector<float>(), db = da;
                    for (size_t i = 0; i < da.size(); ++i) {
                      da[i] *= 2 * a[i] * b[i] * fault.a_factor;
                      db[i] *= a[i] * a[i] * fault.b_factor;
                      if (int(i) == fault.element) da[i] *= fault.element_factor;
                    }
                    g.add(0, Tensor::from(da, dy.shape()));
                    if (!fault.forget_b) g.add(1, Tensor::from(db, dy.shape()));
                  });
  };
}

std::vector<double> reference(const std::vector<std::vector<double>>& in) {
  std::vector<double> y(in[0].size());
  for (size_t i = 0; i < y.size(); ++i) y[i] = in[0][i] * in[0][i] * in[1][i];
  return y;
}

std::vector<std::string> mismatches(const Fault& fault, const GradientCheckOptions& options = {}) {
  return check_gradients(square_times(fault), reference, {random_tensor(1), random_tensor(2)}, options);
}

TEST(GradientCheck, ARightGradientPasses) {
  for (uint64_t seed = 1; seed <= 20; ++seed) EXPECT_THAT(mismatches({}, {.seed = seed}), IsEmpty());
}

TEST(GradientCheck, AWrongFactorIsFoundInEveryDirectionAndTheInputIsNamed) {
  EXPECT_THAT(mismatches({.a_factor = 1.001f}), Not(IsEmpty()));
  EXPECT_THAT(mismatches({.a_factor = 1.001f}), Each(StartsWith("input 0, ")));
  EXPECT_THAT(mismatches({.b_factor = -1}), Each(StartsWith("input 1, ")));
  EXPECT_THAT(mismatches({.b_factor = -1}), SizeIs(GradientCheckOptions{}.directions));
  EXPECT_THAT(mismatches({.b_factor = 0}), SizeIs(GradientCheckOptions{}.directions));
}

TEST(GradientCheck, OneWrongElementOfFiveHundredIsFound) {
  for (const int element : {0, 17, kElements - 1})
    EXPECT_THAT(mismatches({.element = element, .element_factor = 1.5f}), Not(IsEmpty())) << element;
}

TEST(GradientCheck, AForgottenGradientCountsAsZero) {
  EXPECT_THAT(mismatches({.forget_b = true}), Not(IsEmpty()));
  EXPECT_THAT(mismatches({.forget_b = true}), Each(StartsWith("input 1, ")));
}

TEST(GradientCheck, NaNIsNotAgreement) {
  EXPECT_THAT(mismatches({.a_factor = std::numeric_limits<float>::quiet_NaN()}), Not(IsEmpty()));
}

TEST(GradientCheck, AbsentInputsArePassedOnAsUndefined) {
  const DifferentiableOp op = [](std::vector<Variable>& in) {
    EXPECT_FALSE(in[1].defined());
    return record("test_identity", in[0].value(), {in[0], in[1]},
                  [](const Tensor& dy, Gradients& g) { g.add(0, dy); });
  };
  const DoubleReference identity = [](const std::vector<std::vector<double>>& in) {
    EXPECT_TRUE(in[1].empty());
    return in[0];
  };
  EXPECT_THAT(check_gradients(op, identity, {random_tensor(3), Tensor()}), IsEmpty());
}

TEST(GradientCheck, AReferenceOfAnotherSizeIsRefused) {
  const DoubleReference short_one = [](const std::vector<std::vector<double>>&) {
    return std::vector<double>(3);
  };
  EXPECT_THROW(check_gradients(square_times({}), short_one, {random_tensor(1), random_tensor(2)}), Error);
}

}  // namespace
}  // namespace plume::gradient_check_test
