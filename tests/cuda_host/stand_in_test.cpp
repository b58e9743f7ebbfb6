// The stand-in behaves as a GPU does where that is easily got wrong.
#include <gmock/gmock.h>

#include <csignal>
#include <vector>

#include "engine/core/graph.h"
#include "engine/core/tensor.h"
#include "engine/memory/staging.h"
#include "engine/ops/add.h"
#include "engine/ops/linear.h"
#include "engine/ops/relu.h"
#include "tests/cuda_host/on_stand_in.h"

namespace plume::test::stand_in_test {
namespace {

using testing::HasSubstr;

class StandInTest : public OnStandIn {
 protected:
  static Context& ctx() { return context(Device::cuda); }
  static const DeviceBackend& cuda() { return backend(Device::cuda); }
  static Tensor on_device(const std::vector<float>& values) {
    return Tensor::from(values, {int64_t(values.size())}, Device::cuda);
  }
};

TEST_F(StandInTest, SaysWhatItIs) {
  EXPECT_EQ(cuda().describe(), "stand-in (no GPU) (sm_90)");
  EXPECT_THAT(cuda().libraries(), HasSubstr("cuDNN 0"));
}

TEST_F(StandInTest, WorkRunsWhenSomebodyWaits) {
  Tensor source = pinned_tensor({2}, DType::f32), x = Tensor::empty({2}, DType::f32, Device::cuda);
  source.data<float>()[0] = source.data<float>()[1] = 1;
  cuda().copy(x.raw(), source.raw(), source.bytes(), ctx().stream());
  source.data<float>()[1] = 5;  // too early: pinned memory is read when the copy runs
  EXPECT_EQ(x.to_vector<float>(), (std::vector<float>{1, 5}));
}

TEST_F(StandInTest, PageableMemoryIsReadBeforeTheCallReturns) {
  std::vector<float> source{1, 1};
  Tensor x = Tensor::empty({2}, DType::f32, Device::cuda);
  cuda().copy(x.raw(), source.data(), 2 * sizeof(float), ctx().stream());
  source[1] = 5;
  EXPECT_EQ(x.to_vector<float>(), (std::vector<float>{1, 1}));
}

TEST_F(StandInTest, DeviceMemoryIsClosedToTheHost) {
  const Tensor x = on_device({1, 2});
  ctx().synchronize();
  EXPECT_EXIT(std::exit(int(x.data<float>()[0])), testing::KilledBySignal(SIGSEGV), "");
}

TEST_F(StandInTest, KernelsAreThoseOfSimtAndRunOnTheStream) {
  EXPECT_GE(relu_forward.variant_count(Device::cuda), relu_forward.variant_count(Device::simt));
  const Tensor x = on_device({-1, 2});
  Tensor y = empty_like(x);
  stand_in_control().reset();
  relu_forward(ctx(), x, y);
  EXPECT_EQ(counts().launches, 1u);
  EXPECT_EQ(y.to_vector<float>(), (std::vector<float>{0, 2}));
}

TEST_F(StandInTest, ARecordingRefusesToWait) {
  cuda().begin_capture(ctx().stream());
  const CaughtError waited = caught([] { cuda().synchronize(ctx().stream()); });
  EXPECT_EQ(waited.kind, ErrorKind::resource);
  EXPECT_THAT(waited.text, HasSubstr("cudaErrorStreamCaptureUnsupported"));
  const CaughtError ended = caught([] { cuda().end_capture(ctx().stream()); });
  EXPECT_THAT(ended.text, HasSubstr("cudaErrorStreamCaptureInvalidated")) << "one mistake spoils it";
}

TEST_F(StandInTest, ARecordingRefusesAQueryAndEventsFromOutside) {
  const std::shared_ptr<void> before = cuda().record_event(ctx().stream());
  cuda().begin_capture(ctx().stream());
  EXPECT_EQ(call_stand_in("cudaStreamQuery", ctx().stream()), 900);
  cuda().abandon_capture(ctx().stream());
  cuda().begin_capture(ctx().stream());
  EXPECT_THAT(caught([&] { cuda().wait_event(ctx().stream(), before.get()); }).text,
              HasSubstr("cudaErrorStreamCaptureIsolation"));
  cuda().abandon_capture(ctx().stream());
}

TEST_F(StandInTest, ARecordingThatIsNotRelaxedRefusesAllocations) {
  void* pointer = nullptr;
  constexpr int kGlobal = 0;
  ASSERT_EQ(call_stand_in("cudaStreamBeginCapture", ctx().stream(), kGlobal), 0);
  EXPECT_EQ(call_stand_in("cudaMalloc", &pointer, size_t(16)), 900);
  cuda().abandon_capture(ctx().stream());
}

TEST_F(StandInTest, TheDefaultStreamSpoilsARecording) {
  void* pointer = nullptr;
  ASSERT_EQ(call_stand_in("cudaMalloc", &pointer, size_t(16)), 0);
  cuda().begin_capture(ctx().stream());
  EXPECT_EQ(call_stand_in("cudaMemsetAsync", pointer, 0, size_t(16), static_cast<void*>(nullptr)), 906);
  cuda().abandon_capture(ctx().stream());
  call_stand_in("cudaGetLastError");
  ASSERT_EQ(call_stand_in("cudaFree", pointer), 0);
}

TEST_F(StandInTest, WorkOfAnotherStreamMustComeBackIntoTheRecording) {
  void* const side = cuda().side_stream();
  Tensor x = on_device({1, 2});
  const auto record = [&](bool join) {
    cuda().begin_capture(ctx().stream());
    cuda().wait_event(side, cuda().record_event(ctx().stream()).get());
    cuda().fill(x.raw(), 0, x.bytes(), side);
    if (join) cuda().wait_event(ctx().stream(), cuda().record_event(side).get());
    cuda().destroy(cuda().end_capture(ctx().stream()));
  };
  record(true);
  EXPECT_THAT(caught([&] { record(false); }).text, HasSubstr("cudaErrorStreamCaptureUnjoined"));
}

TEST_F(StandInTest, ReplaysRunWhatWasRecorded) {
  Tensor x = on_device({1, 2}), y = on_device({0, 0});
  StepGraph graph;
  graph.capture(ctx(), [&] { add_forward(ctx(), x, x, y); });
  EXPECT_EQ(y.to_vector<float>(), (std::vector<float>{0, 0}));
  graph.replay();
  EXPECT_EQ(y.to_vector<float>(), (std::vector<float>{2, 4}));
  EXPECT_EQ(counts().replays, 1u);
}

TEST_F(StandInTest, ARecordingRefusesToMakeAPlan) {
  const Tensor x = Tensor::zeros({3, 24}, DType::f32, Device::cuda),
               w = Tensor::zeros({8, 24}, DType::f32, Device::cuda);
  Tensor y = Tensor::empty({3, 8}, DType::f32, Device::cuda);
  const auto step = [&] { linear_forward(ctx(), x, w, {}, y); };
  StepGraph graph;
  const CaughtError refused = caught([&] { graph.capture(ctx(), step); });
  EXPECT_EQ(refused.kind, ErrorKind::internal);
  EXPECT_THAT(refused.text, HasSubstr("a recorded step must not make a plan: run it once before"));
  step();
  graph.capture(ctx(), step);
  graph.replay();
  EXPECT_EQ(y.to_vector<float>(), std::vector<float>(24, 0.0f));
}

TEST_F(StandInTest, ARecordedCopyOfPageableMemoryIsRemarkedOn) {
  const float host[2] = {1, 2};
  Tensor x = on_device({0, 0});
  cuda().begin_capture(ctx().stream());
  cuda().copy(x.raw(), host, sizeof host, ctx().stream());
  cuda().abandon_capture(ctx().stream());
  expect_remarks(1);
}

TEST_F(StandInTest, MemoryThatIsFreedUnderARecordingIsRemarkedOn) {
  void *pointer = nullptr, *other = nullptr;
  ASSERT_EQ(call_stand_in("cudaMalloc", &pointer, size_t(16)), 0);
  ASSERT_EQ(call_stand_in("cudaMalloc", &other, size_t(16)), 0);
  cuda().begin_capture(ctx().stream());
  cuda().fill(pointer, 0, 16, ctx().stream());
  call_stand_in("cudaFree", other);
  void* const graph = cuda().end_capture(ctx().stream());
  EXPECT_EQ(counts().remarks, 1u) << "freed while a step is recorded";
  call_stand_in("cudaFree", pointer);
  cuda().launch(graph, ctx().stream());
  ctx().synchronize();
  cuda().destroy(graph);
  expect_remarks(2);
}

TEST_F(StandInTest, OneCallFailsWhereItIsAskedTo) {
  Tensor x = on_device({-1, 2});
  Tensor y = empty_like(x);
  stand_in_control().fail_call(2);
  relu_forward(ctx(), x, y);
  const CaughtError error = caught([&] { relu_forward(ctx(), x, y); });
  EXPECT_EQ(error.kind, ErrorKind::resource);
  EXPECT_THAT(error.text, HasSubstr("relu_forward"));
  EXPECT_STREQ(stand_in_control().last_failed(), "launch");
  relu_forward(ctx(), x, y);
  EXPECT_EQ(y.to_vector<float>(), (std::vector<float>{0, 2}));
}

TEST_F(StandInTest, MemoryEnds) {
  const CaughtError error = caught([] { Tensor::empty({int64_t(1) << 40}, DType::u8, Device::cuda); });
  EXPECT_EQ(error.kind, ErrorKind::resource);
  EXPECT_THAT(error.text, HasSubstr("out of device memory: 1099511627776 bytes"));
}

}  // namespace
}  // namespace plume::test::stand_in_test
