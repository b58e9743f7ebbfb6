// f16 and bf16: every pattern there is, and rounding against arithmetic in double.
#include "engine/core/half.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <vector>

#include "engine/core/random.h"

namespace plume::half_test {
namespace {

struct Format {
  int exponent_bits, mantissa_bits;
  int bias() const { return (1 << (exponent_bits - 1)) - 1; }
  uint32_t largest_exponent() const { return (1u << exponent_bits) - 1; }
};
constexpr Format kF16{5, 10}, kBf16{8, 7};

// What the standard says a pattern means.
double decode(Format f, uint32_t bits) {
  const uint32_t mantissa = bits & ((1u << f.mantissa_bits) - 1);
  const uint32_t exponent = (bits >> f.mantissa_bits) & f.largest_exponent();
  const double sign = bits >> 15 ? -1.0 : 1.0;
  if (exponent == f.largest_exponent())
    return mantissa ? std::numeric_limits<double>::quiet_NaN()
                    : sign * std::numeric_limits<double>::infinity();
  const double whole = exponent ? double(mantissa) + std::ldexp(1.0, f.mantissa_bits) : double(mantissa);
  const int power = int(exponent ? exponent : 1u) - f.bias() - f.mantissa_bits;
  return sign * std::ldexp(whole, power);
}

// Nearest representable value, ties to the even mantissa: rint in units of the last place.
double round_to(Format f, double value) {
  if (std::isnan(value) || std::isinf(value) || value == 0) return value;
  int exponent = 0;
  std::frexp(value, &exponent);  // |value| in [2^(exponent-1), 2^exponent)
  const int smallest = 2 - f.bias();
  const int unit = std::max(exponent, smallest) - 1 - f.mantissa_bits;
  const double rounded = std::ldexp(std::nearbyint(std::ldexp(value, -unit)), unit);
  const double limit = std::ldexp(1.0, f.bias() + 1);
  return std::fabs(rounded) >= limit ? std::copysign(std::numeric_limits<double>::infinity(), value)
                                     : rounded;
}

template <class Half>
struct Traits;
template <>
struct Traits<f16> {
  static constexpr Format format = kF16;
};
template <>
struct Traits<bf16> {
  static constexpr Format format = kBf16;
};

template <class Half>
class HalfTest : public testing::Test {
 protected:
  static constexpr Format format = Traits<Half>::format;
  static Half pattern(uint32_t bits) {
    Half h;
    h.bits = uint16_t(bits);
    return h;
  }
  // Same value, zeros of the same sign, NaN for NaN.
  static void expect_rounded(float value) {
    const Half half(value);
    const double expected = round_to(format, double(value)), got = decode(format, half.bits);
    if (std::isnan(expected)) {
      ASSERT_TRUE(std::isnan(got)) << "from bits " << std::bit_cast<uint32_t>(value);
    } else {
      ASSERT_EQ(got, expected) << "from " << value;
      ASSERT_EQ(std::signbit(got), std::signbit(value)) << "from " << value;
    }
  }
};
using Halves = testing::Types<f16, bf16>;
TYPED_TEST_SUITE(HalfTest, Halves);

TYPED_TEST(HalfTest, EveryPatternMeansWhatTheFormatSays) {
  for (uint32_t bits = 0; bits < 65536; ++bits) {
    const float value = float(this->pattern(bits));
    const double expected = decode(this->format, bits);
    if (std::isnan(expected)) {
      ASSERT_TRUE(std::isnan(value)) << bits;
    } else {
      ASSERT_EQ(double(value), expected) << bits;
      ASSERT_EQ(std::signbit(value), std::signbit(expected)) << bits;
    }
  }
}

TYPED_TEST(HalfTest, EveryPatternSurvivesARoundTripThroughFloat) {
  for (uint32_t bits = 0; bits < 65536; ++bits) {
    const float value = float(this->pattern(bits));
    const TypeParam back(value);
    if (std::isnan(value)) {
      ASSERT_TRUE(std::isnan(float(back))) << bits;
      ASSERT_EQ(back.bits >> 15, bits >> 15) << bits;
    } else {
      ASSERT_EQ(back.bits, bits);
    }
  }
}

// Around every value: the value, the midpoint to the next one, and the floats beside both.
TYPED_TEST(HalfTest, RoundsToNearestEvenAroundEveryValue) {
  const uint32_t infinity = this->format.largest_exponent() << this->format.mantissa_bits;
  const float far = std::numeric_limits<float>::infinity();
  for (uint32_t bits = 0; bits < infinity; ++bits) {
    const double low = decode(this->format, bits), high = decode(this->format, bits + 1);
    const double middle =
        std::isinf(high) ? low + (low - decode(this->format, bits - 1)) / 2 : (low + high) / 2;
    for (const double centre : {low, middle}) {
      const float value = float(centre);
      ASSERT_EQ(double(value), centre);  // the points of interest are floats
      for (const float near : {std::nextafter(value, -far), value, std::nextafter(value, far)}) {
        this->expect_rounded(near);
        this->expect_rounded(-near);
        if (this->HasFatalFailure()) return;
      }
    }
  }
}

TYPED_TEST(HalfTest, RoundsRandomFloats) {
  RandomSequence random(7);
  for (int i = 0; i < 2'000'000; ++i) {
    this->expect_rounded(std::bit_cast<float>(random.bits()));
    if (this->HasFatalFailure()) return;
  }
}

TYPED_TEST(HalfTest, KeepsInfinitiesNaNAndSignedZero) {
  const float inf = std::numeric_limits<float>::infinity();
  EXPECT_EQ(float(TypeParam(inf)), inf);
  EXPECT_EQ(float(TypeParam(-inf)), -inf);
  EXPECT_EQ(float(TypeParam(std::numeric_limits<float>::max())), inf);
  EXPECT_EQ(TypeParam(0.0f).bits, 0u);
  EXPECT_EQ(TypeParam(-0.0f).bits, 0x8000u);
  // NaNs whose payload lies in the bits that are cut off must not become infinities.
  for (const uint32_t bits : {0x7F800001u, 0x7FC00000u, 0x7FFFFFFFu, 0xFF800001u, 0xFFFFFFFFu})
    EXPECT_TRUE(std::isnan(float(TypeParam(std::bit_cast<float>(bits))))) << bits;
}

TEST(Half, KnownValues) {
  EXPECT_EQ(f16(1.0f).bits, 0x3C00u);
  EXPECT_EQ(f16(65504.0f).bits, 0x7BFFu);
  EXPECT_EQ(f16(65520.0f).bits, 0x7C00u);  // halfway to 2^16: to even, which is infinity
  EXPECT_EQ(f16(0x1p-24f).bits, 0x0001u);
  EXPECT_EQ(f16(0x1p-25f).bits, 0x0000u);  // halfway to zero
  EXPECT_EQ(bf16(1.0f).bits, 0x3F80u);
  EXPECT_EQ(bf16(1.00390625f).bits, 0x3F80u);  // 1 + 2^-8: halfway, down to even
  EXPECT_EQ(bf16(1.01171875f).bits, 0x3F82u);  // 1 + 3 * 2^-8: halfway, up to even
}

}  // namespace
}  // namespace plume::half_test
