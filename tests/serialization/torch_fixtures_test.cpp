// Files that PyTorch wrote: their content, and what is said of every truncation and of every flipped bit.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "engine/serialization/torch_file.h"
#include "tests/serialization/torch_writer.h"
#include "tests/support/test_support.h"

namespace plume::torch_fixtures_test {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

struct Content {
  std::map<std::string, std::pair<std::string, std::string>> tensors;  // name -> description, bytes
  bool operator==(const Content&) const = default;
};

Content read_all(const std::string& path) {
  const TorchFile file(path);
  Content content;
  for (const TensorInfo& info : file.tensors()) {
    if (!info.type->dtype) {
      EXPECT_THROW(file.read(info), Error);
      content.tensors[info.name] = {info.describe(), ""};
      continue;
    }
    const Tensor t = file.read(info);
    content.tensors[info.name] = {info.describe(), std::string(static_cast<const char*>(t.raw()), t.bytes())};
  }
  return content;
}

float quarter(int i) { return float(i) / 4 - 1; }

TEST(TorchFixtures, WhatPyTorchWrote) {
  for (const char* name : {"state_zip.pth", "state_legacy.pth"}) {
    SCOPED_TRACE(name);
    const TorchFile file(test::fixture(name));
    EXPECT_EQ(file.legacy(), name == std::string("state_legacy.pth"));
    std::vector<std::string> names;
    for (const TensorInfo& info : file.tensors()) names.push_back(info.name + " " + info.describe());
    EXPECT_THAT(names, ElementsAre("conv.weight F32 [2, 3, 1, 2]", "half F16 [5]", "brain BF16 [5]",
                                   "bn.num_batches_tracked I64 []", "transposed F32 [6, 4]", "slice F32 [5]",
                                   "empty F32 [0, 3]"));
    const auto tensor_at = [&](size_t i) { return file.read(file.tensors()[i]); };
    for (int i = 0; i < 12; ++i) EXPECT_EQ(tensor_at(0).to_vector<float>()[size_t(i)], quarter(i));
    for (int i = 0; i < 5; ++i) {
      EXPECT_EQ(float(tensor_at(1).to_vector<f16>()[size_t(i)]), quarter(i));
      EXPECT_EQ(float(tensor_at(2).to_vector<bf16>()[size_t(i)]), quarter(i));
      EXPECT_EQ(tensor_at(5).to_vector<float>()[size_t(i)], quarter(3 + 4 * i));
    }
    EXPECT_EQ(tensor_at(3).to_vector<int64_t>()[0], (int64_t{1} << 40) + 7);
    const std::vector<float> transposed = tensor_at(4).to_vector<float>();
    for (int r = 0; r < 6; ++r)
      for (int c = 0; c < 4; ++c) EXPECT_EQ(transposed[size_t(4 * r + c)], quarter(6 * c + r));
    EXPECT_EQ(tensor_at(6).size(), 0);
  }
}

TEST(TorchFixtures, EveryTruncation) {
  const test::TemporaryFolder folder;
  const std::string path = folder.file("cut.pth");
  for (const char* name : {"state_zip.pth", "state_legacy.pth"}) {
    const std::string bytes = test::read_file(test::fixture(name));
    for (size_t n = 0; n < bytes.size(); ++n) {
      test::write_file(path, bytes.substr(0, n));
      EXPECT_THROW(TorchFile{path}, Error) << name << " cut to " << n;
    }
    test::write_file(path, bytes + "x");
    EXPECT_THROW(TorchFile{path}, Error) << name << " and a byte more";
  }
}

// The zipped form has checksums: whatever is taken is what was written. The older one has none.
TEST(TorchFixtures, EverySingleBitFlip) {
  const test::TemporaryFolder folder;
  const std::string path = folder.file("flipped.pth");
  for (const char* name : {"state_zip.pth", "state_legacy.pth"}) {
    const bool zipped = name == std::string("state_zip.pth");
    const Content right = read_all(test::fixture(name));
    const std::string bytes = test::read_file(test::fixture(name));
    test::write_file(path, bytes);
    std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
    const auto put = [&](size_t at, char byte) { file.seekp(std::streamoff(at)).put(byte).flush(); };
    size_t refused = 0;
    for (size_t bit = 0; bit < 8 * bytes.size(); ++bit) {
      put(bit / 8, char(bytes[bit / 8] ^ (1 << (bit % 8))));
      try {
        const Content content = read_all(path);
        if (zipped) {
          EXPECT_EQ(content, right) << name << ", bit " << bit;
        }
      } catch (const Error& error) {
        ++refused;
        EXPECT_EQ(error.kind(), ErrorKind::bad_input) << error.what();
        EXPECT_THAT(error.what(), testing::Not(HasSubstr("\n")));
      }
      put(bit / 8, bytes[bit / 8]);
    }
    EXPECT_GT(refused, bytes.size() * (zipped ? 4 : 3)) << name;
  }
}

}  // namespace
}  // namespace plume::torch_fixtures_test
