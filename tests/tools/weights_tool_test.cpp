// Weights as people have them, in the programs as a user runs them: all take the same files.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <csignal>

#include "engine/serialization/state_dict.h"
#include "models/registry.h"
#include "tests/tools/training_run.h"

namespace plume::test::weights_tool_test {
namespace {

using testing::HasSubstr;

constexpr const char* kModel = "shufflenet_v2_x0_5";

class WeightsToolTest : public testing::Test {
 protected:
  using Change = std::function<bool(TensorSource&)>;  // false: the tensor is left out
  // The network's weights, changed.
  std::string write(const std::string& name, const Change& change) {
    std::vector<TensorSource> sources;
    for (TensorSource s : state_sources({{"", model_->state()}}))
      if (change(s)) sources.push_back(s);
    const std::string path = folder_.file(name);
    write_safetensors(path, sources);
    return path;
  }
  std::string plain() {
    return write("plain.safetensors", [](TensorSource&) { return true; });
  }
  std::string prefixed() {
    return write("prefixed.safetensors", [](TensorSource& s) {
      s.name = "module.model." + s.name;
      if (s.name.ends_with("num_batches_tracked")) {
        s.shape = {1};
        s.fetch = [] { return Tensor::from(std::vector<int64_t>{3}, {1}); };
      }
      return true;
    });
  }
  std::string headless() {
    return write("headless.safetensors", [](TensorSource& s) { return !s.name.starts_with("fc."); });
  }
  std::string batch() {
    const std::string path = folder_.file("batch.safetensors");
    tools::write_tensors(path, {{"input", Tensor::zeros({2, 3, 64, 64}, DType::f32, Device::cpu)},
                                {"labels", Tensor::from(std::vector<int64_t>{1, 2}, {2})}});
    return path;
  }
  ToolResult predict(const std::string& weights, const std::string& logits, const Words& more = {}) {
    return run_tool("predict", joined({"--model", kModel, "--weights", weights, "--tensor", batch(),
                                       "--logits", logits, "--device", "cpu"},
                                      more));
  }

  TemporaryFolder folder_;
  std::unique_ptr<Module> model_ = make_model(kModel, {.num_classes = 10, .seed = 5});
};

TEST_F(WeightsToolTest, PredictAndParityTakeOffAPrefix) {
  const std::string a = folder_.file("a.safetensors"), b = folder_.file("b.safetensors");
  ASSERT_EQ(predict(plain(), a).code, 0);
  const ToolResult result = predict(prefixed(), b);
  ASSERT_EQ(result.code, 0) << result.err;
  EXPECT_THAT(result.err, HasSubstr("prefixed.safetensors: takes module. off"));
  EXPECT_THAT(result.err, HasSubstr("takes 'model.' off the names"));
  expect_same_tensors(a, b);
  const Words parity = {"--model", kModel, "--batch", batch(), "--device", "cpu"};
  ASSERT_EQ(run_tool("parity", joined(parity, {"--weights", plain(), "--out", a})).code, 0);
  ASSERT_EQ(run_tool("parity", joined(parity, {"--weights", prefixed(), "--out", b})).code, 0);
  expect_same_tensors(a, b);
}

TEST_F(WeightsToolTest, ConvertWritesThePlainOne) {
  const std::string out = folder_.file("out.safetensors");
  ToolResult result = run_tool("convert", {prefixed(), out, "--model", kModel});
  ASSERT_EQ(result.code, 0) << result.err;
  EXPECT_THAT(result.out, HasSubstr("takes 'model.' off the names"));
  const SafetensorsFile written(out);
  EXPECT_EQ(written.find("conv1.1.num_batches_tracked")->describe(), "I64 []");
  const SafetensorsFile original(plain());
  for (const TensorInfo& info : original.tensors()) ASSERT_NE(written.find(info.name), nullptr) << info.name;

  const std::string average = fixture("wrapped/average.pth");
  expect_refusal(run_tool("convert", {average, out}), 3, {average, "'model', 'model_ema'", "--weights-key"});
  result = run_tool("convert", {average, out, "--weights-key", "model_ema", "--ignore", "n_*"});
  ASSERT_EQ(result.code, 0) << result.err;
  EXPECT_EQ(SafetensorsFile(out).tensors().size(), 9u);
  result = run_tool("convert", {fixture("wrapped/double.pth"), out});
  ASSERT_EQ(result.code, 0) << result.err;
  EXPECT_EQ(SafetensorsFile(out).find("fc.bias")->describe(), "F32 [4]");
}

TEST_F(WeightsToolTest, ErrorsAreShort) {
  const std::string other = fixture("wrapped/plain.pth"), logits = folder_.file("l.safetensors");
  const ToolResult result = predict(other, logits);
  expect_refusal(result, 3, {other, "MissingTensor", "more"});
  EXPECT_LT(result.err.size(), 700u);
  const ToolResult converted = run_tool("convert", {other, logits, "--model", kModel});
  expect_refusal(converted, 3, {other, "does not fit"});
  EXPECT_LT(converted.out.size(), 2000u);
  expect_refusal(predict(plain(), logits, {"--weights-key", "ema"}), 3, {"--weights-key 'ema'"});
  expect_refusal(predict(plain(), logits, {"--ignore", "aux.*"}), 3, {"--ignore 'aux.*'"});
  expect_refusal(run_tool("evaluate", {"--checkpoint", plain(), "--ignore", "a"}), 2, {"--ignore"});
}

TEST_F(WeightsToolTest, ABackboneIsForTraining) {
  const std::string weights = headless();
  expect_refusal(predict(weights, folder_.file("l.safetensors")), 3, {weights, "no last layer (fc.*)"});
  expect_refusal(run_tool("evaluate", {"--model", kModel, "--weights", weights, "--data", "synthetic",
                                       "--device", "cpu"}),
                 3, {weights, "no last layer (fc.*)"});
  const std::string run = folder_.file("run");
  const ToolResult result =
      run_tool("train", small_run(run, {"--model", kModel, "--weights", weights, "--freeze-backbone"}));
  ASSERT_EQ(result.code, 0) << result.err;
  EXPECT_THAT(result.out, HasSubstr("but a new last layer: fc.bias there is missing, here [10]"));
  const tools::TensorMap before = tools::read_tensors(weights);
  const tools::TensorMap after = tools::read_tensors(run + "/last.safetensors");
  EXPECT_EQ(after.at("conv1.0.weight").to_vector<float>(), before.at("conv1.0.weight").to_vector<float>());
}

TEST_F(WeightsToolTest, AResumedRunNeedsNothingOfThem) {
  const std::string weights = prefixed();
  const Words settings = {"--model", kModel, "--weights", weights, "--ignore", "module.model.fc.*"};
  const std::string whole = folder_.file("whole"), parts = folder_.file("parts");
  const ToolResult first = run_tool("train", small_run(whole, settings));
  ASSERT_EQ(first.code, 0) << first.err;
  EXPECT_THAT(first.out,
              HasSubstr("leaves out as told: 'module.model.fc.bias', 'module.model.fc.weight' (2)"));
  const auto first_epoch_done = [](const std::string& out) { return contains(out, "epoch 1/3"); };
  ASSERT_EQ(run_tool("train", small_run(parts, settings), SIGINT, first_epoch_done).code, 130);
  fs::remove(weights);
  const ToolResult resumed = run_tool("train", resumed_run(parts));
  ASSERT_EQ(resumed.code, 0) << resumed.err;
  expect_same_runs(whole, parts);
}

}  // namespace
}  // namespace plume::test::weights_tool_test
