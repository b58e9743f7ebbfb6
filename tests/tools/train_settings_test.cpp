// What the settings of a run do to it.
#include "tests/tools/training_run.h"
#include "tools/cli/json_fields.h"
#include "tools/training/learner.h"
#include "tools/training/rate.h"
#include "tools/training/step.h"

namespace plume::test::train_settings_test {
namespace {

// Twelve steps of a small network, selected on what it is measured on.
Words quick_run(const std::string& out, const Words& more = {}) {
  Words words = {"--device",     "cpu", "--threads", "1", "--limit-train", "64",
                 "--limit-test", "32",  "--out",     out, "--validation",  "0"};
  const std::pair<const char*, const char*> defaults[] = {
      {"--model", "shufflenet_v2_x0_5"}, {"--batch", "16"}, {"--epochs", "3"}, {"--lr", "0.02"}};
  for (const auto& [flag, value] : defaults)
    if (std::find(more.begin(), more.end(), flag) == more.end()) words = joined(words, {flag, value});
  return joined(words, more);
}

std::vector<json> metrics_of(const std::string& out, const Words& more) {
  const ToolResult result = run_tool("train", quick_run(out, more));
  EXPECT_EQ(result.code, 0) << result.err;
  return lines_of(out + "/metrics.jsonl");
}

// With 1 thread, with 2, and replayed.
TEST(TrainSettingsTest, TheSameSeedGivesTheSameWeights) {
  const TemporaryFolder folder;
  const Words settings = {"--model",
                          "mobilenet_v3_small",
                          "--optimizer",
                          "rmsprop_tf",
                          "--lr",
                          "0.001",
                          "--epochs",
                          "2",
                          "--ema-decay",
                          "0.9",
                          "--cutmix",
                          "1",
                          "--label-smoothing",
                          "0.1",
                          "--accumulate",
                          "2"};
  for (const char* threads : {"1", "2"}) {
    SCOPED_TRACE(threads);
    const std::string a = folder.file(std::string("a") + threads),
                      b = folder.file(std::string("b") + threads);
    for (const std::string& out : {a, b}) {
      Words command = quick_run(out, settings);
      *(std::find(command.begin(), command.end(), "--threads") + 1) = threads;
      if (out == b) command.emplace_back("--graph");
      ASSERT_EQ(run_tool("train", command).code, 0);
    }
    expect_same_runs(a, b);
  }
}

// A last, smaller step does not fit the recording, which is said once.
TEST(TrainSettingsTest, AStepThatIsNotReplayedIsNamed) {
  const TemporaryFolder folder;
  const Words settings = {"--accumulate", "3"};  // four batches: a step of three, and one of one
  const ToolResult eager = run_tool("train", quick_run(folder.file("a"), settings));
  const ToolResult graph = run_tool("train", quick_run(folder.file("b"), joined(settings, {"--graph"})));
  ASSERT_EQ(eager.code + graph.code, 0) << eager.err << graph.err;
  EXPECT_EQ(eager.err, "");
  EXPECT_TRUE(contains(graph.err, "fewer than 48 images")) << graph.err;
  EXPECT_EQ(graph.err.find("fewer than"), graph.err.rfind("fewer than"));
  expect_same_runs(folder.file("a"), folder.file("b"));
}

// The loss of the first and of the last epoch over images that are learned by heart.
std::pair<double, double> learn(const std::string& out, const Words& more) {
  const Words settings = {"--device",
                          "cpu",
                          "--threads",
                          "1",
                          "--model",
                          "shufflenet_v2_x0_5",
                          "--stem",
                          "cifar",
                          "--limit-train",
                          "32",
                          "--limit-test",
                          "8",
                          "--validation",
                          "0",
                          "--batch",
                          "8",
                          "--epochs",
                          "8",
                          "--crop-padding",
                          "0",
                          "--no-flip",
                          "--out",
                          out};
  const ToolResult result = run_tool("train", joined(settings, more));
  EXPECT_EQ(result.code, 0) << result.err;
  const std::vector<json> metrics = lines_of(out + "/metrics.jsonl");
  if (metrics.size() != 8) {
    ADD_FAILURE() << metrics.size() << " epochs";
    return {1, 1};
  }
  return {metrics.front()["train_loss"], metrics.back()["train_loss"]};
}

TEST(TrainSettingsTest, EveryOptimiserAndScheduleLearns) {
  const TemporaryFolder folder;
  const Words cases[] = {
      {"sgd", "--lr", "0.05", "--schedule", "one_cycle", "--nesterov", "--clip-norm", "5"},
      {"adam", "--lr", "0.002", "--schedule", "constant", "--no-norm-decay"},
      {"adamw", "--lr", "0.002", "--schedule", "step", "--step-epochs", "4", "--weight-decay", "0.05"},
      {"rmsprop", "--lr", "0.0005", "--schedule", "multistep", "--milestones", "4,6"},
      {"rmsprop_tf", "--lr", "0.001", "--schedule", "plateau", "--momentum", "0.9", "--alpha", "0.9"}};
  for (const Words& c : cases) {
    SCOPED_TRACE(c[0]);
    const auto [first, last] = learn(folder.file(c[0]), joined({"--optimizer"}, c));
    // Mean squares that begin at 1 make the first steps short.
    EXPECT_LT(last, (c[0] == "rmsprop_tf" ? 0.98 : 0.95) * first);
  }
}

TEST(TrainSettingsTest, LowPrecisionLearnsBesideF32) {
  const TemporaryFolder folder;
  std::map<std::string, double> losses;
  for (const char* precision : {"f32", "bf16", "f16"}) {
    SCOPED_TRACE(precision);
    const std::string out = folder.file(precision);
    const auto [first, last] = learn(out, {"--precision", precision, "--optimizer", "adam", "--lr", "0.002"});
    EXPECT_LT(last, 0.8 * first);
    losses[precision] = last;
    const json line = lines_of(out + "/metrics.jsonl").back();
    EXPECT_EQ(line.contains("skipped_steps") && line["loss_scale"] > 0, precision == std::string("f16"));
  }
  EXPECT_NEAR(losses["bf16"], losses["f32"], 0.15 * losses["f32"]);
  EXPECT_NEAR(losses["f16"], losses["f32"], 0.15 * losses["f32"]);
}

TEST(TrainSettingsTest, F16GivesUpAfterTooManySkippedSteps) {
  const TemporaryFolder folder;
  expect_refusal(
      run_tool("train", quick_run(folder.file("run"), {"--precision", "f16", "--lr", "1e6", "--warmup-epochs",
                                                       "0", "--epochs", "20", "--batch", "4"})),
      5, {});
  EXPECT_EQ(newest_checkpoint(folder.file("run")), "");
}

// Without batch norm and dropout at work nothing changes at a learning rate of 0.
TEST(TrainSettingsTest, StopsEarly) {
  const TemporaryFolder folder;
  const std::string out = folder.file("run");
  const Words settings = {"--model", "squeezenet1_1", "--lr", "0", "--epochs", "9", "--early-stopping", "2"};
  const ToolResult result = run_tool("train", quick_run(out, settings));
  ASSERT_EQ(result.code, 0) << result.err;
  EXPECT_TRUE(contains(result.out, "stopped early")) << result.out;
  EXPECT_EQ(lines_of(out + "/metrics.jsonl").size(), 3u);
  EXPECT_EQ(run_tool("train", resumed_run(out)).code, 0);
  EXPECT_EQ(lines_of(out + "/metrics.jsonl").size(), 3u);
}

TEST(TrainSettingsTest, AveragedWeightsAreEvaluatedAndKept) {
  const TemporaryFolder folder;
  const std::string out = folder.file("run"), report = folder.file("report.json");
  const std::vector<json> metrics = metrics_of(out, {"--ema-decay", "0.9"});
  ASSERT_EQ(metrics.size(), 3u);
  const tools::TensorMap all = tools::read_tensors(newest_checkpoint(out));
  const tools::TensorMap kept = tools::read_tensors(out + "/last.safetensors");
  const Tensor &average = all.at("fc.weight"), &own = all.at("optimizer.own.fc.weight");
  EXPECT_NE(std::memcmp(average.raw(), own.raw(), own.bytes()), 0);
  EXPECT_EQ(std::memcmp(average.raw(), kept.at("fc.weight").raw(), own.bytes()), 0);
  ASSERT_EQ(run_tool("evaluate", {"--device", "cpu", "--checkpoint", out + "/last.safetensors", "--limit",
                                  "32", "--batch", "16", "--latency-seconds", "0", "--json", report})
                .code,
            0);
  EXPECT_EQ(tools::parse_json_or_null(read_file(report))["top1"], metrics.back()["test_top1"]);
}

TEST(TrainSettingsTest, FineTunesTheLastLayerAlone) {
  const TemporaryFolder folder;
  const std::string first = folder.file("first"), second = folder.file("second");
  ASSERT_EQ(run_tool("train", quick_run(first)).code, 0);
  const std::string weights = first + "/last.safetensors";
  const ToolResult result = run_tool(
      "train", quick_run(second, {"--weights", weights, "--freeze-backbone", "--head-lr-factor", "2"}));
  ASSERT_EQ(result.code, 0) << result.err;
  EXPECT_TRUE(contains(result.out, "begins with the weights of " + weights)) << result.out;
  const tools::TensorMap before = tools::read_tensors(weights);
  for (const auto& [name, tensor] : tools::read_tensors(second + "/last.safetensors")) {
    const Tensor& old = before.at(name);
    const bool same = std::memcmp(tensor.raw(), old.raw(), old.bytes()) == 0;
    EXPECT_EQ(same, !name.starts_with("fc.")) << name;
  }
}

TEST(TrainingStepTest, NamesTheFirstBadLayerAndLeavesTheWeights) {
  tools::Learner learner = tools::make_learner({.model = "resnet18"}, 10, Device::cpu);
  Tensor conv1;
  for (const NamedParameter& p : learner.model->parameters()) {
    Tensor value = p.variable.value();
    if (p.name == "conv1.weight") conv1 = value;
    if (p.name != "fc.weight") continue;
    for (float& v : std::span(value.data<float>(), size_t(value.size()))) v = 3e38f;
  }
  const std::vector<float> before = conv1.to_vector<float>();
  data::Batch batch;
  RandomSequence random(1);
  std::vector<float> pixels(2 * 32 * 32 * 3);
  for (float& v : pixels) v = random.normal();
  batch.images = Tensor::from(pixels, {2, 32, 32, 3});
  batch.labels = Tensor::from(std::vector<int32_t>{1, 2}, {2});
  batch.count = 2;
  tools::TrainingStep step(learner, {.batch = 2}, Device::cpu, {});
  step.start({batch}, 0, 0.1f);
  EXPECT_FALSE(std::isfinite(step.result().loss_sum));
  EXPECT_TRUE(step.first_bad_layer().starts_with("fc (linear.")) << step.first_bad_layer();
  EXPECT_TRUE(conv1.to_vector<float>() == before);
}

TEST(LearnerTest, BeginsAtZeroWhereItIsTold) {
  const auto zeros = [](const std::string& zero_init) {
    std::vector<std::string> names;
    tools::Learner learner =
        tools::make_learner({.model = "resnet18", .zero_init = zero_init}, 10, Device::cpu);
    for (const NamedParameter& p : learner.model->parameters()) {
      const std::vector<float> values = p.variable.value().to_vector<float>();
      const bool zero = std::all_of(values.begin(), values.end(), [](float v) { return v == 0; });
      if (zero && p.name.ends_with("weight")) names.push_back(p.name);
    }
    return names;
  };
  EXPECT_EQ(zeros("none"), std::vector<std::string>());
  EXPECT_EQ(zeros("head"), std::vector<std::string>({"fc.weight"}));
  EXPECT_EQ(zeros("residual").size(), 8u);
  EXPECT_EQ(zeros("residual").front(), "layer1.0.bn2.weight");
  EXPECT_EQ(zeros("both").size(), 9u);
}

TEST(LearnerTest, AnotherNumberOfClassesGetsANewLastLayer) {
  const TemporaryFolder folder;
  for (const char* name : {"mobilenet_v3_small", "squeezenet1_1"}) {
    const std::unique_ptr<Module> thousand = make_model(name, {.num_classes = 1000, .seed = 1});
    const std::unique_ptr<Module> seven = make_model(name, {.num_classes = 7, .seed = 2});
    const std::unique_ptr<Module> fresh = make_model(name, {.num_classes = 7, .seed = 2});
    save_state(folder.file("weights.safetensors"), *thousand);
    const std::string said = tools::load_pretrained(folder.file("weights.safetensors"), *seven);
    EXPECT_TRUE(contains(said, "1000") && contains(said, "7")) << said;
    const std::string head = tools::head_prefix(*seven);
    const std::vector<NamedTensor> expected = thousand->state(), untouched = fresh->state();
    size_t i = 0;
    for (const NamedTensor& t : seven->state()) {
      const Tensor& model = t.name.starts_with(head) ? *untouched[i].tensor : *expected[i].tensor;
      ASSERT_EQ(t.tensor->shape(), model.shape()) << t.name;
      EXPECT_EQ(std::memcmp(t.tensor->raw(), model.raw(), model.bytes()), 0) << t.name;
      ++i;
    }
  }
}

TEST(LearningRateTest, FollowsTheSettings) {
  tools::Recipe r{.epochs = 10, .lr = 1, .warmup_epochs = 0};
  const auto rates = [&](std::initializer_list<int64_t> steps) {
    const tools::LearningRate rate(r, 10);
    std::vector<float> values;
    for (const int64_t step : steps) values.push_back(rate.at(step));
    return values;
  };
  const auto expect_near = [](const std::vector<float>& found, const std::vector<float>& expected) {
    ASSERT_EQ(found.size(), expected.size());
    for (size_t i = 0; i < found.size(); ++i) EXPECT_NEAR(found[i], expected[i], 1e-6f) << i;
  };
  r.schedule = "constant";
  expect_near(rates({0, 50, 99}), {1, 1, 1});
  r.schedule = "step";
  r.step_epochs = 4;
  expect_near(rates({0, 39, 40, 80}), {1, 1, 0.1f, 0.01f});
  r.schedule = "multistep";
  r.milestones = "2,5";
  r.gamma = 0.5;
  expect_near(rates({19, 20, 49, 50}), {1, 0.5f, 0.5f, 0.25f});
  r.schedule = "cosine";
  expect_near(rates({0, 50}), {1, 0.5f});
  r.warmup_epochs = 1;
  expect_near(rates({0, 4, 9}), {0.1f, 0.5f, 1});
  r.schedule = "constant";
  expect_near(rates({0, 4, 9, 10}), {0.1f, 0.5f, 1, 1});
}

TEST(LearningRateTest, APlateauReducesItAndIsRemembered) {
  const tools::Recipe r{.epochs = 9, .lr = 1, .schedule = "plateau", .warmup_epochs = 0, .step_epochs = 1};
  tools::LearningRate rate(r, 10);
  tools::RunState state;
  for (const double accuracy : {0.5, 0.6, 0.6, 0.6}) {
    EXPECT_EQ(rate.at(0), 1.0f);
    rate.observe(accuracy);
    rate.store(state);
    tools::LearningRate other(r, 10);
    other.restore(state);
    EXPECT_EQ(other.at(0), rate.at(0));
    rate = other;  // goes on from what was stored
  }
  EXPECT_FLOAT_EQ(rate.at(0), 0.1f);
}

TEST(RecipesTest, AllAreValid) {
  int count = 0;
  for (const auto& entry : fs::directory_iterator(std::string(PLUME_SOURCE_DIR) + "/tools/recipes")) {
    const std::string name = entry.path().filename().string();
    if (!name.ends_with(".json") || name.starts_with("study-")) continue;
    SCOPED_TRACE(name);
    tools::Recipe recipe;
    tools::RunOptions options;
    tools::read_config(entry.path().string(), recipe, options);
    tools::check_recipe(recipe);
    EXPECT_NE(tools::to_json(tools::recipe_fields(), recipe),
              tools::to_json(tools::recipe_fields(), tools::Recipe{}));
    ++count;
  }
  EXPECT_GE(count, 8);
}

}  // namespace
}  // namespace plume::test::train_settings_test
