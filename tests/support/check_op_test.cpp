// The operation harness itself: a small operation whose variants have planted bugs, each of which must be
// reported, and one right variant, of which nothing may be.
#include "tests/support/check_op.h"

#include <gmock/gmock.h>
#include <gtest/gtest-spi.h>
#include <gtest/gtest.h>

#include <limits>

#include "engine/autograd/tape.h"
#include "tests/support/coverage.h"

namespace plume::test::check_op_test {
namespace {

using testing::AllOf;
using testing::Contains;
using testing::Each;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::SizeIs;

// y = 3 x + 1. Each bug is a variant of its own device ladder: a slot holds eight at most, so the simt
// column carries the second half of the zoo.
using Planted = void(Context&, const Tensor& x, Tensor& y);
constinit KernelSlot<Planted> planted{"test_planted.forward"};

float right_value(float x) { return 3 * x + 1; }

template <class F>
void for_each(const Tensor& x, Tensor& y, F&& f) {
  dispatch_floating(x.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const T* in = x.data<T>();
    T* out = y.data<T>();
    for (int64_t i = 0; i < x.size(); ++i) out[i] = T(f(float(in[i]), i));
  });
}

void right(Context&, const Tensor& x, Tensor& y) {
  for_each(x, y, [](float v, int64_t) { return right_value(v); });
}
void wrong_last(Context&, const Tensor& x, Tensor& y) {
  const int64_t last = x.size() - 1;
  for_each(x, y, [=](float v, int64_t i) { return i == last ? v : right_value(v); });
}
// Four units in the last place of f32, where one is explained: too far, though invisible in 16 bits.
void imprecise(Context&, const Tensor& x, Tensor& y) {
  for_each(x, y, [](float v, int64_t) { return right_value(v) * (1 + 12 * 0x1p-23f); });
}
void unwritten(Context&, const Tensor& x, Tensor& y) {
  const Tensor before = y.clone();
  right(context(Device::cpu), x, y);
  const size_t element = size_of(y.dtype());
  std::memcpy(y.raw(), before.raw(), element);  // the first element as it was found
}
void nothing_written(Context&, const Tensor&, Tensor&) {}
void overrun_behind(Context& c, const Tensor& x, Tensor& y) {
  right(c, x, y);
  static_cast<uint8_t*>(y.raw())[y.bytes() + 3] = 0;
}
void overrun_before(Context& c, const Tensor& x, Tensor& y) {
  right(c, x, y);
  static_cast<uint8_t*>(y.raw())[-1] = 0;
}
void changes_input(Context& c, const Tensor& x, Tensor& y) {
  right(c, x, y);
  Tensor same = x;
  static_cast<uint8_t*>(same.raw())[0] ^= 1;
}
void throws_midway(Context&, const Tensor&, Tensor&) { fail(ErrorKind::internal, "test: half done"); }
bool fits_f32_only(const Context&, const Tensor& x, Tensor&) { return x.dtype() == DType::f32; }
void wrong_for_f32(Context&, const Tensor& x, Tensor& y) {
  for_each(x, y, [](float v, int64_t) { return -v; });
}

const bool registered = planted.add(Device::cpu, {{"right", always, right},
                                                  {"wrong_last", always, wrong_last},
                                                  {"imprecise", always, imprecise},
                                                  {"unwritten", always, unwritten},
                                                  {"nothing_written", always, nothing_written}}) &&
                        planted.add(Device::simt, {{"right", always, right},
                                                   {"overrun_behind", always, overrun_behind},
                                                   {"overrun_before", always, overrun_before},
                                                   {"changes_input", always, changes_input},
                                                   {"throws_midway", always, throws_midway},
                                                   {"f32_only", fits_f32_only, wrong_for_f32}});

Variable scale_by(const Variable& x, float slope) {
  Tensor y = empty_like(x.value());
  right(x.context(), x.value(), y);
  return record("test_planted", y, {x}, [=](const Tensor& dy, Gradients& g) {
    Tensor dx = empty_like(dy);
    for_each(dy, dx, [=](float v, int64_t) { return slope * v; });
    g.add(0, dx);
  });
}

OpCase plain_case() {
  return {.slot = planted,
          .inputs = {{"x", {3, 5, 7}}},
          .outputs = {{"y", {3, 5, 7}}},
          .run = [](Context& c, Tensors& t) { planted(c, t["x"], t["y"]); },
          .reference =
              [](Arrays& a) {
                for (int64_t i = 0; i < a["y"].size(); ++i) a["y"][i] = Real(3) * a["x"][i] + Real(1);
              }};
}

const std::vector<std::string>& failures() {
  static const std::vector<std::string> all = op_failures(plain_case());
  return all;
}

std::vector<std::string> failures_of(const std::string& variant) {
  std::vector<std::string> found;
  for (const std::string& failure : failures())
    if (failure.find("variant " + variant + ":") != std::string::npos) found.push_back(failure);
  return found;
}

TEST(CheckOp, NothingIsReportedOfARightVariant) {
  ASSERT_TRUE(registered);
  EXPECT_THAT(failures_of("right"), IsEmpty());
}

TEST(CheckOp, OneWrongElementIsFoundAndNamed) {
  EXPECT_THAT(failures_of("wrong_last"), SizeIs(3));  // once per dtype
  EXPECT_THAT(failures_of("wrong_last"), Each(HasSubstr("y[2, 4, 6] is ")));
  EXPECT_THAT(failures_of("wrong_last"), Each(HasSubstr("1 of 105 elements are wrong")));
  EXPECT_THAT(failures_of("wrong_last"),
              Contains(HasSubstr("test_planted.forward on cpu, bf16, x [3, 5, 7]")));
}

TEST(CheckOp, ALossOfPrecisionIsFound) {
  EXPECT_THAT(failures_of("imprecise"), Contains(HasSubstr("on cpu, f32")));
}

TEST(CheckOp, WhatIsNotWrittenIsFound) {
  EXPECT_THAT(failures_of("unwritten"), SizeIs(3));
  EXPECT_THAT(failures_of("unwritten"), Each(AllOf(HasSubstr("y[0, 0, 0] is "), HasSubstr("nan"))));
  EXPECT_THAT(failures_of("nothing_written"), Each(HasSubstr("105 of 105 elements are wrong")));
  EXPECT_THAT(failures_of("nothing_written"), SizeIs(3));
}

TEST(CheckOp, OverrunsAreFound) {
  EXPECT_THAT(failures_of("overrun_behind"), SizeIs(3));
  EXPECT_THAT(failures_of("overrun_behind"), Each(HasSubstr("y: written 3 bytes behind the last element")));
  EXPECT_THAT(failures_of("overrun_before"), SizeIs(3));
  EXPECT_THAT(failures_of("overrun_before"), Each(HasSubstr("y: written 1 bytes before the first element")));
}

TEST(CheckOp, AChangedInputIsFound) {
  EXPECT_THAT(failures_of("changes_input"), SizeIs(3));
  EXPECT_THAT(failures_of("changes_input"), Each(HasSubstr("x: the input was changed")));
}

TEST(CheckOp, AnErrorInsideAVariantIsNotARefusal) {
  EXPECT_THAT(failures_of("throws_midway"), Contains(HasSubstr("threw: test: half done")));
}

TEST(CheckOp, AVariantRunsOnlyWhereItFits) {
  EXPECT_THAT(failures_of("f32_only"), SizeIs(1));
  EXPECT_THAT(failures_of("f32_only"), Each(HasSubstr("on simt, f32")));
}

TEST(CheckOp, NoFittingVariantIsAFailure) {
  using Nothing = void(Context&, const Tensor& x, Tensor& y);
  static constinit KernelSlot<Nothing> nothing{"test_nothing.forward"};
  nothing.add(Device::cpu, {{"f32_only", fits_f32_only, right}});
  OpCase c{.slot = nothing,
           .inputs = {{"x", {3}}},
           .outputs = {{"y", {3}}},
           .run = [](Context& context, Tensors& t) { nothing(context, t["x"], t["y"]); },
           .reference = plain_case().reference};
  c.dtypes = {DType::f32, DType::f16};
  const std::vector<std::string> found = op_failures(c);
  EXPECT_THAT(found, Contains(HasSubstr("on cpu, f16, x [3]: no variant fits")));
  EXPECT_THAT(found, Contains(HasSubstr("on simt, f32, x [3]: no variant fits")));
  EXPECT_THAT(found, Not(Contains(HasSubstr("on cpu, f32"))));
}

TEST(CheckOp, ARunThatNeverCallsTheSlotIsAFailure) {
  OpCase c = plain_case();
  c.run = [](Context&, Tensors& t) {
    Tensor& y = t["y"];
    right(context(Device::cpu), t["x"], y);
  };
  EXPECT_THAT(op_failures(c), Contains(HasSubstr("run() did not call the slot")));
}

std::vector<std::string> gradient_failures(float slope) {
  OpCase c = plain_case();
  c.op = [=](Variables& v) { return scale_by(v["x"], slope); };
  std::vector<std::string> found;
  for (const std::string& failure : op_failures(c))
    if (failure.find("gradient of") != std::string::npos) found.push_back(failure);
  return found;
}

TEST(CheckOp, AWrongGradientIsFound) {
  EXPECT_THAT(gradient_failures(3), IsEmpty());
  const std::vector<std::string> found = gradient_failures(3.001f);
  EXPECT_THAT(found, Contains(AllOf(HasSubstr("on cpu, f32"), HasSubstr("gradient of x: input 0"))));
  EXPECT_THAT(found, Contains(HasSubstr("on simt, f32")));
  EXPECT_THAT(gradient_failures(-3), Contains(HasSubstr("on cpu, bf16")));
}

TEST(CheckOp, CoverageNamesTheVariantsThatNeverRan) {
  failures();
  using Untested = void(Context&, const Tensor& x, Tensor& y);
  static constinit KernelSlot<Untested> untested{"test_untested.forward"};
  untested.add(Device::cpu, {{"forgotten", always, right}});
  const std::vector<std::string> missing = variants_never_run({Device::cpu, Device::simt});
  EXPECT_THAT(missing, Contains("test_untested.forward: no test ran variant 'forgotten' on cpu"));
  EXPECT_THAT(missing, Not(Contains(HasSubstr("test_planted.forward"))));
  EXPECT_THAT(missing, Contains(HasSubstr("conv2d.forward")));  // not in this program
  EXPECT_THAT(variants_never_run({Device::simt}), Not(Contains(HasSubstr("forgotten"))));
}

TEST(CheckOp, CheckOpTurnsLinesIntoTestFailures) {
  testing::TestPartResultArray results;
  {
    const testing::ScopedFakeTestPartResultReporter reporter(
        testing::ScopedFakeTestPartResultReporter::INTERCEPT_ONLY_CURRENT_THREAD, &results);
    check_op(plain_case());
  }
  EXPECT_EQ(size_t(results.size()), failures().size());
  EXPECT_GT(results.size(), 0);
}

}  // namespace
}  // namespace plume::test::check_op_test
