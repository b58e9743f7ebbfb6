#include "data/sets/cifar.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>

#include "data/sets/registry.h"
#include "engine/core/error.h"
#include "engine/core/random.h"
#include "tests/support/test_support.h"

namespace plume::data::cifar_test {
namespace {

namespace fs = std::filesystem;
using test::write_file;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

constexpr int64_t kRecords = 12;
constexpr size_t kRecord = 3073;

CifarFormat small10() {
  CifarFormat format = cifar10_format();
  format.train_records = format.test_records = kRecords;
  return format;
}
CifarFormat small100() {
  CifarFormat format = cifar100_format();
  format.train_records = format.test_records = kRecords;
  return format;
}

// Records with random pixels; labels count through the classes.
std::string records(uint64_t seed, bool coarse) {
  RandomSequence random(seed);
  std::string bytes;
  for (int64_t r = 0; r < kRecords; ++r) {
    if (coarse) bytes += char((r * 3 + 1) % 20);
    bytes += char((r * 7 + int64_t(seed)) % (coarse ? 100 : 10));
    for (int i = 0; i < 3072; ++i) bytes += char(random.bits());
  }
  return bytes;
}

class Cifar : public testing::Test {
 protected:
  Cifar() { write_all(folder_.path()); }

  void write_all(const fs::path& to) {
    for (size_t i = 0; i < 5; ++i)
      write_file((to / cifar10_format().train_files[i]).string(), records(i + 1, false));
    write_file((to / "test_batch.bin").string(), records(9, false));
  }
  std::string dir() const { return folder_.path().string(); }
  std::string file(const std::string& name) const { return folder_.file(name); }

  // The message of the one-line bad_input error that loading raises.
  std::string error(Split split = Split::train) { return error_of(small10(), dir(), split); }
  static std::string error_of(const CifarFormat& format, const std::string& dir, Split split) {
    try {
      load_cifar(format, dir, split);
    } catch (const Error& e) {
      EXPECT_EQ(e.kind(), ErrorKind::bad_input) << e.what();
      EXPECT_THAT(e.what(), Not(HasSubstr("\n")));
      return e.what();
    }
    ADD_FAILURE() << "no error";
    return "";
  }

  test::TemporaryFolder folder_;
};

TEST_F(Cifar, ReadsPlanesAsInterleavedPixels) {
  const auto train = load_cifar(small10(), dir(), Split::train);
  ASSERT_EQ(train->size(), 5 * kRecords);
  EXPECT_EQ(train->classes(), 10);
  EXPECT_EQ(train->class_names()[9], "truck");
  EXPECT_EQ(train->height(), 32);
  EXPECT_EQ(train->width(), 32);
  for (int64_t i = 0; i < train->size(); ++i) {
    const std::string bytes = records(uint64_t(i / kRecords) + 1, false);
    const char* record = bytes.data() + size_t(i % kRecords) * kRecord;
    const Sample sample = train->get(i);
    ASSERT_EQ(sample.label, int(record[0]));
    ASSERT_EQ(sample.pixels.size(), 3072u);
    for (size_t p = 0; p < 1024; ++p)
      for (size_t c = 0; c < 3; ++c) ASSERT_EQ(sample.pixels[p * 3 + c], uint8_t(record[1 + c * 1024 + p]));
  }
  EXPECT_THROW(train->get(-1), Error);
  EXPECT_THROW(train->get(train->size()), Error);
  EXPECT_EQ(load_cifar(small10(), dir(), Split::test)->size(), kRecords);
}

TEST_F(Cifar, FindsTheFolderOfTheArchive) {
  test::TemporaryFolder outer;
  fs::create_directory(outer.path() / "cifar-10-batches-bin");
  write_all(outer.path() / "cifar-10-batches-bin");
  EXPECT_EQ(load_cifar(small10(), outer.path().string(), Split::train)->fingerprint(),
            load_cifar(small10(), dir(), Split::train)->fingerprint());
}

TEST_F(Cifar, FingerprintTellsContentApart) {
  const std::string before = load_cifar(small10(), dir(), Split::train)->fingerprint();
  EXPECT_EQ(before.size(), 16u);
  std::string bytes = records(3, false);
  bytes.back() ^= 1;
  write_file(file("data_batch_3.bin"), bytes);
  EXPECT_NE(load_cifar(small10(), dir(), Split::train)->fingerprint(), before);
}

TEST_F(Cifar, ReadsCifar100FineLabels) {
  write_file(file("train.bin"), records(1, true));
  write_file(file("test.bin"), records(2, true));
  const auto test_set = load_cifar(small100(), dir(), Split::test);
  ASSERT_EQ(test_set->size(), kRecords);
  EXPECT_EQ(test_set->classes(), 100);
  for (int64_t r = 0; r < kRecords; ++r) EXPECT_EQ(test_set->get(r).label, (r * 7 + 2) % 100);

  std::string bytes = records(1, true);
  bytes[11 * 3074] = 20;
  write_file(file("train.bin"), bytes);
  EXPECT_THAT(error_of(small100(), dir(), Split::train),
              AllOf(HasSubstr("train.bin"), HasSubstr("record 11"), HasSubstr("coarse label 20"),
                    HasSubstr("0 to 19")));
  bytes[11 * 3074] = 19;
  bytes[11 * 3074 + 1] = 100;
  write_file(file("train.bin"), bytes);
  EXPECT_THAT(error_of(small100(), dir(), Split::train), AllOf(HasSubstr("label 100"), HasSubstr("0 to 99")));
}

TEST_F(Cifar, ClassNamesAreDistinct) {
  for (const CifarFormat* format : {&cifar10_format(), &cifar100_format()}) {
    const auto& names = format->class_names;
    EXPECT_EQ(names.size(), format == &cifar10_format() ? 10u : 100u);
    for (size_t i = 1; i < names.size(); ++i) EXPECT_LT(names[i - 1], names[i]);  // both are alphabetical
  }
}

TEST_F(Cifar, NamesAMissingFile) {
  fs::remove(file("data_batch_4.bin"));
  EXPECT_THAT(error(),
              AllOf(HasSubstr("data_batch_4.bin"), HasSubstr("No such file"), HasSubstr("36876 bytes")));
  EXPECT_EQ(load_cifar(small10(), dir(), Split::test)->size(), kRecords);  // not concerned
}

TEST_F(Cifar, NamesAMissingFolder) {
  EXPECT_THAT(error_of(small10(), file("nowhere"), Split::train), HasSubstr("nowhere: no such folder"));
  EXPECT_THAT(error_of(small10(), file("test_batch.bin"), Split::train), HasSubstr("is not a folder"));
  test::TemporaryFolder empty;
  EXPECT_THAT(
      error_of(small10(), empty.path().string(), Split::train),
      AllOf(HasSubstr("no CIFAR-10 here"), HasSubstr("cifar-10-batches-bin"), HasSubstr("data_batch_1.bin")));
  write_file(empty.file("cifar-10-binary.tar.gz"), "x");
  EXPECT_THAT(error_of(small10(), empty.path().string(), Split::train), HasSubstr("must be unpacked"));
}

// The archives beside the binary one: named for what they are, with what to fetch instead.
TEST_F(Cifar, NamesTheOtherVersions) {
  const auto found = [](const CifarFormat& format, const std::vector<std::string>& files) {
    const test::TemporaryFolder folder;
    for (const std::string& name : files) {
      fs::create_directories((folder.path() / name).parent_path());
      write_file((folder.path() / name).string(), "x");
    }
    const std::string error = error_of(format, folder.path().string(), Split::test);
    EXPECT_THAT(error, AllOf(HasSubstr("expected the binary version: fetch "), HasSubstr("fetch_data.sh")));
    return error.substr(folder.path().string().size());
  };
  const CifarFormat &ten = cifar10_format(), &hundred = cifar100_format();
  EXPECT_THAT(found(ten, {"cifar-10-batches-py/data_batch_1", "cifar-10-batches-py/batches.meta"}),
              AllOf(HasSubstr("/cifar-10-batches-py/data_batch_1: is CIFAR-10 in its version for Python"),
                    HasSubstr("fetch cifar-10-binary.tar.gz")));
  EXPECT_THAT(found(ten, {"data_batch_1", "batches.meta"}), HasSubstr("version for Python"));
  EXPECT_THAT(found(ten, {"cifar-10-python.tar.gz"}),
              HasSubstr("/cifar-10-python.tar.gz: is CIFAR-10 in its version for Python"));
  EXPECT_THAT(found(ten, {"cifar-10-batches-mat/data_batch_1.mat", "cifar-10-batches-mat/batches.meta.mat"}),
              HasSubstr("version for Matlab"));
  EXPECT_THAT(found(hundred, {"train", "test", "meta"}),
              AllOf(HasSubstr("/train: is CIFAR-100 in its version for Python"),
                    HasSubstr("fetch cifar-100-binary.tar.gz")));
  EXPECT_THAT(found(hundred, {"cifar-100-matlab.tar.gz"}), HasSubstr("version for Matlab"));
}

TEST_F(Cifar, HasNoValidationSplit) {
  try {
    load_cifar(small10(), dir(), Split::val);
    ADD_FAILURE() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::usage);
    EXPECT_STREQ(error.what(), "data set cifar10: has no split val: it has train and test");
  }
}

TEST_F(Cifar, NamesAWrongSize) {
  const std::string good = records(2, false);
  const std::pair<std::string, const char*> cases[] = {
      {"", "is empty"},
      {good.substr(0, good.size() - 1), "has 36875 bytes, expected 36876 bytes"},
      {good + "x", "has 36877 bytes, expected 36876 bytes"},
      {good.substr(kRecord), "has 33803 bytes, expected 36876 bytes"},
  };
  for (const auto& [bytes, reason] : cases) {
    write_file(file("data_batch_2.bin"), bytes);
    EXPECT_THAT(error(), AllOf(HasSubstr("data_batch_2.bin: "), HasSubstr(reason)));
  }
}

TEST_F(Cifar, RecognisesOtherContent) {
  const std::pair<std::string, const char*> cases[] = {
      {std::string("\x1f\x8b\x08\x00", 4), "gzip"},
      {std::string("PK\x03\x04", 4), "zip archive"},
      {"\n <!DOCTYPE HTML>\n<html><body>404</body></html>", "HTML"},
      {"version https://git-lfs.github.com/spec/v1\noid sha256:12\nsize 3\n", "Git LFS pointer"},
      {std::string("\x80\x02}q\x01", 5), "Python pickle"},
  };
  for (const auto& [bytes, reason] : cases) {
    write_file(file("test_batch.bin"), bytes);
    EXPECT_THAT(error(Split::test), AllOf(HasSubstr("test_batch.bin: holds "), HasSubstr(reason)));
  }
}

TEST_F(Cifar, NamesTheRecordOfABadLabel) {
  std::string bytes = records(5, false);
  bytes[11 * kRecord] = 10;
  write_file(file("data_batch_5.bin"), bytes);
  EXPECT_THAT(error(), AllOf(HasSubstr("data_batch_5.bin"), HasSubstr("record 11 (byte 33803)"),
                             HasSubstr("label 10, expected 0 to 9")));
}

TEST_F(Cifar, RefusesABatchTwice) {
  write_file(file("data_batch_4.bin"), records(2, false));
  EXPECT_THAT(error(),
              AllOf(HasSubstr("data_batch_4.bin: has the same content as"), HasSubstr("data_batch_2.bin")));
}

TEST_F(Cifar, RefusesWhatIsNotAFileWithoutWaiting) {
  const auto replaced = [&](auto make) {
    fs::remove_all(file("data_batch_1.bin"));
    make(file("data_batch_1.bin"));
    return error();
  };
  EXPECT_THAT(replaced([](const std::string& path) { fs::create_directory(path); }),
              HasSubstr("is a folder"));
  EXPECT_THAT(replaced([](const std::string& path) { ASSERT_EQ(mkfifo(path.c_str(), 0600), 0); }),
              HasSubstr("is a pipe"));
  EXPECT_THAT(replaced([](const std::string& path) { fs::create_symlink("/dev/zero", path); }),
              HasSubstr("is a device"));
  EXPECT_THAT(replaced([](const std::string& path) { fs::create_symlink(path, path); }),
              AllOf(HasSubstr("data_batch_1.bin"), HasSubstr("symbolic links")));
}

// The bytes of one data set under the other's name: sparse files of the official sizes.
TEST_F(Cifar, RecognisesTheOtherDataSetBySize) {
  const auto make = [&](const std::string& name, uintmax_t size) {
    write_file(file(name), "");
    fs::resize_file(file(name), size);
  };
  make("test_batch.bin", 30'740'000);
  EXPECT_THAT(error_of(cifar10_format(), dir(), Split::test),
              AllOf(HasSubstr("30740000 bytes like a file of CIFAR-100"), HasSubstr("expected 30730000")));
  make("test.bin", 30'730'000);
  EXPECT_THAT(error_of(cifar100_format(), dir(), Split::test),
              AllOf(HasSubstr("30730000 bytes like a file of CIFAR-10,"), HasSubstr("expected 30740000")));
  // CIFAR-100 records cut to CIFAR-10's size: labels give them away.
  write_file(file("data_batch_1.bin"), (records(1, true) + records(2, true)).substr(0, kRecord * kRecords));
  EXPECT_THAT(error(), AllOf(HasSubstr("data_batch_1.bin"), HasSubstr("label")));
}

TEST_F(Cifar, OfficialSizes) {
  write_file(file("data_batch_1.bin"), "x");
  EXPECT_THAT(error_of(cifar10_format(), dir(), Split::train), HasSubstr("expected 30730000 bytes"));
  write_file(file("train.bin"), "x");
  EXPECT_THAT(error_of(cifar100_format(), dir(), Split::train), HasSubstr("expected 153700000 bytes"));
  write_file(file("test.bin"), "x");
  EXPECT_THAT(error_of(cifar100_format(), dir(), Split::test), HasSubstr("expected 30740000 bytes"));
}

TEST(Registry, OpensByName) {
  EXPECT_EQ(open_dataset("synthetic", "", Split::test, {.count = 20})->size(), 20);
  EXPECT_EQ(dataset_names(),
            (std::vector<std::string>{"synthetic", "cifar10", "cifar100", "tiny-imagenet", "imagefolder"}));
  const auto error_kind = [](std::string_view name, const std::string& dir) {
    try {
      open_dataset(name, dir, Split::train);
    } catch (const Error& e) {
      return std::pair(e.kind(), std::string(e.what()));
    }
    return std::pair(ErrorKind::internal, std::string("no error"));
  };
  EXPECT_EQ(error_kind("cifar1", "/").first, ErrorKind::usage);
  EXPECT_THAT(error_kind("cifar1", "/").second, AllOf(HasSubstr("'cifar1'"), HasSubstr("'cifar10'")));
  EXPECT_EQ(error_kind("cifar10", "").first, ErrorKind::usage);
  EXPECT_EQ(error_kind("cifar10", "/nonexistent").first, ErrorKind::bad_input);
  EXPECT_EQ(parse_split("train"), Split::train);
  EXPECT_EQ(parse_split("test"), Split::test);
  EXPECT_EQ(parse_split("val"), Split::val);
  EXPECT_THROW(parse_split("valid"), Error);
  EXPECT_STREQ(name(Split::val), "val");
}

}  // namespace
}  // namespace plume::data::cifar_test
