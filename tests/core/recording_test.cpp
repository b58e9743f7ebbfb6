// What a recorded step must not do is refused on every device.
#include "engine/core/recording.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/core/context.h"
#include "engine/core/error.h"
#include "engine/core/graph.h"
#include "engine/core/tensor.h"
#include "engine/memory/staging.h"

namespace plume::test::recording_test {
namespace {

class RecordingTest : public testing::TestWithParam<Device> {
 protected:
  void SetUp() override {
    if (GetParam() == Device::cuda && !cuda_available()) GTEST_SKIP() << cuda_unavailable_reason();
  }
  Context& context() { return plume::context(GetParam()); }
  Tensor numbers() { return Tensor::from(std::vector<float>{1, 2}, {2}, GetParam()); }

  // Of the error that the step ends in, which leaves nothing behind.
  std::string refusal(const std::function<void()>& step) {
    StepGraph graph;
    std::string text;
    try {
      graph.capture(context(), step);
      graph.replay();
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::internal);
      text = error.what();
    }
    EXPECT_FALSE(is_recording());
    step();
    return text;
  }
};

TEST_P(RecordingTest, Waiting) {
  EXPECT_EQ(refusal([this] { context().synchronize(); }),
            message("graph: a recorded step must not wait for the device (device {})", GetParam()));
}
TEST_P(RecordingTest, ReadingValues) {
  const Tensor x = numbers();
  EXPECT_THAT(refusal([&] { x.to_vector<float>(); }), testing::HasSubstr("must not read values"));
  const Tensor one = Tensor::zeros({1}, DType::f32, GetParam());
  EXPECT_THAT(refusal([&] { one.item(); }), testing::HasSubstr("must not read values"));
}
TEST_P(RecordingTest, NumbersOfTheHost) {
  EXPECT_THAT(refusal([this] { numbers(); }), testing::HasSubstr("must not copy numbers of the host"));
  Tensor x = numbers();
  Upload upload;
  const float value = 3;
  EXPECT_THAT(refusal([&] { upload.send(&value, sizeof value, x); }),
              testing::HasSubstr("must not copy numbers of the host"));
  EXPECT_EQ(x.to_vector<float>(), (std::vector<float>{3, 2})) << "the step that is not recorded";
}
TEST_P(RecordingTest, MemoryOfAnotherDevice) {
  const Device other = GetParam() == Device::cpu ? Device::simt : Device::cpu;
  const Tensor x = numbers(), far = Tensor::zeros({2}, DType::f32, other);
  Tensor y = numbers(), far_too = far.clone();
  EXPECT_THAT(refusal([&] { x.to(other); }), testing::HasSubstr("memory of another device"));
  EXPECT_THAT(refusal([&] { y.copy_from(far); }), testing::HasSubstr("memory of another device"));
  EXPECT_THAT(refusal([&] { far_too.copy_from(far); }), testing::HasSubstr("memory of another device"))
      << "a replay does not do the host's part";
  EXPECT_EQ(refusal([&] { y.copy_from(x); }), "");
}
TEST_P(RecordingTest, PinnedMemoryAndBatches) {
  EXPECT_THAT(refusal([] { pinned_tensor({2}, DType::f32); }), testing::HasSubstr("pinned memory"));
  Staging staging(GetParam());
  const Tensor batch = pinned_tensor({2}, DType::f32);
  EXPECT_THAT(refusal([&] { staging.begin({batch}); }), testing::HasSubstr("fetch a batch"));
  EXPECT_THAT(refusal([&] { staging.take(); }), testing::HasSubstr("fetch a batch"));
}
TEST_P(RecordingTest, NumbersOfAStepThatAreNewToTheDevice) {
  StepNumbers<float, 2> numbers;
  numbers.set({3, 4});
  EXPECT_THAT(refusal([&] { numbers.on(GetParam()); }), testing::HasSubstr("numbers of the host"));
  EXPECT_EQ(numbers.on(GetParam()).to_vector<float>(), (std::vector<float>{3, 4})) << "not what lay there";
  numbers.set({5, 6});
  EXPECT_EQ(numbers.on(GetParam()).to_vector<float>(), (std::vector<float>{5, 6}));
}
TEST_P(RecordingTest, AnotherRecording) {
  EXPECT_THAT(refusal([this] {
                StepGraph inner;
                inner.capture(context(), [] {});
                inner.replay();
              }),
              testing::HasSubstr("record another step"));
}

INSTANTIATE_TEST_SUITE_P(Devices, RecordingTest, testing::Values(Device::cpu, Device::simt, Device::cuda),
                         [](const auto& device) { return std::string(name(device.param)); });

}  // namespace
}  // namespace plume::test::recording_test
