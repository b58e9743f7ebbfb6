// cp.async in the counters, against answers worked out by hand.
#include "tests/simt/counted.h"

namespace plume::PLUME_KERNELS {
namespace {

TEST_F(Counts, OfAsyncCopies) {
  const KernelCounts c = warp_counts<counted_async_copy<false>>(in_.in(), 32u, out_.get());
  EXPECT_EQ(c.loads, 1);
  EXPECT_EQ(c.sectors, 16 + 4);
  EXPECT_EQ(c.global_bytes, 512 + 128);
  EXPECT_EQ(c.shared_stores, 1);
  EXPECT_EQ(c.wavefronts, 4 + 4);
  EXPECT_EQ(c.l2_bytes, 512 + 128);
  EXPECT_EQ(c.waits, 1);
  EXPECT_EQ(c.waited_bytes, 512);
}

TEST_F(Counts, OfAsyncCopiesThatReadNothing) {
  const KernelCounts c = warp_counts<counted_async_copy<true>>(in_.in(), 8u, out_.get());
  EXPECT_EQ(c.loads, 1);
  EXPECT_EQ(c.global_lanes, 8 + 32);
  EXPECT_EQ(c.sectors, 4 + 4);
  EXPECT_EQ(c.shared_stores, 1);  // zeros are written together with the rest
  EXPECT_EQ(c.wavefronts, 4 + 4);
}

TEST_F(Counts, OfGroupsOnTheirWay) {
  const KernelCounts c = warp_counts<counted_async_groups>(in_.in(), out_.get());
  EXPECT_NEAR(c.waits, 1.0 / 3 + 1, 1e-9);
  EXPECT_NEAR(c.waited_bytes, 3 * 128, 1e-9);  // 128 of 384, then the other 256: not at the barrier
}

}  // namespace
}  // namespace plume::PLUME_KERNELS
