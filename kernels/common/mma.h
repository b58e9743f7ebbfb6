// Tensor-core tiles of one warp: 16x8 outputs in float, from 16-bit or tf32 inputs.
//
// On the GPU each function is one PTX instruction. In the emulation the lanes exchange their fragments in the
// layout that the PTX ISA documents ("Matrix Fragments for mma.m16n8k16 / .m16n8k8"), so an index mistake in
// a kernel gives wrong numbers there, too. Products are exact in float; the order in which the hardware adds
// them is not specified.
//
// All 32 lanes must call. With group = lane / 4 and pair = lane % 4, lane holds
//   D, C (16x8 float)   d[0..1] row group, columns 2 pair, 2 pair + 1; d[2..3] the same of row group + 8
//   A    (16x16, f16)   a[0] row group, columns 2 pair..; a[1] row group + 8; a[2], a[3] the same, columns +
//   8
//   B    (16x8, f16)    b[0] rows 2 pair, 2 pair + 1 of column group; b[1] rows + 8
// where a register holds two 16-bit values, the lower index in the lower half.
#pragma once
#include <cstdint>

#include "engine/core/half.h"
#include "kernels/simt/simt.h"
#if SIMT_EMU
#include "kernels/simt/matrix.h"
#endif

namespace plume::PLUME_KERNELS {

#if SIMT_EMU

namespace detail {

// The values of a lane's fragments, in order.
template <class T>
SIMT_NOT_INSTRUMENTED inline void to_floats(float (&values)[12], const uint32_t (&a)[4],
                                            const uint32_t (&b)[2]) {
  for (int i = 0; i < 12; ++i) {
    T value;
    value.bits = uint16_t((i < 8 ? a[i / 2] : b[i / 2 - 4]) >> (16 * (i % 2)));
    values[i] = float(value);
  }
}

inline void check_shared_row(const void* row, simt::emu::Location where) {
  simt::emu::Block& block = *simt::emu::this_block;
  const auto offset = uintptr_t(row) - uintptr_t(block.arena());
  if (offset >= simt::emu::kArena) block.die(where, "ldmatrix: the row address is not in shared memory");
  if (uintptr_t(row) % 16 != 0) block.die(where, "ldmatrix: the row address is not a multiple of 16 bytes");
}

template <int kMatrices, bool kTransposed>
inline void load_matrices(uint32_t (&r)[kMatrices], const void* row, simt::emu::Location where) {
  simt::emu::Block& block = *simt::emu::this_block;
  simt::emu::count_ldmatrix(row, kMatrices, where);
  if (block.lane() < 8 * kMatrices) check_shared_row(row, where);
  uint32_t participants;
  const auto& rows = block.meet(~0u, simt::emu::WarpKind::ldmatrix, &row, sizeof row, where, participants);
  const unsigned lane = block.lane();
  for (unsigned m = 0; m < kMatrices; ++m) {
    const auto element = [&](unsigned i, unsigned j) {
      const uint16_t* from;
      std::memcpy(&from, rows[m * 8 + i], sizeof from);
      return uint32_t(from[j]);
    };
    const unsigned group = lane / 4, pair = lane % 4;
    r[m] = kTransposed ? element(2 * pair, group) | element(2 * pair + 1, group) << 16
                       : element(group, 2 * pair) | element(group, 2 * pair + 1) << 16;
  }
  simt::emu::count_thread(block.thread());
}

// Each lane hands over its twelve values as floats: all 32 read them many times.
template <class T>
inline void multiply_16816(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2],
                           simt::emu::Location where) {
  simt::emu::Block& block = *simt::emu::this_block;
  float mine[12];
  to_floats<T>(mine, a, b);
  uint32_t participants;
  const auto& lanes = block.meet(~0u, simt::emu::WarpKind::mma, mine, sizeof mine, where, participants);
  simt::emu::add_products_16816(d, lanes, block.lane());
  simt::emu::count_thread(block.thread());
}

}  // namespace detail

// d += a b for f16 (bf16) inputs.
inline void mma_m16n8k16(f16, float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], SIMT_WHERE) {
  detail::multiply_16816<f16>(d, a, b, where);
}
inline void mma_m16n8k16(bf16, float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], SIMT_WHERE) {
  detail::multiply_16816<bf16>(d, a, b, where);
}

// Rounds to the 10-bit mantissa of tf32, ties away from zero; the result is a float's bits.
inline uint32_t to_tf32(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  return (bits & 0x7f800000u) == 0x7f800000u ? bits : (bits + 0x1000u) & ~0x1fffu;
}

inline void mma_m16n8k8_tf32(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], SIMT_WHERE) {
  simt::emu::Block& block = *simt::emu::this_block;
  const uint32_t mine[6] = {a[0], a[1], a[2], a[3], b[0], b[1]};
  uint32_t participants;
  const auto& lanes = block.meet(~0u, simt::emu::WarpKind::mma, mine, sizeof mine, where, participants);
  const auto value = [&](int lane, int i) {
    uint32_t w;
    std::memcpy(&w, lanes[lane] + 4 * i, 4);
    return std::bit_cast<float>(w & ~0x1fffu);  // the hardware ignores the low bits
  };
  const int group = int(block.lane()) / 4, pair = int(block.lane()) % 4;
  for (int i = 0; i < 4; ++i) {
    const int row = group + 8 * (i / 2), column = 2 * pair + i % 2;
    float sum = d[i];
    for (int k = 0; k < 8; ++k) {
      sum += value(row % 8 * 4 + k % 4, row / 8 + 2 * (k / 4)) * value(column * 4 + k % 4, 4 + k / 4);
    }
    d[i] = sum;
  }
  simt::emu::count_thread(block.thread());
}

// Loads 8x8 matrices of 16-bit values from shared memory. Lane 8 m + i passes the address of row i of matrix
// m, 16 bytes, 16-byte aligned; r[m] is the lane's two values of matrix m, in the layout of A above (_trans:
// of the transposed matrix, which turns a row-major [k][n] tile into B fragments).
inline void ldmatrix_x4(uint32_t (&r)[4], const void* row, SIMT_WHERE) {
  detail::load_matrices<4, false>(r, row, where);
}
inline void ldmatrix_x4_trans(uint32_t (&r)[4], const void* row, SIMT_WHERE) {
  detail::load_matrices<4, true>(r, row, where);
}
inline void ldmatrix_x2(uint32_t (&r)[2], const void* row, SIMT_WHERE) {
  detail::load_matrices<2, false>(r, row, where);
}
inline void ldmatrix_x2_trans(uint32_t (&r)[2], const void* row, SIMT_WHERE) {
  detail::load_matrices<2, true>(r, row, where);
}

#else

__device__ __forceinline__ void mma_m16n8k16(f16, float (&d)[4], const uint32_t (&a)[4],
                                             const uint32_t (&b)[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
      "{%0,%1,%2,%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
__device__ __forceinline__ void mma_m16n8k16(bf16, float (&d)[4], const uint32_t (&a)[4],
                                             const uint32_t (&b)[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
      "{%0,%1,%2,%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

__device__ __forceinline__ uint32_t to_tf32(float value) {
  uint32_t bits;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(value));
  return bits;
}

__device__ __forceinline__ void mma_m16n8k8_tf32(float (&d)[4], const uint32_t (&a)[4],
                                                 const uint32_t (&b)[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
      "{%0,%1,%2,%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

__device__ __forceinline__ void ldmatrix_x4(uint32_t (&r)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(unsigned(__cvta_generic_to_shared(row)))
               : "memory");
}
__device__ __forceinline__ void ldmatrix_x4_trans(uint32_t (&r)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(unsigned(__cvta_generic_to_shared(row)))
               : "memory");
}
__device__ __forceinline__ void ldmatrix_x2(uint32_t (&r)[2], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0,%1}, [%2];"
               : "=r"(r[0]), "=r"(r[1])
               : "r"(unsigned(__cvta_generic_to_shared(row)))
               : "memory");
}
__device__ __forceinline__ void ldmatrix_x2_trans(uint32_t (&r)[2], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0,%1}, [%2];"
               : "=r"(r[0]), "=r"(r[1])
               : "r"(unsigned(__cvta_generic_to_shared(row)))
               : "memory");
}

#endif

}  // namespace plume::PLUME_KERNELS
