// CUDA's keywords, vector types and built-in variables for the host compiler.
#pragma once

#define __global__
#define __device__
#define __host__
#define __constant__
#define __launch_bounds__(...)
#define __forceinline__ inline __attribute__((always_inline))
#define __align__(n) alignas(n)
// Read in every kernel: the fastest access to thread-local storage. The few bytes fit where a library that is
// loaded late must ask for room, too.
#define SIMT_TLS __attribute__((tls_model("initial-exec")))

struct uint3 {
  unsigned x, y, z;
};

struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned vx = 1, unsigned vy = 1, unsigned vz = 1) : x(vx), y(vy), z(vz) {}
};

#define SIMT_VECTOR2(Name, T)          \
  struct alignas(2 * sizeof(T)) Name { \
    T x, y;                            \
  };                                   \
  inline Name make_##Name(T x, T y) { return {x, y}; }
#define SIMT_VECTOR4(Name, T)          \
  struct alignas(4 * sizeof(T)) Name { \
    T x, y, z, w;                      \
  };                                   \
  inline Name make_##Name(T x, T y, T z, T w) { return {x, y, z, w}; }
SIMT_VECTOR2(float2, float)
SIMT_VECTOR2(int2, int)
SIMT_VECTOR2(uint2, unsigned)
SIMT_VECTOR2(uchar2, unsigned char)
SIMT_VECTOR2(ushort2, unsigned short)
SIMT_VECTOR4(float4, float)
SIMT_VECTOR4(int4, int)
SIMT_VECTOR4(uint4, unsigned)
SIMT_VECTOR4(uchar4, unsigned char)
SIMT_VECTOR4(ushort4, unsigned short)
#undef SIMT_VECTOR2
#undef SIMT_VECTOR4

namespace simt::emu {
// Like CUDA's blockDim, which is a uint3 that converts to dim3.
struct Dimensions {
  unsigned x, y, z;
  operator dim3() const { return {x, y, z}; }
};
}  // namespace simt::emu

inline thread_local constinit uint3 threadIdx SIMT_TLS{}, blockIdx SIMT_TLS{};
inline thread_local constinit simt::emu::Dimensions blockDim SIMT_TLS{}, gridDim SIMT_TLS{};
inline constexpr int warpSize = 32;
