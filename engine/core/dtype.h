// Element types of tensors.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>

#include "engine/core/half.h"

namespace plume {

// f32, bf16, f16: compute; u8: images; i32, i64: labels and counters.
enum class DType : uint8_t { f32, bf16, f16, u8, i32, i64 };

constexpr size_t size_of(DType t) {
  switch (t) {
    case DType::f32:
    case DType::i32:
      return 4;
    case DType::bf16:
    case DType::f16:
      return 2;
    case DType::u8:
      return 1;
    case DType::i64:
      return 8;
  }
  return 0;
}

constexpr const char* name(DType t) {
  constexpr const char* kNames[] = {"f32", "bf16", "f16", "u8", "i32", "i64"};
  return kNames[size_t(t)];
}
inline std::string to_string(DType t) { return name(t); }
constexpr bool is_floating(DType t) { return t == DType::f32 || t == DType::bf16 || t == DType::f16; }

template <class T>
struct DTypeOf;
template <>
struct DTypeOf<float> {
  static constexpr DType value = DType::f32;
};
template <>
struct DTypeOf<bf16> {
  static constexpr DType value = DType::bf16;
};
template <>
struct DTypeOf<f16> {
  static constexpr DType value = DType::f16;
};
template <>
struct DTypeOf<uint8_t> {
  static constexpr DType value = DType::u8;
};
template <>
struct DTypeOf<int32_t> {
  static constexpr DType value = DType::i32;
};
template <>
struct DTypeOf<int64_t> {
  static constexpr DType value = DType::i64;
};
template <class T>
inline constexpr DType dtype_of = DTypeOf<T>::value;

// The type sums are kept in: always float for floating types, whatever is stored.
template <class T>
struct AccumulateOf {
  using type = float;
};
template <>
struct AccumulateOf<double> {
  using type = double;
};
template <class T>
using Accumulate = typename AccumulateOf<T>::type;

// Calls f with a value of the C++ type behind a floating dtype: dispatch_floating(t, [&](auto zero) { ... }).
template <class F>
decltype(auto) dispatch_floating(DType t, F&& f) {
  switch (t) {
    case DType::bf16:
      return f(bf16{});
    case DType::f16:
      return f(f16{});
    default:
      return f(float{});
  }
}

// The same for the result of an operation on values of T, which is of that type or f32.
template <class T, class F>
decltype(auto) dispatch_result(DType t, F&& f) {
  return t == DType::f32 ? f(float{}) : f(T{});
}

}  // namespace plume
