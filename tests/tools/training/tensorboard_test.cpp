// Event files byte by byte, as TensorBoard's own writer makes them (fixtures/make_tensorboard.py).
#include "tools/training/tensorboard.h"

#include <gtest/gtest.h>

#include "tests/support/test_support.h"

namespace plume::test::tensorboard_test {
namespace {

TEST(TensorboardTest, ChecksumsAreCastagnolis) {
  EXPECT_EQ(tools::crc32c("123456789", 9), 0xE3069283u);  // RFC 3720 and every CRC catalogue
  EXPECT_EQ(tools::crc32c("", 0), 0u);
  EXPECT_EQ(tools::crc32c(std::string(32, '\0').data(), 32), 0x8A9136AAu);
}

TEST(TensorboardTest, FilesAreThoseOfTensorBoard) {
  std::string file = tools::tensorboard_header(1.5);
  file += tools::tensorboard_record({1700000000.25, 391, {{"train/loss", 1.25f}, {"test/top1", 0.5f}}});
  file += tools::tensorboard_record({1700000300.0, 1'000'000, {{"learning_rate", 0.1f}}});
  EXPECT_EQ(file, read_file(fixture("tensorboard.events")));
}

}  // namespace
}  // namespace plume::test::tensorboard_test
