// Every program with paths that no file can have, or that people's files do have: one line and a documented
// code.
#include "tests/tools/training_run.h"

namespace plume::test::bad_paths_test {
namespace {

TEST(BadPathsTest, EveryProgramRefusesInOneLine) {
  const TemporaryFolder folder;
  write_file(folder.file("file"), "x");
  fs::create_symlink("loop", folder.file("loop"));
  const Words paths = {folder.file("caf\xE9"),
                       folder.file("two\nlines"),
                       folder.file(std::string(300, 'x')),
                       folder.file(std::string(5000, '/') + std::string(5000, 'x')),
                       folder.file("file/below"),
                       folder.file("loop/below"),
                       "/dev/null/below"};
  for (const std::string& path : paths) {
    const std::pair<const char*, Words> commands[] = {
        {"train", {"--device", "cpu", "--config", path, "--out", folder.file("run")}},
        {"train", {"--device", "cpu", "--weights", path, "--out", folder.file("run")}},
        {"train", {"--device", "cpu", "--data", "cifar10", "--data-dir", path, "--out", folder.file("run")}},
        {"train",
         {"--device", "cpu", "--data", "imagefolder", "--data-dir", path, "--out", folder.file("run")}},
        {"train", {"--device", "cpu", "--resume", "--out", path}},
        {"evaluate", {"--device", "cpu", "--checkpoint", path}},
        {"evaluate", {"--device", "cpu", "--model", "resnet18", "--weights", path, "--data", "synthetic"}},
        {"predict", {"--device", "cpu", "--model", "resnet18", "--weights", path, "image.png"}},
        {"convert", {"--model", "resnet18", path, folder.file("out.safetensors")}},
        {"augment",
         {"--device", "cpu", "--data", "cifar10", "--data-dir", path, "--out", folder.file("sheet.png")}},
        {"augment", {"--device", "cpu", "--data", "synthetic", "--out", path + "/sheet.png"}},
        {"parity",
         {"--device", "cpu", "--model", "resnet18", "--weights", path, "--batch", path, "--out",
          folder.file("o")}},
        {"profile", {"--device", "cpu", "--model", path}},
        {"models", {"--model", path}},
        {"study", {"--recipe", path, "--out", folder.file("study")}},
        {"study", {"--quick", "--list", "--models", path, "--out", folder.file("study")}},
    };
    for (const auto& [program, flags] : commands) {
      SCOPED_TRACE(message("{} {} {}", program, flags[flags.size() - 2], path.substr(0, 60)));
      const ToolResult result = run_tool(program, flags);
      EXPECT_TRUE(result.code >= 2 && result.code <= 4) << result.code << ": " << result.err;
      expect_refusal(result, result.code, {});
    }
  }
  EXPECT_FALSE(fs::exists(folder.file("run")));
}

}  // namespace
}  // namespace plume::test::bad_paths_test
