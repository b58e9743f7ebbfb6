// A checkpoint that is damaged in any way is refused, and a run that goes on from one goes on exactly.
#include "engine/serialization/checkpoint.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "tests/support/test_support.h"

namespace plume::checkpoint_test {
namespace {

using test::read_file;
using test::TemporaryFolder;
using test::write_file;
using testing::HasSubstr;

struct Content {
  Tensor weight = Tensor::from(std::vector<float>{1, 2, 3, 4, 5, 6, 7, 8}, {1, 2, 2, 2});
  Tensor bias = Tensor::from(std::vector<float>{0.5f}, {1});
  Tensor velocity = Tensor::from(std::vector<float>{9}, {1});
  Tensor steps = Tensor::from(std::vector<int64_t>{17}, {});

  std::vector<StateGroup> groups() {
    return {{"", {{"w", &weight, true}, {"b", &bias}}},
            {"optimizer.velocity.", {{"b", &velocity}}},
            {"optimizer.", {{"steps", &steps}}}};
  }
  void clear() {
    for (Tensor* t : {&weight, &bias, &velocity, &steps}) t->fill_zero();
  }
};

std::string refusal(const std::string& path) {
  try {
    const CheckpointFile file(path);
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::bad_input);
    EXPECT_THAT(error.what(), testing::StartsWith(path + ": "));
    return error.what();
  }
  return "";
}

class Checkpoint : public testing::Test {
 protected:
  void SetUp() override { save_checkpoint(path_, R"({"epoch": 3})", content_.groups()); }

  TemporaryFolder folder_;
  std::string path_ = folder_.file("last.safetensors");
  Content content_;
};

TEST_F(Checkpoint, RoundTrip) {
  const CheckpointFile file(path_);
  EXPECT_EQ(file.state(), R"({"epoch": 3})");
  Content read;
  read.clear();
  file.load(read.groups());
  EXPECT_EQ(read.weight.to_vector<float>(), content_.weight.to_vector<float>());
  EXPECT_EQ(read.bias.item(), 0.5f);
  EXPECT_EQ(read.velocity.item(), 9.0f);
  EXPECT_EQ(*read.steps.data<int64_t>(), 17);
}

TEST_F(Checkpoint, TheSameContentGivesTheSameBytes) {
  save_checkpoint(folder_.file("again"), R"({"epoch": 3})", content_.groups());
  EXPECT_EQ(read_file(path_), read_file(folder_.file("again")));
}

TEST_F(Checkpoint, IsAStateDictionaryToo) {
  Content read;
  read.clear();
  const std::vector<StateGroup> weights = {read.groups()[0]};
  EXPECT_THROW(load_state(SafetensorsFile(path_), weights), Error);
  load_state(SafetensorsFile(path_), weights, kOptimizerPrefix);
  EXPECT_EQ(read.weight.to_vector<float>(), content_.weight.to_vector<float>());
  EXPECT_EQ(read.velocity.item(), 0.0f);
}

TEST_F(Checkpoint, EveryTruncationIsRefused) {
  const std::string whole = read_file(path_);
  const std::string cut = folder_.file("cut");
  for (size_t n = 0; n < whole.size(); ++n) {
    write_file(cut, whole.substr(0, n));
    ASSERT_NE(refusal(cut), "") << n << " of " << whole.size() << " bytes";
  }
  write_file(cut, whole + '\0');
  EXPECT_NE(refusal(cut), "");
}

TEST_F(Checkpoint, EveryFlippedBitIsRefused) {
  const std::string bytes = read_file(path_);
  const std::string damaged = folder_.file("damaged");
  ASSERT_LT(bytes.size(), 2000u);
  write_file(damaged, bytes);
  std::fstream file(damaged, std::ios::in | std::ios::out | std::ios::binary);
  const auto put = [&](size_t at, char byte) { file.seekp(std::streamoff(at)).put(byte).flush(); };
  for (size_t bit = 0; bit < bytes.size() * 8; ++bit) {
    const char byte = bytes[bit / 8];
    put(bit / 8, char(byte ^ (1 << bit % 8)));
    ASSERT_NE(refusal(damaged), "") << "bit " << bit;
    put(bit / 8, byte);
  }
  EXPECT_EQ(refusal(damaged), "");
}

TEST_F(Checkpoint, DamageInATensorIsNamed) {
  std::string bytes = read_file(path_);
  bytes.back() = char(bytes.back() ^ 1);
  write_file(path_, bytes);
  EXPECT_THAT(refusal(path_), HasSubstr("is damaged: its checksum is"));
}

// With a right checksum, as a newer program or a forger would write them.
TEST_F(Checkpoint, OtherFormatsAreRefusedByName) {
  const auto with_format = [&](const std::string& format) {
    write_checksummed_safetensors(path_, state_sources(content_.groups()),
                                  {{"plume.format", format}, {"plume.state", "{}"}}, "plume.checksum");
    return refusal(path_);
  };
  EXPECT_EQ(with_format("1"), "");
  EXPECT_THAT(with_format("2"), HasSubstr("written by a newer plume: format 2, this one reads up to 1"));
  for (const char* bad : {"", "0", "-1", "1.0", "1 ", "one", "99999999999999999999"})
    EXPECT_THAT(with_format(bad), HasSubstr("plume.format is"));
  write_checksummed_safetensors(path_, state_sources(content_.groups()), {{"plume.format", "1"}},
                                "plume.checksum");
  EXPECT_THAT(refusal(path_), HasSubstr("has no plume.state"));
  write_safetensors(path_, state_sources(content_.groups()), {{"plume.format", "1"}, {"plume.state", "{}"}});
  EXPECT_THAT(refusal(path_), HasSubstr("has no checksum"));
  write_safetensors(path_, state_sources(content_.groups()));
  EXPECT_THAT(refusal(path_), HasSubstr("is not a checkpoint"));
}

TEST_F(Checkpoint, ATextThatLooksLikeAChecksumChangesNothing) {
  const std::string text = R"({"plume.checksum":"0123456789abcdef"})";
  save_checkpoint(path_, text, content_.groups());
  EXPECT_EQ(CheckpointFile(path_).state(), text);
}

TEST_F(Checkpoint, AnotherModelIsRefusedAndNothingChanges) {
  const CheckpointFile file(path_);
  Content read;
  read.clear();
  read.bias = Tensor::zeros({2}, DType::f32, Device::cpu);
  read.velocity = Tensor::zeros({2}, DType::f32, Device::cpu);
  try {
    file.load(read.groups());
    ADD_FAILURE();
  } catch (const Error& error) {
    EXPECT_THAT(error.what(),
                HasSubstr("ShapeMismatch (2): 'b' is F32 [1], expected [2], 'optimizer.velocity.b'"));
  }
  EXPECT_EQ(read.weight.to_vector<float>(), std::vector<float>(8));
  EXPECT_EQ(*read.steps.data<int64_t>(), 0);
}

TEST_F(Checkpoint, ALeftOverTemporaryIsNoConcern) {
  write_file(path_ + ".tmp", "half a checkpoint");
  EXPECT_EQ(refusal(path_), "");
  save_checkpoint(path_, "{}", content_.groups());
  EXPECT_FALSE(std::filesystem::exists(path_ + ".tmp"));
  EXPECT_EQ(CheckpointFile(path_).state(), "{}");
}

}  // namespace
}  // namespace plume::checkpoint_test
