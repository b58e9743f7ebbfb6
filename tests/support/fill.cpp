#include "tests/support/fill.h"

#include <cmath>

namespace plume::test {
namespace {

template <class F>
std::vector<double> generate(const Shape& shape, F&& value) {
  std::vector<double> values(size_t(shape.elements()));
  for (double& v : values) v = value();
  return values;
}

double with_outliers(RandomSequence& random) {
  const double choice = random.uniform(), value = random.normal();
  return choice < 1.0 / 30 ? 100 * value : choice < 1.0 / 30 + 1.0 / 20 ? 0.0 : value;
}

double away_from_zero(RandomSequence& random) {
  const double value = random.uniform(-1, 1);
  return value + std::copysign(0.1, value);
}

// Calls f with a zero of the C++ type behind any dtype.
template <class F>
decltype(auto) dispatch(DType dtype, F&& f) {
  switch (dtype) {
    case DType::u8:
      return f(uint8_t{});
    case DType::i32:
      return f(int32_t{});
    case DType::i64:
      return f(int64_t{});
    default:
      return dispatch_floating(dtype, f);
  }
}

}  // namespace

Fill outliers(double scale) {
  return [=](const Shape& shape, RandomSequence& random, bool gentle) {
    return generate(shape, [&] { return scale * (gentle ? away_from_zero(random) : with_outliers(random)); });
  };
}

Fill short_values(Fill fill) {
  return [fill = std::move(fill)](const Shape& shape, RandomSequence& random, bool gentle) {
    std::vector<double> values = fill(shape, random, gentle);
    for (double& v : values) {
      int exponent = 0;
      const double fraction =
          std::frexp(v, &exponent);  // in [1/2, 1): eight bits of it, and no f16 below 2^-14
      v = exponent < -13 ? 0 : std::ldexp(std::round(fraction * 256), exponent - 8);
    }
    return values;
  };
}

Fill offset(double mean) {
  return [=](const Shape& shape, RandomSequence& random, bool gentle) {
    return generate(shape, [&] { return gentle ? away_from_zero(random) : mean + with_outliers(random); });
  };
}

Fill positive(double low, double high) {
  return [=](const Shape& shape, RandomSequence& random, bool) {
    return generate(shape, [&] { return random.uniform(float(low), float(high)); });
  };
}

Fill distinct() {
  return [](const Shape& shape, RandomSequence& random, bool gentle) {
    if (!gentle) return outliers()(shape, random, false);
    // Steps of 97 modulo the prime 251: small integers, equal only 251 elements apart.
    int64_t i = int64_t(random.below(251));
    return generate(shape, [&] { return double((++i * 97) % 251 - 125); });
  };
}

Fill labels(int64_t classes) {
  return [=](const Shape& shape, RandomSequence& random, bool) {
    return generate(shape, [&] { return double(random.below(uint64_t(classes))); });
  };
}

Fill distribution() {
  return [](const Shape& shape, RandomSequence& random, bool) {
    std::vector<double> values = generate(shape, [&] { return random.uniform(0.01f, 1); });
    const size_t columns = size_t(shape[-1]);
    for (size_t row = 0; row < values.size(); row += columns) {
      double sum = 0;
      for (size_t k = 0; k < columns; ++k) sum += values[row + k];
      for (size_t k = 0; k < columns; ++k) values[row + k] /= sum;
    }
    return values;
  };
}

Fill given(std::vector<double> values) {
  return [=](const Shape&, RandomSequence&, bool) { return values; };
}

Tensor to_tensor(const std::vector<double>& values, const Shape& shape, DType dtype, Device device) {
  return dispatch(dtype, [&](auto zero) {
    using T = decltype(zero);
    std::vector<T> typed;
    typed.reserve(values.size());
    for (const double v : values) {
      if constexpr (std::is_integral_v<T>)
        typed.push_back(T(v));
      else
        typed.push_back(T(float(v)));
    }
    return Tensor::from(typed, shape, device);
  });
}

std::vector<double> to_doubles(const Tensor& tensor) {
  return dispatch(tensor.dtype(), [&](auto zero) {
    using T = decltype(zero);
    std::vector<double> values;
    for (const T& v : tensor.to_vector<T>()) {
      if constexpr (std::is_integral_v<T>)
        values.push_back(double(v));
      else
        values.push_back(double(float(v)));
    }
    return values;
  });
}

}  // namespace plume::test
