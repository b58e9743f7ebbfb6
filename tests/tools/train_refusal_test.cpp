// train as a user gets it wrong: flags, files, settings.
#include "tests/tools/training_run.h"

namespace plume::test::train_refusal_test {
namespace {

TEST(TrainRefusalTest, ADivergedRunStopsAndKeepsNothingOfIt) {
  const TemporaryFolder folder;
  const ToolResult diverged = run_tool(
      "train", {"--device", "cpu", "--limit-train", "64", "--limit-test", "16", "--batch", "4", "--epochs",
                "3", "--lr", "1e6", "--warmup-epochs", "0", "--out", folder.file("run")});
  expect_refusal(diverged, 5, {"the loss is", "epoch", "step", "not finite"});
  EXPECT_FALSE(fs::exists(folder.file("run") + "/last.safetensors"));
  EXPECT_EQ(newest_checkpoint(folder.file("run")), "");
}

struct Refusal {
  Words flags;
  int code;
  Words words;
};

TEST(TrainRefusalTest, CommandLines) {
  const TemporaryFolder folder;
  const std::string out = folder.file("run");
  const Refusal refusals[] = {
      {{"--batchh", "3"}, 2, {"--batchh", "--batch"}},
      {{"--batch", "10x"}, 2, {"10x"}},
      {{"--batch", "0"}, 2, {"--batch", "0"}},
      {{"--batch", "-1"}, 2, {"--batch"}},
      {{"--epochs", "1000000000000000000"}, 2, {"--epochs"}},
      {{"--epochs", "1e3"}, 2, {"1e3"}},
      {{"--batch", "8", "--batch", "8"}, 2, {"twice"}},
      {{"--lr", "nan"}, 2, {"nan"}},
      {{"--lr", "1e400"}, 2, {"1e400"}},
      {{"--lr", ""}, 2, {"--lr"}},
      {{"--lr"}, 2, {"--lr"}},
      {{"--model", "resnet"}, 2, {"resnet18"}},
      {{"--data", "cifar"}, 2, {"cifar10"}},
      {{"--variant", "conv2d.forward=nothing"}, 2, {"nothing"}},
      {{"--variant", "conv2.forward=direct"}, 2, {"conv2d.forward"}},
      {{"--data", "cifar10", "--data-dir", "/nowhere"}, 3, {"/nowhere"}},
      {{"--data", "cifar10"}, 2, {"cifar10", "folder"}},
      {{"--resume", "--overwrite"}, 2, {"--resume", "--overwrite"}},
      {{"--resume", "--config", "x"}, 2, {"--resume", "--config"}},
      {{"--graph", "--no-graph"}, 2, {"--graph", "--no-graph"}},
      {{"--optimizer", "adams"}, 2, {"adams", "adam"}},
      {{"--schedule", "multistep"}, 2, {"--milestones"}},
      {{"--milestones", "3,2"}, 2, {"--milestones", "ascending"}},
      {{"--milestones", "3,,4"}, 2, {"--milestones"}},
      {{"--nesterov", "--momentum", "0"}, 2, {"--nesterov", "--momentum"}},
      {{"--freeze-backbone"}, 2, {"--freeze-backbone", "--weights"}},
      {{"--weights", "/nowhere.safetensors"}, 3, {"/nowhere.safetensors"}},
      {{"--zero-init", "residual", "--model", "squeezenet1_1"},
       2,
       {"squeezenet1_1 has no residual branches"}},
      {{"--zero-init", "head", "--model", "squeezenet1_1"}, 2, {"squeezenet1_1 has a ReLU after"}},
      {{"--validation", "1.0"}, 2, {"--validation", "1.0", "a share below 1"}},
      {{"--validation", "-1"}, 2, {"--validation", "-1"}},
      {{"--validation", "a tenth"}, 2, {"--validation", "a tenth", "auto"}},
      {{"--validation", "5", "--limit-train", "100"}, 3, {"--validation 5", "10 classes", "10 to 90"}},
      {{"--validation", "200", "--limit-train", "100"}, 3, {"--validation 200", "10 to 90"}},
      {{"--crop-padding", "1025"}, 2, {"--crop-padding"}},
      {{"extra"}, 2, {"extra"}},
  };
  for (const Refusal& r : refusals) {
    Words command = {"--device", "cpu", "--out", out};
    command.insert(command.end(), r.flags.begin(), r.flags.end());
    SCOPED_TRACE(r.flags.front());
    expect_refusal(run_tool("train", command), r.code, r.words);
    EXPECT_FALSE(fs::exists(out));
  }
  expect_refusal(run_tool("train", {"--device", "cpu"}), 2, {"--out"});
  write_file(folder.file("file"), "x");
  expect_refusal(run_tool("train", {"--device", "cpu", "--out", folder.file("file")}), 2, {"not a folder"});
  if (!fs::exists("/dev/nvidia0"))
    expect_refusal(run_tool("train", {"--device", "cuda", "--out", out}), 4, {"cuda"});
}

TEST(TrainRefusalTest, SettingsInFiles) {
  const TemporaryFolder folder;
  const std::string config = folder.file("config.json");
  const std::pair<std::string, Words> refusals[] = {
      {"", {config}},
      {"{", {config, "JSON"}},
      {"[]", {config, "object"}},
      {R"({"lerning_rate": 1})", {config, "lerning_rate"}},
      {R"({"momentun": 0.5})", {config, "momentun", "nearest: 'momentum'"}},
      {R"({"recipe": {"epoch": 5}})", {config, "epoch", "nearest: 'epochs'"}},
      {R"({"recipe": {}, "other": {}})", {config, "other"}},
      {R"({"recipe": 3})", {config}},
      {R"({"epochs": "5"})", {config, "epochs", "\"5\"", "whole number"}},
      {R"({"epochs": 0})", {config, "epochs", "from 1"}},
      {R"({"epochs": 18446744073709551615})", {config, "epochs", "18446744073709551615"}},
      {R"({"lr": true})", {config, "lr", "true", "number"}},
      {R"({"nesterov": 1})", {config, "nesterov", "true or false"}},
      {R"({"model": "resnet"})", {config, "resnet18"}},
      {std::string(10'000, '['), {config}},
  };
  for (const auto& [text, words] : refusals) {
    write_file(config, text);
    SCOPED_TRACE(text.substr(0, 60));
    expect_refusal(run_tool("train", {"--device", "cpu", "--config", config, "--out", folder.file("run")}), 3,
                   words);
    EXPECT_FALSE(fs::exists(folder.file("run")));
  }
}

TEST(TrainRefusalTest, BadDataFiles) {
  const TemporaryFolder folder;
  const std::string data = folder.file("data");
  fs::create_directory(data);
  const auto refuse = [&](const Words& words) {
    expect_refusal(run_tool("train", {"--device", "cpu", "--data", "cifar10", "--data-dir", data, "--out",
                                      folder.file("run")}),
                   3, words);
    EXPECT_FALSE(fs::exists(folder.file("run")));
  };
  refuse({data, "data_batch_1.bin"});
  write_file(data + "/data_batch_1.bin", std::string(30'729'999, '\0'));
  refuse({"data_batch_1.bin", "30729999", "30730000"});
  write_file(data + "/data_batch_1.bin", "version https://git-lfs.github.com/spec/v1\n");
  refuse({"data_batch_1.bin"});
}

}  // namespace
}  // namespace plume::test::train_refusal_test
