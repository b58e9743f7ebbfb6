// Eight floats at a time, in GCC's vector extension: arithmetic and activate() (engine/math) take them.
#pragma once
#include <cstdint>

namespace plume::cpu {

using Vector8 = float __attribute__((vector_size(32)));
using Vector8Memory = float __attribute__((vector_size(32), aligned(4), may_alias));
inline Vector8 load8(const float* p) { return *reinterpret_cast<const Vector8Memory*>(p); }
inline void store8(float* p, Vector8 v) { *reinterpret_cast<Vector8Memory*>(p) = v; }
inline Vector8 broadcast8(float v) { return Vector8{v, v, v, v, v, v, v, v}; }

// The same, as the loops want it that are also compiled for wider vectors (channel_loops_avx512.cpp).
struct Lanes8 {
  static constexpr int64_t kCount = 8;
  using Vector = Vector8;
  static Vector load(const float* p) { return load8(p); }
  static void store(float* p, const Vector& v) { store8(p, v); }
};

}  // namespace plume::cpu
