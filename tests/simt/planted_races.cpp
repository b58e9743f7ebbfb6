// The race check finds planted races and stays silent on correct kernels. Built with the race check by
// tests/simt/CMakeLists.txt, whatever the rest of the build uses.
#include <gtest/gtest.h>

#include <vector>

#include "kernels/batch_norm_groups.h"
#include "tests/simt/kernels_under_test.h"
#include "tests/simt/planted_kernels.h"
#include "tests/simt/product_kernels.h"
#include "tests/simt/waiting_kernels.h"

namespace plume::PLUME_KERNELS {
namespace {

class Race : public testing::TestWithParam<bool> {
 protected:
  void SetUp() override { simt::emu::options().reverse = GetParam(); }
  std::vector<float> x_ = std::vector<float>(64 * 40, 1.0f), out_ = std::vector<float>(64 * 40);
};
INSTANTIATE_TEST_SUITE_P(Order, Race, testing::Bool(),
                         [](const auto& p) { return p.param ? "reversed" : "normal"; });

TEST_P(Race, MissingBarrierIsFound) {
  simt::launch<shared_neighbour<true>>({2, 64, 0, {}}, out_.data());
  EXPECT_DEATH(simt::launch<shared_neighbour<false>>({2, 64, 0, {}}, out_.data()),
               "kernel .*shared_neighbour.*: data race .* on shared memory, offset [0-9]+\n"
               ".*first: thread .*planted_races.*\\+0x(.|\n)*second: thread ");
}

TEST_P(Race, WriteAfterReadWithoutBarrierIsFound) {
  simt::launch<write_after_read<true>>({2, 64, 0, {}}, out_.data());
  EXPECT_DEATH(simt::launch<write_after_read<false>>({2, 64, 0, {}}, out_.data()), "data race");
}

TEST_P(Race, MissingSyncwarpIsFound) {
  simt::launch<warp_exchange<true>>({2, 32, 0, {}}, out_.data());
  EXPECT_DEATH(simt::launch<warp_exchange<false>>({2, 32, 0, {}}, out_.data()), "data race");
}

TEST_P(Race, MissingAtomicBetweenBlocksIsFound) {
  int counter = 0;
  simt::launch<count_blocks<true>>({5, 32, 0, {}}, &counter);
  EXPECT_EQ(counter, 5);
  std::vector<int> on_heap(1);
  EXPECT_DEATH(simt::launch<count_blocks<false>>({5, 32, 0, {}}, on_heap.data()),
               "count_blocks.*: data race .* on global memory");
}

TEST_P(Race, MissingFenceInLastBlockReductionIsFound) {
  std::vector<float> partial(40);
  std::vector<unsigned> ticket(1);
  const auto run = [&]<bool kFence, bool kBarrier>() {
    simt::launch<last_block_sum<kFence, kBarrier>>({40, 64, 0, {}}, static_cast<const float*>(x_.data()),
                                                   partial.data(), ticket.data(), out_.data());
  };
  run.operator()<true, true>();
  EXPECT_EQ(out_[0], 64.0f * 40);
  EXPECT_DEATH((run.operator()<false, true>()),
               "last_block_sum.*: data race .read after write. on global memory");
  EXPECT_DEATH((run.operator()<true, false>()), "last_block_sum.*: data race");
}

TEST_P(Race, MissingReleaseOrWaitBetweenBlocksIsFound) {
  std::vector<unsigned> words(41);
  const auto run = [&]<bool kFence, Waits kWaits>() {
    simt::launch<hand_on<kFence, kWaits>>({40, 64, 0, {}}, words.data(), out_.data());
  };
  for (int again = 0; again < 2; ++again) {  // the words are 0 again
    run.operator()<true, Waits::rightly>();
    EXPECT_EQ(out_[39 * 64 + 5], 40.0f);
    EXPECT_EQ(words, std::vector<unsigned>(41));
  }
  EXPECT_DEATH((run.operator()<false, Waits::rightly>()),
               "hand_on.*: data race .read after write. on global memory");
  EXPECT_DEATH((run.operator()<true, Waits::never>()),
               "hand_on.*: data race .read after write. on global memory");
}

// Blocks that apply a group's sums beside those that sum the next one; a third group that is not full.
TEST_P(Race, NormsOfGroupsOfChannelsAreSilent) {
  constexpr int kRows = 200, kChannels = 160;
  const GroupOrder order{.tiles = 5, .tiles_of_group = 2, .groups = 3, .slices = 7, .lag = 14};
  const Columns all(kRows, kChannels);
  std::vector<float> x(kRows * kChannels), dy(x.size()), dx(x.size()), ones(kChannels, 1.0f),
      zeros(kChannels), dbeta(kChannels), dgamma(kChannels);
  for (size_t i = 0; i < x.size(); ++i) {
    x[i] = float(int(i * 7 % 5) - 2);
    dy[i] = float(int(i * 3 % 7) - 3);
  }
  const GradientSource<float> source{.x = x.data(),
                                     .y = nullptr,
                                     .dy = dy.data(),
                                     .dy_more = nullptr,
                                     .gamma = ones.data(),
                                     .beta = zeros.data(),
                                     .mean = zeros.data(),
                                     .inv_std = ones.data(),
                                     .activation = {},
                                     .drop = {}};
  std::vector<GradientSums> partial(size_t(order.slices + 1) * kChannels);
  std::vector<unsigned> words(size_t(GroupCounters::count(order)));
  simt::launch<batch_norm_gradient_in_groups<float, 4, int(Activation::identity), false>>(
      {dim3(order.blocks_of_kind(), 1, 2), dim3(8, 32), 0, {}}, source, false, all, order, int64_t{29},
      partial.data(), GroupCounters{words.data()}, dbeta.data(), dgamma.data(), float(kRows), dx.data(),
      static_cast<float*>(nullptr));
  for (int c = 0; c < kChannels; ++c) {
    double beta = 0, gamma = 0;
    for (int i = c; i < kRows * kChannels; i += kChannels) {
      beta += dy[size_t(i)];
      gamma += double(dy[size_t(i)]) * x[size_t(i)];
    }
    ASSERT_EQ(dbeta[size_t(c)], float(beta));
    ASSERT_EQ(dgamma[size_t(c)], float(gamma));
    for (size_t i = size_t(c); i < x.size(); i += kChannels)
      ASSERT_NEAR(dx[i], dy[i] - (beta + x[i] * gamma) / kRows, 1e-5);
  }
  EXPECT_EQ(words, std::vector<unsigned>(words.size()));
}

TEST_P(Race, CopiesThatOthersReadWithoutBarrierAreFound) {
  const float* in = x_.data();
  simt::launch<copy_for_neighbour<true>>({2, 64, 0, {}}, in, out_.data());
  EXPECT_DEATH(simt::launch<copy_for_neighbour<false>>({2, 64, 0, {}}, in, out_.data()),
               "copy_for_neighbour.*: data race (.|\n)*planted_kernels.h");
}

TEST_P(Race, CopiesOverWhatOthersReadAreFound) {
  const float* in = x_.data();
  simt::launch<copy_over_what_is_read<true>>({2, 64, 0, {}}, in, out_.data());
  EXPECT_EQ(out_[0], 2.0f);
  EXPECT_DEATH(simt::launch<copy_over_what_is_read<false>>({2, 64, 0, {}}, in, out_.data()),
               "copy_over_what_is_read.*: data race .* on shared memory");
}

// More tiles than blocks, depth in slices or not, and no dimension that fills its tiles. Where all tiles
// of a block have the same columns, and the depth has few steps, these are copied once.
TEST_P(Race, ProductsOnTheMatrixCoreAreSilentAndExact) {
  constexpr int kRows = 648;
  const auto value = [](int row, int depth, int seed) { return float((row * 7 + depth * 3 + seed) % 5 - 2); };
  const auto matrix = [&](int rows, int depth, bool depth_major, int seed) {
    std::vector<bf16> result(size_t(rows * depth));
    for (int row = 0; row < rows; ++row)
      for (int d = 0; d < depth; ++d)
        result[size_t(depth_major ? row * depth + d : d * rows + row)] = bf16(value(row, d, seed));
    return result;
  };
  const auto check = [&]<int kTile, bool kADepthMajor, bool kBDepthMajor, int kStep = kCoreDepth,
                         int kTileRows = kCoreRows>(int columns, int depth, int slices) {
    const std::vector<bf16> a = matrix(kRows, depth, kADepthMajor, 1),
                            b = matrix(columns, depth, kBDepthMajor, 2);
    const CorePlan plan(kRows, columns, depth, kTile, slices, kStep, kTileRows);
    EXPECT_EQ(plan.slices, slices);
    std::vector<float> partial(size_t(plan.partial_count()), -1.0f);
    simt::launch<core_product<kTile, kADepthMajor, kBDepthMajor, kStep, kTileRows>>(
        {2, core_threads(kTileRows, kTile), CoreMemory<kTile, kStep, kTileRows>::kBytes, {}}, a.data(),
        b.data(), plan, partial.data());
    for (int row = 0; row < kRows; ++row)
      for (int column = 0; column < columns; ++column) {
        float sum = 0.0f, stored = 0.0f;
        for (int d = 0; d < depth; ++d) sum += value(row, d, 1) * value(column, d, 2);
        for (int slice = 0; slice < slices; ++slice)
          stored += partial[size_t((slice * kRows + row) * columns + column)];
        ASSERT_EQ(stored, sum) << kTile << " columns at once: " << row << ' ' << column;
      }
  };
  check.operator()<32, true, true>(72, 264, 2);
  check.operator()<64, true, false>(72, 264, 2);
  check.operator()<96, true, true>(104, 264, 2);
  check.operator()<128, true, false>(72, 264, 2);
  check.operator()<64, false, true>(72, 264, 2);
  check.operator()<32, false, false>(72, 264, 2);
  check.operator()<128, false, false>(72, 264, 2);
  check.operator()<96, true, true>(88, 40, 1);
  check.operator()<64, true, true>(40, 184, 1);
  check.operator()<64, true, true>(72, 184, 1);
  check.operator()<32, true, false>(88, 184, 1);
  check.operator()<64, true, true>(40, 120, 1);
  check.operator()<32, true, false>(24, 184, 1);
  check.operator()<32, true, true, kShallowDepth>(24, 24, 1);
  check.operator()<128, true, true, kShallowDepth>(136, 16, 1);
  check.operator()<192, true, true, kCoreDepth, kWideRows>(152, 264, 1);
  check.operator()<192, true, true, kCoreDepth, kWideRows>(200, 248, 1);
  check.operator()<192, true, false, kCoreDepth, kWideRows>(152, 184, 1);
  check.operator()<192, false, false, kCoreDepth, kWideRows>(152, 264, 2);
  check.operator()<128, true, true, kCoreDepth, kWideRows>(136, 248, 1);
  check.operator()<128, true, false, kCoreDepth, kWideRows>(136, 264, 1);
  check.operator()<128, false, false, kCoreDepth, kLargeRows>(136, 264, 2);
}

// More tiles than blocks, pixels of several images in a strip, a second strip that is not full. An input
// gradient reads its taps backwards.
TEST_P(Race, StripsAreSilentAndExact) {
  constexpr int kHeight = 9, kWidth = 8, kColumns = 72, kTaps = 9;
  const auto value = [](int a, int b, int c) { return float((a * 7 + b * 3 + c) % 5 - 2); };
  const auto check = [&]<int kTile, bool kInput, Reads kReads = Reads::strips>(int channels) {
    constexpr int kRows = rows_of(kReads);
    const int images = kRows == kCoreRows ? 4 : 24;
    PatchWalk walk(images, kHeight, kWidth, channels, kHeight, kWidth);
    walk.set_taps(3, 3);
    walk.top = walk.left = kInput ? 1 : -1;
    walk.down = walk.right = kInput ? -1 : 1;
    const StripWalk strips(walk);
    const int pixels = int(walk.pixels());
    std::vector<bf16> x(size_t(pixels) * size_t(channels)), w(size_t(kColumns * kTaps) * size_t(channels));
    for (size_t i = 0; i < x.size(); ++i) x[i] = bf16(value(int(i) / channels, int(i) % channels, 1));
    const auto filter = [&](int column, int tap, int c) {
      return size_t(kInput ? (c * kTaps + tap) * kColumns + column : (column * kTaps + tap) * channels + c);
    };
    for (int column = 0; column < kColumns; ++column)
      for (int tap = 0; tap < kTaps; ++tap)
        for (int c = 0; c < channels; ++c) w[filter(column, tap, c)] = bf16(value(column, tap, c));
    const CorePlan plan(pixels, kColumns, strips.depth(), kTile, 1, kCoreDepth, kRows);
    std::vector<float> sums(size_t(plan.partial_count()), -1.0f);
    simt::launch<strip_product<kTile, kRows, kInput>>(
        {2, core_threads(kRows, kTile), core_bytes<kTile, kReads>(strips), {}},
        static_cast<const bf16*>(x.data()), static_cast<const bf16*>(w.data()), strips, plan, sums.data());
    for (int pixel = 0; pixel < pixels; ++pixel)
      for (int column = 0; column < kColumns; ++column) {
        float sum = 0.0f;
        for (int tap = 0; tap < kTaps; ++tap) {
          const int h = pixel / kWidth % kHeight + walk.top + tap / 3 * walk.down;
          const int v = pixel % kWidth + walk.left + tap % 3 * walk.right;
          if (h < 0 || h >= kHeight || v < 0 || v >= kWidth) continue;
          const int from = (pixel / (kWidth * kHeight) * kHeight + h) * kWidth + v;
          for (int c = 0; c < channels; ++c) sum += value(from, c, 1) * value(column, tap, c);
        }
        ASSERT_EQ(sums[size_t(pixel * kColumns + column)], sum) << pixel << ' ' << column;
      }
  };
  check.operator()<64, false>(72);
  check.operator()<64, true>(72);
  check.operator()<128, false>(136);
  check.operator()<128, true>(40);
  check.operator()<64, false, Reads::tall_strips>(40);
  check.operator()<64, true, Reads::tall_strips>(136);
  check.operator()<32, false, Reads::tall_strips>(24);
  check.operator()<32, true, Reads::tall_strips>(16);
  check.operator()<128, false, Reads::wide_strips>(136);
  check.operator()<128, true, Reads::wide_strips>(72);
}

// All taps of a filter's gradient at once: more tiles than blocks, slices of unlike length, pixels that end
// within a step, channels and filters that do not fill a tile, a ring that goes round.
TEST_P(Race, GradientsOfAllTapsAreSilentAndExact) {
  const auto value = [](int a, int b, int c) { return float((a * 7 + b * 3 + c) % 5 - 2); };
  const auto check = [&](int images, int height, int width, int dilation, int channels, int filters,
                         int slices) {
    constexpr int kTaps = 9;
    PatchWalk walk(images, height, width, channels, height, width);
    walk.set_taps(3, 3);
    walk.top = walk.left = -dilation;
    walk.down = walk.right = dilation;
    EXPECT_TRUE(TapWalk::fits(walk, filters));
    const int pixels = int(walk.pixels());
    std::vector<bf16> x(size_t(pixels * channels)), dy(size_t(pixels * filters));
    for (int i = 0; i < pixels * channels; ++i) x[size_t(i)] = bf16(value(i / channels, i % channels, 1));
    for (int i = 0; i < pixels * filters; ++i) dy[size_t(i)] = bf16(value(i / filters, i % filters, 2));
    const TapWalk taps(walk);
    const CorePlan plan(taps.rows(), filters, pixels, TapWalk::kSide, slices, kCoreDepth, TapWalk::kRows);
    EXPECT_EQ(plan.slices, slices);
    const int size = filters * kTaps * channels;
    std::vector<float> sums(size_t(size * slices), -1.0f);
    simt::launch<tap_product>(
        {3, core_threads(TapWalk::kRows), TapWalk::kBytes, {}}, static_cast<const bf16*>(x.data()),
        static_cast<const bf16*>(dy.data()), plan,
        FilterGradientStore<TapWalk>{taps, sums.data(), filters, kTaps * channels, size});
    for (int k = 0; k < filters; ++k)
      for (int tap = 0; tap < kTaps; ++tap)
        for (int c = 0; c < channels; ++c) {
          float sum = 0.0f, stored = 0.0f;
          for (int pixel = 0; pixel < pixels; ++pixel) {
            const int h = pixel / width % height + walk.top + tap / 3 * dilation;
            const int v = pixel % width + walk.left + tap % 3 * dilation;
            if (h < 0 || h >= height || v < 0 || v >= width) continue;
            sum += value((pixel / (width * height) * height + h) * width + v, c, 1) * value(pixel, k, 2);
          }
          for (int slice = 0; slice < slices; ++slice)
            stored += sums[size_t(slice * size + (k * kTaps + tap) * channels + c)];
          ASSERT_EQ(stored, sum) << k << ' ' << tap << ' ' << c;
        }
  };
  check(5, 9, 8, 1, 72, 64, 2);
  check(2, 13, 60, 1, 48, 120, 5);
  check(3, 7, 5, 2, 48, 48, 1);
}

TEST_P(Race, CorrectKernelsAreSilent) {
  std::vector<int> ints(64 * 40), counts(8);
  std::vector<float> s(256), m(256), total(1);
  std::vector<int> largest(1);
  simt::launch<write_indices>({dim3(2, 2), dim3(8, 4), 0, {}}, ints.data());
  simt::launch<sum_and_max<256>>({1, 256, 0, {}}, static_cast<const float*>(x_.data()), 999, s.data(),
                                 m.data());
  EXPECT_EQ(s[0], 999.0f);
  std::vector<int> reversed(ints.size());
  simt::launch<reverse_tile>({40, 64, 0, {}}, static_cast<const int*>(ints.data()), reversed.data());
  simt::launch<tree_sum>({4, 512, 512 * sizeof(float), {}}, static_cast<const float*>(x_.data()),
                         out_.data());
  EXPECT_EQ(out_[3], 512.0f);
  std::vector<ShuffleResults> shuffled(64);
  simt::launch<shuffles>({1, 64, 0, {}}, shuffled.data());
  std::vector<int> keys(1000, 3);
  simt::launch<histogram>({8, 128, 0, {}}, static_cast<const int*>(keys.data()), 1000, counts.data(),
                          total.data(), largest.data());
  EXPECT_EQ(counts[3], 1000);
  std::vector<f16> in(8 * 64, f16(1.5f)), doubled(8 * 64);
  simt::launch<double_packs<f16>>({2, 32, 0, {}}, static_cast<const f16*>(in.data()), doubled.data(), 64);
  EXPECT_EQ(float(doubled[511]), 3.0f);
}

}  // namespace
}  // namespace plume::PLUME_KERNELS
