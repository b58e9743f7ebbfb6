// A run goes on from its folder and its data alone: whatever else it began with may have gone.
#include "tests/tools/training_run.h"

namespace plume::test::train_elsewhere_test {
namespace {

Words quick_run(const std::string& out, const Words& more = {}) {
  return joined({"--device", "cpu", "--threads", "1", "--model", "shufflenet_v2_x0_5", "--limit-train", "32",
                 "--limit-test", "16", "--batch", "16", "--epochs", "2", "--lr", "0.02", "--out", out},
                more);
}

// train, started in another working folder.
ToolResult train_in(const std::string& folder, const Words& flags) {
  const Words command = {"-c", "cd \"$1\" && shift && exec \"$@\"", "sh", folder,
                         message("{}/bin/train", PLUME_BINARY_DIR)};
  return run_command("/bin/sh", joined(command, flags));
}

TEST(TrainElsewhereTest, ThePretrainedFileMayHaveGone) {
  const TemporaryFolder folder;
  const std::string whole = folder.file("whole"), parts = folder.file("parts"), here = folder.file(".");
  ASSERT_EQ(run_tool("train", quick_run(folder.file("first"))).code, 0);
  fs::copy(folder.file("first") + "/last.safetensors", folder.file("pretrained.safetensors"));
  const Words settings = {
      "--weights", "pretrained.safetensors", "--freeze-backbone", "--checkpoint-steps", "1", "--keep-last",
      "9"};
  ASSERT_EQ(train_in(here, quick_run("whole", settings)).code, 0);
  fs::copy(whole, parts, fs::copy_options::recursive);
  fs::remove(newest_checkpoint(parts));  // as if it had been killed before
  fs::remove(folder.file("pretrained.safetensors"));
  fs::create_directory(folder.file("elsewhere"));
  const ToolResult resumed = train_in(folder.file("elsewhere"), resumed_run("../parts"));
  ASSERT_EQ(resumed.code, 0) << resumed.err;
  EXPECT_EQ(resumed.err, "");
  expect_same_runs(whole, parts);
}

TEST(TrainElsewhereTest, PathsAreRememberedFromTheRoot) {
  const TemporaryFolder folder;
  const std::string there = fs::canonical(folder.file(".")).string();
  ASSERT_EQ(train_in(there, quick_run("run", {"--cache-dir", "./cache", "--data-dir", "data"})).code, 0);
  const std::string out = there + "/run";
  const auto expect_paths = [&] {
    json config = tools::parse_json(read_file(out + "/config.json"), "config");
    EXPECT_EQ(config["options"]["data_dir"], there + "/data");
    EXPECT_EQ(config["options"]["cache_dir"], there + "/cache");
    EXPECT_EQ(config["run"]["folder"], out);
  };
  expect_paths();
  // Without the settings' file, or with a damaged one, the checkpoint says the same.
  for (const char* text : {"", "{\"recipe\": {\"epochs\": 2"}) {
    fs::remove(out + "/config.json");
    if (*text) write_file(out + "/config.json", text);
    const ToolResult resumed = train_in("/", resumed_run(out));
    ASSERT_EQ(resumed.code, 0) << resumed.err;
    EXPECT_EQ(contains(resumed.err, "goes on with what the checkpoint says"), *text != 0) << resumed.err;
    expect_paths();
  }
}

TEST(TrainElsewhereTest, ManyChangesAreCounted) {
  const TemporaryFolder folder;
  ASSERT_EQ(run_tool("train", quick_run(folder.file("run"))).code, 0);
  const Words changes = {"--lr", "0.5",     "--batch", "8",         "--momentum", "0.5",     "--seed",
                         "3",    "--gamma", "0.5",     "--erasing", "0.5",        "--mixup", "1"};
  expect_refusal(run_tool("train", resumed_run(folder.file("run"), changes)), 2,
                 {"batch: 16 -> 8", " and 2 more", "--allow-changes"});
}

// Names that are no UTF-8, hold a line's end or a terminal's codes are ordinary names to a file system.
TEST(TrainElsewhereTest, AnyNameWillDo) {
  const TemporaryFolder folder;
  for (const char* name : {"caf\xE9", "two\nlines", "\x1b[31m", "a,\"b\""}) {
    const std::string out = folder.file(name);
    const ToolResult result = run_tool("train", quick_run(out, {"--data-dir", out}));
    ASSERT_EQ(result.code, 0) << result.err;
    EXPECT_EQ(result.out.find('\x1b'), std::string::npos) << result.out;
    EXPECT_EQ(read_file(out + "/console.log"), result.out);
    EXPECT_TRUE(tools::parse_json_or_null(read_file(out + "/config.json")).is_object());
    ASSERT_EQ(run_tool("train", resumed_run(out, {"--data-dir", out})).code, 0);
  }
  fs::rename(folder.file("caf\xE9"), folder.file("moved"));
  expect_refusal(run_tool("train", resumed_run(folder.file("moved"))), 2, {"no UTF-8", "--data-dir"});
}

TEST(TrainElsewhereTest, FoldersThatCannotBeMade) {
  const TemporaryFolder folder;
  write_file(folder.file("file"), "x");
  fs::create_symlink("loop", folder.file("loop"));
  for (const std::string& out : {folder.file(std::string(300, 'x')), folder.file("file/run"),
                                 folder.file("loop/run"), std::string("/dev/null/run")})
    expect_refusal(run_tool("train", quick_run(out)), 4, {"--out"});
}

}  // namespace
}  // namespace plume::test::train_elsewhere_test
