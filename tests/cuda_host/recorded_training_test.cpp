// Training by `train` on the stand-in: recorded steps against steps run call by call, and runs that go on.
#include <algorithm>
#include <cstdlib>
#include <fstream>

#include "engine/autograd/tape.h"
#include "engine/core/graph.h"
#include "engine/modules/layers.h"
#include "tests/cuda_host/training_on_stand_in.h"

namespace plume::test::recorded_training_test {
namespace {

// Three steps an epoch of which the last is a short one.
Words stand_in_run(const std::string& model, const std::string& out, const Words& more) {
  return joined({"--device",
                 "cuda",
                 "--model",
                 model,
                 "--data",
                 "synthetic",
                 "--epochs",
                 "2",
                 "--limit-train",
                 "10",
                 "--limit-test",
                 "4",
                 "--batch",
                 "2",
                 "--accumulate",
                 "2",
                 "--image-size",
                 "32",
                 "--lr",
                 "0.01",
                 "--workers",
                 "0",
                 "--optimizer",
                 "adam",
                 "--threads",
                 "1",
                 "--checkpoint-steps",
                 "2",
                 "--keep-last",
                 "9",
                 "--out",
                 out},
                more);
}
const Words kEverything{"--precision", "f16",         "--mixup", "0.2",         "--cutmix",
                        "1",           "--ema-decay", "0.9",     "--clip-norm", "1"};

std::vector<double> losses_of(const std::string& out) {
  std::vector<double> losses;
  std::ifstream lines(out + "/metrics.jsonl");
  for (std::string line; std::getline(lines, line);) {
    const json epoch = json::parse(line);
    losses.push_back(epoch["train_loss"].get<double>());
    losses.push_back(epoch["test_loss"].get<double>());
  }
  return losses;
}

void expect_same_run(const std::string& a, const std::string& b) {
  EXPECT_EQ(losses_of(a), losses_of(b));
  EXPECT_EQ(losses_of(a).size(), 4u);
  expect_same_tensors(a + "/last.safetensors", b + "/last.safetensors");
  expect_same_tensors(newest_checkpoint(a), newest_checkpoint(b));
}

class RecordedTraining : public testing::TestWithParam<const char*> {};

TEST_P(RecordedTraining, EqualsStepsRunCallByCallAndGoesOnFromTheMiddle) {
  const TemporaryFolder folder;
  const std::string graph = folder.file("graph"), plain = folder.file("plain"),
                    resumed = folder.file("resumed");
  expect_clean_training(run_tool("train", stand_in_run(GetParam(), graph, kEverything)));
  expect_clean_training(
      run_tool("train", stand_in_run(GetParam(), plain, joined(kEverything, {"--no-graph"}))));
  expect_same_run(graph, plain);

  // From before the short step: the first one of the process.
  copy_from_second_step(graph, resumed);
  expect_clean_training(
      run_tool("train", {"--device", "cuda", "--threads", "1", "--out", resumed, "--resume"}));
  expect_same_run(graph, resumed);
}

// The large ones take minutes on the emulator; model_run_test records their steps as well.
INSTANTIATE_TEST_SUITE_P(Networks, RecordedTraining,
                         testing::Values("mobilenet_v3_small", "squeezenet1_1", "shufflenet_v2_x0_5"));

TEST(RecordedTrainingOptions, MemoryIsFreedAtOnce) {
  const TemporaryFolder folder;
  setenv("PLUME_MEMORY_CACHE", "0", 1);
  expect_clean_training(
      run_tool("train", stand_in_run("shufflenet_v2_x0_5", folder.file("graph"), kEverything)));
  unsetenv("PLUME_MEMORY_CACHE");
  expect_clean_training(run_tool("train", stand_in_run("shufflenet_v2_x0_5", folder.file("plain"),
                                                       joined(kEverything, {"--no-graph"}))));
  expect_same_run(folder.file("graph"), folder.file("plain"));
}

// What a run began with it goes on with, whatever the device.
TEST(RecordedTrainingOptions, APrecisionIsChosenForTheDevice) {
  const TemporaryFolder folder;
  const auto precision_of = [](const std::string& run) {
    return tools::parse_json_or_null(read_file(run + "/config.json"))["recipe"]["precision"];
  };
  const std::string gpu = folder.file("gpu"), host = folder.file("host");
  const Words choose{"--precision", "auto"};
  expect_clean_training(run_tool("train", stand_in_run("shufflenet_v2_x0_5", gpu, choose)));
  EXPECT_EQ(precision_of(gpu), "bf16");
  Words on_host = stand_in_run("shufflenet_v2_x0_5", host, choose);
  std::replace(on_host.begin(), on_host.end(), std::string("cuda"), std::string("cpu"));
  expect_clean_training(run_tool("train", on_host));
  EXPECT_EQ(precision_of(host), "f32");
  expect_clean_training(run_tool("train", {"--device", "cpu", "--threads", "1", "--out", gpu, "--resume"}));
  EXPECT_EQ(precision_of(gpu), "bf16");
}

TEST(RecordedTrainingOptions, AFrozenBatchNormBehindALearningLayer) {
  for (const Device device : {Device::cpu, Device::simt, Device::cuda}) {
    const Tensor x = Tensor::from(std::vector<float>(96, 0.5f), {2, 4, 4, 3}, device);
    const Tensor dy = Tensor::from(std::vector<float>(128, 1.0f), {2, 4, 4, 4}, device);
    Conv2d conv(3, 4, 3, {.padding = 1, .bias = false});
    BatchNorm2d norm(4);
    RandomSequence random(1);
    conv.initialize(random), norm.initialize(random);
    conv.to(device), norm.to(device);
    norm.eval();
    const auto step = [&] {
      conv.weight.clear_grad();
      backward(norm(conv(Variable(x))), dy);
    };
    step();
    const std::vector<float> expected = conv.weight.grad().to_vector<float>();
    StepGraph graph;
    graph.capture(context(device), step);
    graph.replay();
    EXPECT_EQ(conv.weight.grad().to_vector<float>(), expected) << name(device);
  }
}

}  // namespace
}  // namespace plume::test::recorded_training_test
