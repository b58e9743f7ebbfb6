#include "data/sets/packed_file.h"

#include <cstring>
#include <numeric>

#include "tests/data/images/image_files.h"

namespace plume::data::packed_file_test {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::HasSubstr;

constexpr uint64_t kSource = 77;

// Two images, of 2x3 and 1x1 pixels, and one that was left out.
struct Packed {
  Packed() {
    std::vector<uint8_t> first(18), second{200, 201, 202};
    std::iota(first.begin(), first.end(), uint8_t(1));
    index.class_names = {"a", "", "b\tc"};
    index.images = {{0, 2, 3, 2, 0, hash_bytes(first)}, {18, 1, 1, 0, 0, hash_bytes(second)}};
    index.skipped = {{"bad.png", "is empty"}};
    PackedFileWriter writer(path, 21);
    writer.append(first);
    writer.append(second);
    EXPECT_FALSE(fs::exists(path));
    writer.commit(index, kSource);
    bytes = test::read_file(path);
  }
  std::string error(const std::string& changed, uint64_t source = kSource) const {
    test::write_file(path, changed);
    return refusal([&] { open_packed_file(path, source, 1); });
  }

  test::TemporaryFolder folder;
  const std::string path = folder.file("set.packed");
  PackedIndex index;
  std::string bytes;
};

TEST(PackedFile, GivesBackWhatWasWritten) {
  const Packed packed;
  const PackedFile file = open_packed_file(packed.path, kSource, 2);
  EXPECT_EQ(file.index.class_names, packed.index.class_names);
  ASSERT_EQ(file.index.images.size(), 2u);
  EXPECT_EQ(file.index.images[0].label, 2);
  EXPECT_EQ(file.index.images[1].offset, 18);
  ASSERT_EQ(file.index.skipped.size(), 1u);
  EXPECT_EQ(file.index.skipped[0].path, "bad.png");
  EXPECT_EQ(file.index.skipped[0].reason, "is empty");
  ASSERT_EQ(file.pixels.size(), 21u);
  EXPECT_EQ(file.pixels[0], 1);
  EXPECT_EQ(file.pixels[20], 202);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(file.pixels.data()) % 4096, 0u);
}

TEST(PackedFile, StaysMappedWhenItIsReplaced) {
  const Packed packed;
  const PackedFile file = open_packed_file(packed.path, kSource, 1);
  fs::remove(packed.path);
  EXPECT_EQ(file.pixels[20], 202);
}

TEST(PackedFile, RefusesEveryTruncationAndTrailingBytes) {
  const Packed packed;
  for (size_t size = 0; size<packed.bytes.size(); size += size> 90 && size < 4090 ? 500 : 1)
    EXPECT_THAT(packed.error(packed.bytes.substr(0, size)), HasSubstr(packed.path)) << size;
  EXPECT_THAT(packed.error(packed.bytes + "x"), HasSubstr("is damaged: has 4221 bytes, expected 4220"));
}

TEST(PackedFile, RefusesEveryDamagedByte) {
  const Packed packed;
  for (size_t i = 0; i<packed.bytes.size(); i += i> 100 && i < 4090 ? 333 : 1) {
    std::string damaged = packed.bytes;
    damaged[i] = char(damaged[i] ^ (1 << i * 5 % 8));
    EXPECT_NE(packed.error(damaged), "") << "byte " << i;
  }
  std::string damaged = packed.bytes;
  damaged[4096 + 18] = char(damaged[4096 + 18] ^ 1);
  EXPECT_THAT(packed.error(damaged), HasSubstr("is damaged: the checksum of image 1 is wrong"));
}

TEST(PackedFile, TellsVersionsAndSourcesApart) {
  const Packed packed;
  EXPECT_THAT(packed.error(packed.bytes, kSource + 1),
              HasSubstr("the images that it was made from have changed"));
  std::string newer = packed.bytes;
  newer[8] = 99;
  EXPECT_THAT(packed.error(newer), HasSubstr("is of version 99, expected "));
  EXPECT_THAT(packed.error("not it" + packed.bytes), HasSubstr("is not a file of packed images"));
  fs::remove(packed.path);
  fs::create_directory(packed.path);
  EXPECT_THAT(refusal([&] { open_packed_file(packed.path, kSource, 1); }), HasSubstr("is a folder"));
}

// Absurd fields under checksums that are right.
TEST(PackedFile, RefusesAnIndexThatContradictsItself) {
  const auto refused = [](auto change) {
    Packed packed;
    change(packed.index);
    PackedFileWriter writer(packed.path, 21);
    writer.append(std::vector<uint8_t>(21));
    writer.commit(packed.index, kSource);
    EXPECT_THAT(refusal([&] { open_packed_file(packed.path, kSource, 1); }),
                HasSubstr("is damaged: the index contradicts itself"));
  };
  refused([](PackedIndex& index) { index.images[0].label = 3; });
  refused([](PackedIndex& index) { index.images[0].label = -1; });
  refused([](PackedIndex& index) { index.images[0].height = 0; });
  refused([](PackedIndex& index) { index.images[0].width = -3; });
  refused([](PackedIndex& index) { index.images[1].offset = 19; });
  refused([](PackedIndex& index) { index.images[1].offset = -1; });
  refused([](PackedIndex& index) { index.images[1].offset = INT64_MAX; });
  refused([](PackedIndex& index) { index.images[1].height = index.images[1].width = INT32_MAX; });
}

TEST(PackedFile, AnAbandonedOneLeavesNothing) {
  const test::TemporaryFolder folder;
  {
    PackedFileWriter writer(folder.file("set.packed"), 0);
    writer.append(std::vector<uint8_t>(100));
  }
  EXPECT_TRUE(fs::is_empty(folder.path()));
}

}  // namespace
}  // namespace plume::data::packed_file_test
