// Sixteen floats of AVX-512, for files that are compiled for it.
#pragma once
#include <cstdint>

namespace plume::cpu {
namespace {

struct Lanes16 {
  static constexpr int64_t kCount = 16;
  using Vector = float __attribute__((vector_size(64)));
  using Memory = float __attribute__((vector_size(64), aligned(4), may_alias));
  static Vector load(const float* p) { return *reinterpret_cast<const Memory*>(p); }
  static void store(float* p, const Vector& v) { *reinterpret_cast<Memory*>(p) = v; }
  struct Half {
    static constexpr int64_t kCount = 8;
    using Vector = float __attribute__((vector_size(32)));
    using Memory = float __attribute__((vector_size(32), aligned(4), may_alias));
    static Vector load(const float* p) { return *reinterpret_cast<const Memory*>(p); }
    static void store(float* p, const Vector& v) { *reinterpret_cast<Memory*>(p) = v; }
  };
};

}  // namespace
}  // namespace plume::cpu
