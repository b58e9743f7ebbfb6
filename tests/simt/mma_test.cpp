// The tensor-core wrappers against a plain matrix product. Small integers are exact in every format.
#include <gtest/gtest.h>

#include <vector>

#include "tests/simt/mma_kernels.h"

namespace plume::PLUME_KERNELS {
namespace {

template <class T>
std::vector<T> small_integers(int count, int seed) {
  std::vector<T> values;
  for (int i = 0; i < count; ++i) values.push_back(T(float((i * 7 + seed + i / 5) % 13 - 6)));
  return values;
}

template <class T>
std::vector<float> product(const std::vector<T>& a, const std::vector<T>& b, int inner) {
  std::vector<float> c(16 * 8);
  for (int i = 0; i < 16; ++i)
    for (int j = 0; j < 8; ++j)
      for (int k = 0; k < inner; ++k)
        c[size_t(i * 8 + j)] += float(a[size_t(i * inner + k)]) * float(b[size_t(k * 8 + j)]);
  return c;
}

template <class T>
class Mma : public testing::Test {};
using HalfTypes = testing::Types<f16, bf16>;
TYPED_TEST_SUITE(Mma, HalfTypes);

TYPED_TEST(Mma, FragmentsFilledByHand) {
  using T = TypeParam;
  const auto a = small_integers<T>(256, 1), b = small_integers<T>(128, 4);
  std::vector<float> c(128);
  simt::launch<mma_by_hand<T>>({1, 32, 0, {}}, a.data(), b.data(), c.data());
  EXPECT_EQ(c, product(a, b, 16));
}

TYPED_TEST(Mma, FragmentsFromSharedMemory) {
  using T = TypeParam;
  const auto a = small_integers<T>(256, 2), b = small_integers<T>(128, 9);
  std::vector<float> c(128);
  simt::launch<mma_by_ldmatrix<T>>({1, 32, 0, {}}, a.data(), b.data(), c.data());
  EXPECT_EQ(c, product(a, b, 16));
}

TEST(MmaTf32, MatchesThePlainProduct) {
  const auto a = small_integers<float>(128, 3), b = small_integers<float>(64, 5);
  std::vector<float> c(128);
  simt::launch<mma_tf32>({1, 32, 0, {}}, a.data(), b.data(), c.data());
  EXPECT_EQ(c, product(a, b, 8));
}

TEST(MmaTf32, RoundsToTenBitsTiesAway) {
  const auto rounded = [](float v) { return std::bit_cast<float>(to_tf32(v)); };
  EXPECT_EQ(rounded(1.0f + 0x1p-11f), 1.0f + 0x1p-10f);
  EXPECT_EQ(rounded(1.0f + 0x1p-12f), 1.0f);
  EXPECT_EQ(rounded(-1.0f - 0x1p-11f), -1.0f - 0x1p-10f);
  EXPECT_EQ(rounded(3.0f), 3.0f);
}

[[maybe_unused]] static __global__ void misaligned_row(float* out) {
  SMEM(tile, Tile<f16, 32, 9>);
  uint32_t r[4];
  ldmatrix_x4(r, &tile.at[threadIdx.x][1]);
  out[threadIdx.x] = float(r[0]);
}

TEST(Ldmatrix, MisalignedRowIsFound) {
  std::vector<float> out(32);
  EXPECT_DEATH(simt::launch<misaligned_row>({1, 32, 0, {}}, out.data()), "not a multiple of 16 bytes");
}

}  // namespace
}  // namespace plume::PLUME_KERNELS
