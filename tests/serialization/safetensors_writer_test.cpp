#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>

#include "engine/serialization/crc64.h"
#include "engine/serialization/safetensors.h"
#include "tests/support/test_support.h"

namespace plume::safetensors_writer_test {
namespace {

using test::read_file;
using test::TemporaryFolder;

TensorSource source(const std::string& name, const Tensor& tensor) {
  return {name, tensor.dtype(), tensor.shape(), [tensor] { return tensor; }};
}

std::vector<TensorSource> samples() {
  return {source("c.u8", Tensor::from(std::vector<uint8_t>{1, 2, 3}, {3})),
          source("b.f32", Tensor::from(std::vector<float>{1.5f, -2}, {2, 1})),
          source("a.f32", Tensor::from(std::vector<float>{}, {0, 4})),
          source("z.i64", Tensor::from(std::vector<int64_t>{-5}, {})),
          source("h.f16", Tensor::from(std::vector<f16>{f16(0.5f)}, {1})),
          source("h.bf16", Tensor::from(std::vector<bf16>{bf16(3.0f)}, {1})),
          source("i.i32", Tensor::from(std::vector<int32_t>{7}, {1})),
          source("q\"\\\n\xC3\xA9", Tensor::from(std::vector<int32_t>{9}, {1}))};
}

TEST(SafetensorsWriter, WritesWhatTheFormatAsks) {
  const TemporaryFolder folder;
  const std::string path = folder.file("a.safetensors");
  write_safetensors(path,
                    {source("u", Tensor::from(std::vector<uint8_t>{65}, {1})),
                     source("f", Tensor::from(std::vector<float>{0}, {1, 1}))},
                    {{"k", "v"}});
  const std::string header =
      R"({"__metadata__":{"k":"v"},"f":{"dtype":"F32","shape":[1,1],"data_offsets":[0,4]},)"
      R"("u":{"dtype":"U8","shape":[1],"data_offsets":[4,5]}})";
  std::string expected(8, '\0');
  expected[0] = char((header.size() + 7) / 8 * 8);
  expected += header + std::string((8 - header.size() % 8) % 8, ' ') + std::string(4, '\0') + "A";
  EXPECT_EQ(read_file(path), expected);
}

TEST(SafetensorsWriter, RoundTripIsExactAlignedAndDeterministic) {
  const TemporaryFolder folder;
  const std::string path = folder.file("a.safetensors"), again = folder.file("b.safetensors");
  write_safetensors(path, samples(), {{"name", "\"quoted\" \xE2\x82\xAC"}});
  std::vector<TensorSource> reversed = samples();
  std::reverse(reversed.begin(), reversed.end());
  write_safetensors(again, reversed, {{"name", "\"quoted\" \xE2\x82\xAC"}});
  EXPECT_EQ(read_file(path), read_file(again));

  const SafetensorsFile file(path);
  EXPECT_EQ(file.metadata().at("name"), "\"quoted\" \xE2\x82\xAC");
  EXPECT_EQ(file.header().size() % 8, 0u);
  ASSERT_EQ(file.tensors().size(), samples().size());
  for (const TensorSource& s : samples()) {
    const TensorInfo* info = file.find(s.name);
    ASSERT_NE(info, nullptr) << s.name;
    EXPECT_EQ(info->begin % size_of(s.dtype), 0u);
    const Tensor read = file.read(*info), wrote = s.fetch();
    ASSERT_EQ(read.shape(), wrote.shape());
    ASSERT_EQ(read.dtype(), wrote.dtype());
    EXPECT_EQ(std::memcmp(read.raw(), wrote.raw(), read.bytes()), 0) << s.name;
  }
}

TEST(SafetensorsWriter, EmptyFile) {
  const TemporaryFolder folder;
  write_safetensors(folder.file("e"), {});
  EXPECT_EQ(read_file(folder.file("e")), std::string("\x8\0\0\0\0\0\0\0{}      ", 16));
  EXPECT_TRUE(SafetensorsFile(folder.file("e")).tensors().empty());
}

TEST(SafetensorsWriter, RefusesImpossibleNames) {
  const TemporaryFolder folder;
  const Tensor t = Tensor::from(std::vector<float>{1}, {1});
  EXPECT_THROW(write_safetensors(folder.file("x"), {source("a", t), source("a", t)}), Error);
  EXPECT_THROW(write_safetensors(folder.file("x"), {source("__metadata__", t)}), Error);
  EXPECT_FALSE(std::filesystem::exists(folder.file("x")));
}

TEST(SafetensorsWriter, AFailingTensorLeavesTheOldFile) {
  const TemporaryFolder folder;
  const std::string path = folder.file("x");
  write_safetensors(path, samples());
  const std::string before = read_file(path);
  std::vector<TensorSource> bad = samples();
  bad[3].fetch = []() -> Tensor { throw Error(ErrorKind::resource, "device lost"); };
  EXPECT_THROW(write_safetensors(path, bad), Error);
  bad[3].fetch = [] { return Tensor::from(std::vector<float>{1}, {1}); };
  EXPECT_THROW(write_safetensors(path, bad), Error);
  EXPECT_EQ(read_file(path), before);
  EXPECT_FALSE(std::filesystem::exists(path + ".tmp"));
}

TEST(Crc64, KnownValueInAnyPieces) {
  const std::string text = "123456789";  // the check value of the CRC catalogue: CRC-64/XZ
  for (size_t cut = 0; cut <= text.size(); ++cut) {
    Crc64 crc;
    crc.add(text.data(), cut);
    crc.add(text.data() + cut, text.size() - cut);
    EXPECT_EQ(crc.value(), 0x995DC9BBDF1939FAu);
  }
}

TEST(Crc64, LongInputEqualsByteByByte) {
  std::string text;
  for (int i = 0; i < 1000; ++i) text += char(i * 37 + 11);
  Crc64 whole, pieces;
  whole.add(text.data(), text.size());
  for (const char c : text) pieces.add(&c, 1);
  EXPECT_EQ(whole.value(), pieces.value());
}

}  // namespace
}  // namespace plume::safetensors_writer_test
