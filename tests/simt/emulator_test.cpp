// Correct kernels give right results, in normal and in reversed order, from one and from several host
// threads.
#include <gtest/gtest.h>

#include <numeric>
#include <thread>

#include "kernels/simt/kernel_name.h"
#include "tests/simt/kernels_under_test.h"

namespace plume::PLUME_KERNELS {
namespace {

class Emulator : public testing::TestWithParam<bool> {
 protected:
  void SetUp() override { simt::emu::options().reverse = GetParam(); }
  void TearDown() override { simt::emu::options().reverse = false; }
};
INSTANTIATE_TEST_SUITE_P(Order, Emulator, testing::Bool(),
                         [](const auto& p) { return p.param ? "reversed" : "normal"; });

std::vector<float> ramp(int n) {
  std::vector<float> x(static_cast<size_t>(n));
  for (int i = 0; i < n; ++i) x[size_t(i)] = float(i % 37) - 11.0f;
  return x;
}

TEST_P(Emulator, EveryThreadOfEveryBlockRunsOnce) {
  const dim3 grid(3, 2, 2), block(5, 4, 3);
  std::vector<int> out(12 * 60, -1);
  simt::launch<write_indices>({grid, block, 0, {}}, out.data());
  for (int b = 0; b < 12; ++b)
    for (int t = 0; t < 60; ++t) ASSERT_EQ(out[size_t(b * 60 + t)], b * 10000 + t);
}

TEST_P(Emulator, BlockReductionsReachAllThreads) {
  for (int n : {1, 31, 100, 1000}) {
    const auto x = ramp(n);
    const float sum = std::accumulate(x.begin(), x.end(), 0.0f);
    const float largest = *std::max_element(x.begin(), x.end());
    std::vector<float> s(1024), m(1024);
    const auto expect = [&](size_t threads) {
      for (size_t t = 0; t < threads; ++t) {
        ASSERT_EQ(s[t], sum);
        ASSERT_EQ(m[t], largest);
      }
    };
    simt::launch<sum_and_max<32>>({1, 32, 0, {}}, x.data(), n, s.data(), m.data());
    expect(32);
    simt::launch<sum_and_max<256>>({1, 256, 0, {}}, x.data(), n, s.data(), m.data());
    expect(256);
    simt::launch<sum_and_max<1024>>({1, 1024, 0, {}}, x.data(), n, s.data(), m.data());
    expect(1024);
  }
}

TEST_P(Emulator, SharedMemoryBelongsToTheBlock) {
  std::vector<int> in(64 * 5), out(64 * 5);
  std::iota(in.begin(), in.end(), 0);
  simt::launch<reverse_tile>({5, 64, 0, {}}, in.data(), out.data());
  for (int i = 0; i < 64 * 5; ++i) ASSERT_EQ(out[size_t(i)], i / 64 * 64 + 63 - i % 64);
}

TEST_P(Emulator, DynamicSharedMemory) {
  const auto x = ramp(4 * 512);
  std::vector<float> out(4);
  simt::launch<tree_sum>({4, 512, 512 * sizeof(float), {}}, x.data(), out.data());
  for (size_t b = 0; b < 4; ++b) {
    EXPECT_EQ(out[b], std::accumulate(x.begin() + long(b) * 512, x.begin() + long(b + 1) * 512, 0.0f));
  }
}

TEST_P(Emulator, WarpOperations) {
  std::vector<ShuffleResults> out(64);
  simt::launch<shuffles>({1, 64, 0, {}}, out.data());
  for (int t = 0; t < 64; ++t) {
    const ShuffleResults& r = out[size_t(t)];
    const int lane = t % 32, warp = t - lane;
    EXPECT_EQ(r.broadcast, warp + 5);
    EXPECT_EQ(r.flipped, t ^ 3);
    EXPECT_EQ(r.down, lane + 4 < 32 ? t + 4 : t);
    EXPECT_EQ(r.up, lane >= 4 ? t - 4 : t);
    EXPECT_EQ(r.group, t / 8 * 8 + 2);
    EXPECT_EQ(r.ballot, 0x49249249u);
    EXPECT_EQ(r.any, t >= 32);
    EXPECT_EQ(r.all, t < 32);
    EXPECT_EQ(r.votes, 32000 + (lane < 16 ? 3 : 120));
  }
}

TEST_P(Emulator, Atomics) {
  const int n = 1000;
  std::vector<int> keys(n), counts(8);
  for (int i = 0; i < n; ++i) keys[size_t(i)] = i * i % 8;
  float total = 0;
  int largest = -1;
  simt::launch<histogram>({8, 128, 0, {}}, keys.data(), n, counts.data(), &total, &largest);
  for (int k = 0; k < 8; ++k) EXPECT_EQ(counts[size_t(k)], std::count(keys.begin(), keys.end(), k));
  EXPECT_EQ(total, 500.0f);
  EXPECT_EQ(largest, 4);
}

TEST_P(Emulator, LastBlockReduction) {
  const auto x = ramp(64 * 70);
  std::vector<float> partial(70);
  unsigned ticket = 0;
  for (int repeat = 0; repeat < 2; ++repeat) {  // the ticket resets itself
    float out = 0;
    simt::launch<last_block_sum<true, true>>({70, 64, 0, {}}, x.data(), partial.data(), &ticket, &out);
    EXPECT_EQ(out, std::accumulate(x.begin(), x.end(), 0.0f));
    EXPECT_EQ(ticket, 0u);
  }
}

template <class T>
void expect_doubled() {
  constexpr int kPacks = 37, kCount = kPacks * kVectorWidth<T>;
  alignas(16) T in[kCount], out[kCount];
  for (int i = 0; i < kCount; ++i) in[i] = T(float(i % 50) / 4.0f);
  ASSERT_TRUE(is_aligned<kVectorWidth<T>>(in));
  ASSERT_FALSE(is_aligned<kVectorWidth<T>>(in + 1));
  simt::launch<double_packs<T>>({2, 32, 0, {}}, static_cast<const T*>(in), static_cast<T*>(out), kPacks);
  for (int i = 0; i < kCount; ++i) ASSERT_EQ(float(out[i]), float(i % 50) / 2.0f);
}

TEST_P(Emulator, VectorLoadsOfEveryFloat) {
  expect_doubled<float>();
  expect_doubled<f16>();
  expect_doubled<bf16>();
}

TEST_P(Emulator, HostThreadsLaunchSideBySide) {
  const auto x = ramp(512);
  const float expected = std::accumulate(x.begin(), x.end(), 0.0f);
  std::vector<float> wrong(4);
  std::vector<std::thread> threads;
  for (size_t k = 0; k < 4; ++k)
    threads.emplace_back([&, k] {
      for (int repeat = 0; repeat < 50; ++repeat) {
        float out = 0;
        simt::launch<tree_sum>({1, 512, 512 * sizeof(float), {}}, x.data(), &out);
        if (out != expected) ++wrong[k];
      }
    });
  for (auto& thread : threads) thread.join();
  for (float w : wrong) EXPECT_EQ(w, 0.0f);
}

TEST(KernelName, IsReadFromTheLaunchFunction) {
  EXPECT_EQ(simt::kernel_name("void launch() [with auto kKernel = ns::f<float, 3>; Args = {int}]"),
            "ns::f<float, 3>");
  EXPECT_EQ(
      simt::kernel_name("void launch() [kKernel = &ns::(anonymous namespace)::g<ns::P<int>>, Args = <>]"),
      "ns::(anonymous namespace)::g<ns::P<int>>");
}

}  // namespace
}  // namespace plume::PLUME_KERNELS
