// Numbers and arrays that references are written with.
//
// A Real is a double that also carries how far float arithmetic may lead away from it: a first-order bound,
// in units of float's rounding error. Inputs are exact; every operation adds its own rounding and scales what
// its operands brought along. So a reference that reads like the equation also says which tolerance is
// honest: wide where the sum cancels, tight where it does not.
#pragma once
#include <cmath>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "engine/core/shape.h"

namespace plume::test {

struct Real {
  double value = 0;
  double error = 0;  // in units of 2^-24

  Real() = default;
  Real(double v, double e = 0) : value(v), error(e) {}  // NOLINT: a double is an exact Real
};

// The result of one float operation whose operands brought `carried`.
inline Real rounded(double value, double carried) { return {value, carried + std::fabs(value)}; }

inline Real operator-(Real a) { return {-a.value, a.error}; }
inline Real operator+(Real a, Real b) { return rounded(a.value + b.value, a.error + b.error); }
inline Real operator-(Real a, Real b) { return a + -b; }
inline Real operator*(Real a, Real b) {
  return rounded(a.value * b.value, std::fabs(a.value) * b.error + std::fabs(b.value) * a.error);
}
inline Real operator/(Real a, Real b) {
  const double quotient = a.value / b.value;
  return rounded(quotient, (a.error + std::fabs(quotient) * b.error) / std::fabs(b.value));
}
// Library functions of float are right to a few units in the last place.
inline constexpr double kFunctionError = 4;
inline Real sqrt(Real a) {
  const double root = std::sqrt(a.value);
  return {root, a.error / (2 * root) + kFunctionError * root};
}
inline Real exp(Real a) {
  const double power = std::exp(a.value);
  return {power, power * (a.error + kFunctionError)};
}
inline Real log(Real a) {
  const double logarithm = std::log(a.value);
  return {logarithm, a.error / std::fabs(a.value) + kFunctionError * std::fabs(logarithm)};
}
inline bool operator<(Real a, Real b) { return a.value < b.value; }
inline bool operator>(Real a, Real b) { return a.value > b.value; }

// A sum of n terms in no particular order: wrong by about sqrt(n) roundings of the sum of absolute terms.
class Sum {
 public:
  Sum& operator+=(Real term) {
    value_ += term.value;
    carried_ += term.error;
    magnitude_ += std::fabs(term.value);
    ++terms_;
    return *this;
  }
  operator Real() const {  // NOLINT: a finished sum is a number
    return {value_, carried_ + kGrowth * std::sqrt(double(terms_)) * magnitude_};
  }

 private:
  static constexpr double kGrowth = 2;
  double value_ = 0, carried_ = 0, magnitude_ = 0;
  int64_t terms_ = 0;
};

// A dense array of Reals; undefined (no elements) where an operand is absent.
struct Array {
  Shape shape;
  std::vector<Real> values;

  Array() = default;
  explicit Array(const Shape& s) : shape(s), values(size_t(s.elements())) {}

  bool defined() const { return !values.empty(); }
  int64_t size() const { return int64_t(values.size()); }
  int64_t dim(int i) const { return shape[i]; }
  int64_t rows() const { return size() / shape[-1]; }  // everything but the last dimension

  Real& operator[](int64_t i) { return values[size_t(i)]; }
  const Real& operator[](int64_t i) const { return values[size_t(i)]; }
  // Any array as [rows, channels].
  Real& at(int64_t row, int64_t c) { return values[size_t(row * shape[-1] + c)]; }
  const Real& at(int64_t row, int64_t c) const { return values[size_t(row * shape[-1] + c)]; }
  Real& at(int64_t n, int64_t h, int64_t w, int64_t c) { return values[offset(n, h, w, c)]; }
  const Real& at(int64_t n, int64_t h, int64_t w, int64_t c) const { return values[offset(n, h, w, c)]; }
  bool inside(int64_t h, int64_t w) const { return h >= 0 && h < shape[1] && w >= 0 && w < shape[2]; }

 private:
  size_t offset(int64_t n, int64_t h, int64_t w, int64_t c) const {
    return size_t(((n * shape[1] + h) * shape[2] + w) * shape[3] + c);
  }
};

// By the operand's name; an absent operand reads as undefined.
using Arrays = std::map<std::string, Array>;

}  // namespace plume::test
