// Which of its engines a plan keeps, what it keeps between calls, and what it says when it cannot.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>

#include "engine/core/notes.h"
#include "engine/core/recording.h"
#include "engine/cuda/cudnn_convolution.h"
#include "engine/memory/allocator.h"
#include "engine/ops/cast.h"
#include "engine/ops/depthwise_conv2d.h"
#include "tests/cudnn_plan/deviceless.h"

namespace plume::test {
namespace {

using cuda::Convolution;
using testing::Contains;
using testing::HasSubstr;

class CudnnChoice : public testing::Test {
 protected:
  CudnnChoice() { context_.allow_tf32 = true; }
  ~CudnnChoice() override {
    stand_in_device() = {};
    context_.deterministic = context_.allow_tf32 = false;
  }

  // A 3x3 convolution of `channels` channels; each test has its own, so that each makes its own plan.
  struct Call {
    Tensor x, w, y;
    Conv2dParams params{1, 1, 1};
  };
  static Call call(int64_t images, int64_t channels, DType type) {
    const auto tensor = [&](const Shape& s) { return Tensor::empty(s, type, Device::cuda); };
    return {tensor({images, 28, 28, channels}), tensor({64, 3, 3, channels}), tensor({images, 28, 28, 64})};
  }
  void run(Call& c, const Epilogue& epilogue = {}) {
    conv2d_forward(context_, c.x, c.w, c.params, epilogue, c.y);
  }
  // The plan of the first run of a call.
  static const cuda::KeptPlan& last_plan() { return cuda::kept_plans().back(); }
  static Epilogue shifted(Activation activation) {
    Epilogue epilogue;
    epilogue.shift = Tensor::empty({64}, DType::f32, Device::cuda);
    epilogue.activation = activation;
    return epilogue;
  }

  Context& context_ = context(Device::cuda);
};

TEST_F(CudnnChoice, TheFastestEngineStays) {
  std::vector<cudnnBackendDescriptor_t> seen;
  stand_in_device().duration = [&](const Execution& e) {
    if (std::find(seen.begin(), seen.end(), e.plan) == seen.end()) seen.push_back(e.plan);
    return seen.size() > 2 && e.plan == seen[2] ? 1.0f : 2.0f;
  };
  Call c = call(32, 72, DType::f16);
  run(c);
  ASSERT_GT(seen.size(), 2u);
  const cudnnBackendDescriptor_t fastest = seen[2];
  EXPECT_EQ(executions().back().plan, fastest);
  const size_t before = executions().size();
  run(c);
  EXPECT_EQ(executions().size(), before + 1);
  EXPECT_EQ(executions().back().plan, fastest);
}

TEST_F(CudnnChoice, NothingIsTimedInARecording) {
  Call c = call(32, 80, DType::f16);
  conv2d_forward.choose(context_, c.x, c.w, c.params, {}, c.y);  // makes the plan
  const size_t before = executions().size();
  {
    const Recording recording(Device::cuda);
    run(c);
    run(c);
  }
  EXPECT_EQ(executions().size(), before + 2);
  EXPECT_GT(last_plan().plan->engines(), 2u);
  run(c);
  EXPECT_GT(executions().size(), before + 3);
  EXPECT_LE(last_plan().plan->engines(), 2u);
}

TEST_F(CudnnChoice, DeterministicTakesTheFirst) {
  context_.deterministic = true;
  Call c = call(32, 88, DType::f16);
  const size_t before = executions().size();
  run(c);
  EXPECT_EQ(executions().size(), before + 1);
  EXPECT_EQ(last_plan().plan->engines(), 1u);
}

TEST_F(CudnnChoice, LittleMemoryLeavesAnEngineThatNeedsLittle) {
  // Filter gradient of a 7x7 stem: the first engines want a transposed copy.
  const Tensor x = Tensor::empty({30, 224, 224, 3}, DType::f32, Device::cuda);
  const Tensor dy = Tensor::empty({30, 112, 112, 64}, DType::f32, Device::cuda);
  Tensor dw = Tensor::empty({64, 7, 7, 3}, DType::f32, Device::cuda);
  conv2d_backward_weight.choose(context_, x, dy, {2, 3, 1}, dw);
  const Recording recording(Device::cuda);  // nothing is timed
  conv2d_backward_weight(context_, x, dy, {2, 3, 1}, dw);
  ASSERT_TRUE(last_plan().plan);
  ASSERT_GT(last_plan().plan->workspace(), size_t(1) << 20) << "or this test shows nothing";
  const Execution first = executions().back();
  device_allocator(Device::cuda).release_cached();
  stand_in_device().largest_block = size_t(1) << 20;
  conv2d_backward_weight(context_, x, dy, {2, 3, 1}, dw);
  EXPECT_NE(executions().back().plan, first.plan);
}

TEST_F(CudnnChoice, AnEngineIsNotLostToAShortageThatPasses) {
  const Tensor x = Tensor::empty({31, 224, 224, 3}, DType::f32, Device::cuda);
  const Tensor dy = Tensor::empty({31, 112, 112, 64}, DType::f32, Device::cuda);
  Tensor dw = Tensor::empty({64, 7, 7, 3}, DType::f32, Device::cuda);
  const auto run = [&] { conv2d_backward_weight(context_, x, dy, {2, 3, 1}, dw); };
  conv2d_backward_weight.choose(context_, x, dy, {2, 3, 1}, dw);
  const size_t largest = last_plan().plan->workspace();
  ASSERT_GT(largest, size_t(1) << 20) << "or this test shows nothing";
  device_allocator(Device::cuda).release_cached();
  stand_in_device().largest_block = size_t(1) << 20;
  run();
  EXPECT_LT(last_plan().plan->workspace(), largest);
  stand_in_device().largest_block = SIZE_MAX;
  const size_t before = executions().size();
  run();
  EXPECT_GT(executions().size(), before + 4) << "all are timed again";
  const size_t after = executions().size();
  run();
  EXPECT_EQ(executions().size(), after + 1);
}

TEST_F(CudnnChoice, ScratchMemoryStaysBelowItsLimit) {
  const Shape x{256, 224, 224, 3}, w{64, 7, 7, 3}, y{256, 112, 112, 64};
  const cuda::Plan* plan = cuda::find_plan(
      context_, {Convolution::backward_weight, x, w, y, DType::f32, DType::f32, {2, 3, 1}, nullptr});
  ASSERT_TRUE(plan);
  EXPECT_LE(plan->workspace(), cuda::kCudnnWorkspace);
}

TEST_F(CudnnChoice, AnotherBatchIsNotCompiledAgain) {
  const auto seconds = [&](int64_t images) {
    Call c = call(images, 64, DType::f16);
    const Tensor filter = Tensor::empty({3, 3, 64}, DType::f16, Device::cuda);
    const auto begin = std::chrono::steady_clock::now();
    depthwise_conv2d_forward(context_, c.x, filter, c.params, shifted(Activation::hardswish), c.y);
    EXPECT_TRUE(last_plan().plan && last_plan().plan->compiled()) << last_plan().refusal;
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  };
  const double first = seconds(32), second = seconds(7);
  EXPECT_LT(second, first / 4);
}

TEST_F(CudnnChoice, ARefusalIsAnAnswerAndIsNoted) {
  stand_in_device().plans = CUDNN_STATUS_NOT_SUPPORTED_RUNTIME_PREREQUISITE_MISSING;
  Call c = call(32, 112, DType::bf16);
  run(c);
  EXPECT_EQ(last_plan().plan, nullptr);
  EXPECT_THAT(last_plan().refusal, HasSubstr("RUNTIME_PREREQUISITE_MISSING"));
  EXPECT_THAT(notes(),
              Contains("cuDNN has no plan for conv2d.forward 3x3 stride 1 bf16: " + last_plan().refusal));
}

TEST_F(CudnnChoice, AFailureIsNoAnswer) {
  stand_in_device().plans = CUDNN_STATUS_INTERNAL_ERROR_COMPILATION_FAILED;
  Call c = call(32, 120, DType::bf16);
  try {
    run(c);
    FAIL() << "another kernel ran instead";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::resource);
    EXPECT_THAT(error.what(), HasSubstr("COMPILATION_FAILED"));
  }
  stand_in_device().plans = CUDNN_STATUS_SUCCESS;
  run(c);  // a failure is not kept
  EXPECT_TRUE(last_plan().plan);
}

TEST_F(CudnnChoice, OperandsArePackedOnceWhileTheyStay) {
  Call c = call(32, 128, DType::f16);
  run(c);
  const Execution first = executions().back();
  run(c);
  EXPECT_EQ(executions().back().pack, first.pack);
  Call other = call(32, 128, DType::f16);
  run(other);
  EXPECT_EQ(executions().back().pointers[0], other.x.raw());
}

uint64_t casts() {
  uint64_t runs = 0;
  for (int i = 0; i < cast_forward.variant_count(Device::cuda); ++i)
    runs += cast_forward.runs(Device::cuda, i);
  return runs;
}

TEST_F(CudnnChoice, TheShiftOfAConstantFilterIsConvertedOnce) {
  Call c = call(32, 136, DType::f16);
  const Epilogue epilogue = shifted(Activation::relu);
  const uint64_t before = casts();
  run(c, epilogue);
  run(c, epilogue);
  EXPECT_EQ(casts(), before + 2);  // the filter may change, and the shift with it
  PackedFilter packed;
  c.params.packed = &packed;
  {
    const Recording recording(Device::cuda);
    run(c, epilogue);
  }
  EXPECT_EQ(casts(), before + 3);  // recorded for later: nothing is there to be kept
  run(c, epilogue);
  run(c, epilogue);
  EXPECT_EQ(casts(), before + 4);
  const Epilogue other = shifted(Activation::relu);
  run(c, other);
  EXPECT_EQ(casts(), before + 5);
}

// Behind the activation, not before it, where cuDNN's own kernels have it: another plan, all in one kernel.
TEST_F(CudnnChoice, AResidualBehindTheActivationIsPartOfThePlan) {
  Call c = call(32, 152, DType::f16);
  Epilogue epilogue = shifted(Activation::relu);
  epilogue.residual = Tensor::empty(c.y.shape(), DType::f16, Device::cuda);
  run(c, epilogue);
  EXPECT_THAT(last_plan().problem, HasSubstr("f16, residual, shift, relu:"));
  EXPECT_TRUE(last_plan().plan && !last_plan().plan->compiled());
  epilogue.residual_last = true;
  run(c, epilogue);
  EXPECT_THAT(last_plan().problem, HasSubstr("f16, shift, relu, residual:"));
  EXPECT_TRUE(last_plan().plan && last_plan().plan->compiled()) << last_plan().refusal;
}

// A step wants it in f32, and nothing rounds it on the way.
TEST_F(CudnnChoice, TheFilterGradientOf16BitImagesIsF32) {
  Call c = call(32, 144, DType::bf16);
  Tensor dw = Tensor::empty(c.w.shape(), DType::f32, Device::cuda);
  const uint64_t before = casts();
  conv2d_backward_weight(context_, c.x, c.y, c.params, dw);
  EXPECT_EQ(executions().back().pointers[1], dw.raw());
  EXPECT_EQ(casts(), before);
  EXPECT_TRUE(last_plan().plan->compiled());
  EXPECT_THAT(last_plan().problem, HasSubstr("bf16 to f32"));
  Tensor one = Tensor::empty({64, 1, 1, 144}, DType::f32, Device::cuda);
  EXPECT_STRNE(conv2d_backward_weight.choose(context_, c.x, c.y, {}, one), "cudnn") << "cuBLASLt's, ready";
}

TEST_F(CudnnChoice, AFusedReluIsToldToCarryNan) {
  for (const Activation activation : {Activation::silu, Activation::relu}) {
    Call c = call(32, 152, DType::f16);
    run(c, shifted(activation));
    EXPECT_TRUE(last_plan().plan);
    EXPECT_EQ(stand_in_device().relus_that_carry_nan, activation == Activation::relu);
  }
}

}  // namespace
}  // namespace plume::test
