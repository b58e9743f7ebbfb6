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

// Steps that are all skipped would leave all weights equal: where the last layer or the ends of the branches
// begin at zero, gradients fit one of the first loss scales. SqueezeNet's fit anyway.
const char* zero_init_of(const std::string& model) {
  if (model == "squeezenet1_1") return "none";
  return model.starts_with("shufflenet") ? "head" : "both";
}

// Steps of two passes of two images, of which the last of an epoch is a short one. A large network has one
// epoch of four steps, others two of three.
Words stand_in_run(const std::string& model, const std::string& out, const Words& more, bool large = false) {
  Words words;
  const std::initializer_list<Words> settings{{"--device", "cuda", "--model", model, "--data", "synthetic"},
                                              {"--epochs", large ? "1" : "2"},
                                              {"--limit-train", large ? "14" : "10"},
                                              {"--validation", "0", "--limit-test", "2", "--batch", "2"},
                                              {"--accumulate", "2", "--image-size", "32", "--lr", "0.001"},
                                              {"--zero-init", zero_init_of(model), "--optimizer", "adam"},
                                              {"--workers", "0", "--threads", "1"},
                                              {"--checkpoint-steps", "2", "--keep-last", "9", "--out", out}};
  for (const Words& some : settings) words = joined(words, some);
  return joined(words, more);
}
const Words kEverything{"--precision", "f16",         "--mixup", "0.2",         "--cutmix",
                        "1",           "--ema-decay", "0.9",     "--clip-norm", "1"};
// The emulator is slow at matrix instructions on planes of one pixel.
const Words kWithoutTensorCores{"--variant", "conv2d.forward=implicit_gemm",
                                "--variant", "expand_depthwise.forward=separate",
                                "--variant", "fused_mbconv.forward=separate"};

std::vector<double> losses_of(const std::string& out) {
  std::vector<double> losses;
  std::ifstream lines(out + "/metrics.jsonl");
  for (std::string line; std::getline(lines, line);) {
    const json epoch = json::parse(line);
    losses.push_back(epoch["train_loss"].get<double>());
    losses.push_back(epoch["test_loss"].get<double>());
    EXPECT_LT(epoch.value("skipped_steps", 0), epoch["step"].get<int>()) << "all weights are as they were";
  }
  return losses;
}

void expect_same_run(const std::string& a, const std::string& b) {
  EXPECT_EQ(losses_of(a), losses_of(b));
  EXPECT_GE(losses_of(a).size(), 2u);
  expect_same_tensors(a + "/last.safetensors", b + "/last.safetensors");
  expect_same_tensors(newest_checkpoint(a), newest_checkpoint(b));
}

class RecordedTraining : public testing::TestWithParam<const char*> {};

TEST_P(RecordedTraining, EqualsStepsRunCallByCallAndGoesOnFromTheMiddle) {
  const TemporaryFolder folder;
  const std::string model = GetParam(), graph = folder.file("graph"), plain = folder.file("plain"),
                    resumed = folder.file("resumed");
  const bool large = model == "resnet18" || model == "efficientnet_v2_s";
  const Words variants = large ? kWithoutTensorCores : Words{}, settings = joined(kEverything, variants);
  expect_clean_training(run_tool("train", stand_in_run(model, graph, settings, large)));
  expect_clean_training(
      run_tool("train", stand_in_run(model, plain, joined(settings, {"--no-graph"}), large)));
  expect_same_run(graph, plain);

  // Small ones from before the short step, which is the first of the process.
  copy_from_second_step(graph, resumed);
  expect_clean_training(run_tool(
      "train", joined({"--device", "cuda", "--threads", "1", "--out", resumed, "--resume"}, variants)));
  expect_same_run(graph, resumed);
}

INSTANTIATE_TEST_SUITE_P(Networks, RecordedTraining,
                         testing::Values("mobilenet_v3_small", "squeezenet1_1", "shufflenet_v2_x0_5",
                                         "resnet18", "efficientnet_v2_s"));

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
