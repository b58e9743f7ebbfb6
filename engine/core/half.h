// 16-bit floating point types that mean the same on the host, in emulated kernels and on the GPU.
//
// f16 is IEEE binary16, bf16 the upper half of binary32. Both are storage types: arithmetic happens in float
// (see Accumulate in dtype.h). Conversions round to nearest even and keep NaN, infinities and subnormals.
#pragma once
#include <cstdint>

#if defined(__CUDACC__)
#define PLUME_HD __host__ __device__
#else
#define PLUME_HD
#endif

namespace plume {
namespace detail {

// std::bit_cast, which device code may not call.
template <class To, class From>
PLUME_HD constexpr To bits_as(From value) {
  static_assert(sizeof(To) == sizeof(From));
  return __builtin_bit_cast(To, value);
}

// Both directions use the float unit to renormalise subnormals (M. Dukhan, FP16 library).
PLUME_HD constexpr float f16_to_f32(uint16_t h) {
  const uint32_t w = uint32_t(h) << 16, sign = w & 0x80000000u, twice = w + w;
  const float normal = bits_as<float>((twice >> 4) + (0xE0u << 23)) * bits_as<float>(0x7800000u);
  const float subnormal = bits_as<float>((twice >> 17) | (126u << 23)) - 0.5f;
  const uint32_t bits = bits_as<uint32_t>(twice < (1u << 27) ? subnormal : normal);
  return bits_as<float>(sign | bits);
}

PLUME_HD constexpr uint16_t f32_to_f16(float value) {
  const uint32_t w = bits_as<uint32_t>(value), twice = w + w, sign = w & 0x80000000u;
  const float magnitude = bits_as<float>(w & 0x7FFFFFFFu);
  float base = (magnitude * bits_as<float>(0x77800000u)) * bits_as<float>(0x08800000u);
  uint32_t bias = twice & 0xFF000000u;
  if (bias < 0x71000000u) bias = 0x71000000u;
  base = bits_as<float>((bias >> 1) + 0x07800000u) + base;
  const uint32_t bits = bits_as<uint32_t>(base);
  const uint32_t body = ((bits >> 13) & 0x7C00u) + (bits & 0xFFFu);
  return uint16_t((sign >> 16) | (twice > 0xFF000000u ? 0x7E00u : body));
}

PLUME_HD constexpr uint16_t f32_to_bf16(float value) {
  const uint32_t u = bits_as<uint32_t>(value);
  if ((u & 0x7FFFFFFFu) > 0x7F800000u) return uint16_t((u >> 16) | 0x40u);  // NaN stays NaN
  return uint16_t((u + 0x7FFFu + ((u >> 16) & 1u)) >> 16);
}

}  // namespace detail

struct f16 {
  uint16_t bits;
  f16() = default;
  PLUME_HD explicit f16(float value) {
#if defined(__CUDA_ARCH__)
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(value));
#else
    bits = detail::f32_to_f16(value);
#endif
  }
  PLUME_HD operator float() const {
#if defined(__CUDA_ARCH__)
    float value;
    asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
    return value;
#else
    return detail::f16_to_f32(bits);
#endif
  }
};

struct bf16 {
  uint16_t bits;
  bf16() = default;
  PLUME_HD explicit bf16(float value) {
#if defined(__CUDA_ARCH__)
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(bits) : "f"(value));
#else
    bits = detail::f32_to_bf16(value);
#endif
  }
  PLUME_HD operator float() const { return detail::bits_as<float>(uint32_t(bits) << 16); }
};

}  // namespace plume
