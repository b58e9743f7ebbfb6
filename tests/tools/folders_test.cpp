// train, evaluate and augment on folders of images as people have them.
#include <gmock/gmock.h>

#include "tests/data/images/image_files.h"
#include "tests/tools/training_run.h"

namespace plume::test::folders_test {
namespace {

using testing::HasSubstr;
using testing::Not;

// DIR/data/train, val and test with classes "a" (three images), "b" and "c" (two), of sizes of their own.
class Folders : public testing::Test {
 protected:
  Folders() {
    for (const char* split : {"train", "val", "test"}) {
      for (const char* name : {"a/0.png", "a/in/1.png", "a/2.png"}) add(split, name, 20, 50);
      for (const char* name : {"b/0.png", "b/1.png"}) add(split, name, 45, 20);
      for (const char* name : {"c/0.png", "c/1.png"}) add(split, name, 24, 24);
    }
  }
  void add(const std::string& split, const std::string& name, int height, int width) {
    data::write_image(data() / split / name, height, width, ++seed_);
  }
  fs::path data() const { return folder_.path() / data_; }
  ToolResult train(const Words& more = {}) const {
    Words words{"--device",           "cpu",    "--threads",  "1", "--model",
                "mobilenet_v3_small", "--data", "imagefolder"};
    words = joined(words, {"--data-dir", data().string(), "--cache-dir", folder_.file("cache")});
    words = joined(words, {"--image-size", size_, "--batch", "4", "--epochs", "1"});
    return run_tool("train", joined(joined(words, {"--out", folder_.file("run")}), more));
  }
  ToolResult evaluate(const Words& more = {}) const {
    return run_tool("evaluate", joined({"--device", "cpu", "--threads", "1", "--checkpoint",
                                        folder_.file("run/last.safetensors"), "--data-dir", data().string(),
                                        "--cache-dir", folder_.file("cache"), "--latency-seconds", "0.01",
                                        "--batch", "4", "--json", folder_.file("report.json")},
                                       more));
  }
  json report() const { return tools::parse_json_or_null(read_file(folder_.file("report.json"))); }

  TemporaryFolder folder_;
  std::string data_ = "data", size_ = "32";
  uint64_t seed_ = 0;
};

TEST_F(Folders, ReportsSayWhatWasMeasured) {
  for (const char* name : {"a/x.webp", "b/x.webp", "b/x.txt"}) data::write_below(data() / "test" / name, "x");
  fs::remove_all(data() / "test/c");
  data::write_below(data() / "train/a/x.gif", "x");
  ToolResult result = train();
  ASSERT_EQ(result.code, 0) << result.err;
  const std::string console = read_file(folder_.file("run/console.log"));
  EXPECT_THAT(console, HasSubstr("trains on train split, 7 images of " + data().string() +
                                 "/train; left out: 1 .gif"));
  EXPECT_THAT(console, HasSubstr("measures on test split, 5 images"));
  EXPECT_THAT(console, HasSubstr("has val and test: test is measured"));
  const json config = tools::parse_json_or_null(read_file(folder_.file("run/config.json")));
  EXPECT_EQ(config["run"]["data"]["train"]["left_out"], (json{{".gif", 1}}));
  EXPECT_EQ(config["run"]["data"]["measured"]["split"], "test");
  EXPECT_EQ(config["run"]["data"]["measured"]["folder"], data().string() + "/test");

  result = evaluate();
  ASSERT_EQ(result.code, 0) << result.err;
  EXPECT_THAT(result.err, HasSubstr("has val and test: test is measured"));
  EXPECT_THAT(result.err, HasSubstr("/test: has no images of 'c'"));
  EXPECT_THAT(result.out, HasSubstr("imagefolder, test split, 5 images"));
  EXPECT_THAT(result.out, HasSubstr("left out         2 .webp, 1 .txt"));
  EXPECT_EQ(report()["split"], "test");
  EXPECT_EQ(report()["folder"], data().string() + "/test");
  EXPECT_EQ(report()["images"], 5);
  EXPECT_EQ(report()["left_out"], (json{{".webp", 2}, {".txt", 1}}));
  ASSERT_EQ(report()["per_class"].size(), 3u);
  EXPECT_EQ(report()["per_class"][0]["support"], 3);
  EXPECT_EQ(report()["per_class"][2]["support"], 0);
  EXPECT_EQ(report()["per_class"][2]["class"], "c");

  for (const char* split : {"train", "val"}) {
    result = evaluate({"--split", split});
    ASSERT_EQ(result.code, 0) << result.err;
    EXPECT_THAT(result.err, Not(HasSubstr("is measured")));
    EXPECT_EQ(report()["split"], split);
    EXPECT_EQ(report()["folder"], (data() / split).string());
    EXPECT_EQ(report()["images"], 7);
  }
  result = evaluate({"--image-size", "0"});
  EXPECT_EQ(result.code, 2);
  EXPECT_THAT(result.err,
              HasSubstr("evaluate: --image-size: the images of imagefolder are of different sizes"));
}

TEST_F(Folders, RefusesASplitThatIsNotThere) {
  fs::remove_all(data() / "test");
  ASSERT_EQ(train().code, 0);
  EXPECT_THAT(read_file(folder_.file("run/console.log")), HasSubstr("has no test: val is measured"));
  expect_refusal(evaluate({"--split", "test"}), 3, {"has no folder test; it has 'train', 'val'"});
  expect_refusal(evaluate({"--data", "synthetic", "--split", "val"}), 2,
                 {"synthetic: has no split val: it has train and test"});
  const ToolResult sheet = run_tool(
      "augment", {"--data", "imagefolder", "--data-dir", data().string(), "--split", "val", "--image-size",
                  "16", "--device", "cpu", "--count", "4", "--out", folder_.file("sheet.png")});
  EXPECT_EQ(sheet.code, 0) << sheet.err;
  EXPECT_THAT(sheet.out, HasSubstr("from val split, 7 images of " + data().string() + "/val"));
}

TEST_F(Folders, NetworksWithoutASizeNeedImagesOfOne) {
  size_ = "0";
  ToolResult result = train();
  EXPECT_EQ(result.code, 2);
  EXPECT_THAT(result.err, HasSubstr("train: --image-size: the images of imagefolder are of different sizes"));
  for (const char* split : {"train", "test"})
    for (const char* name : {"a", "b"}) fs::remove_all(data() / split / name);
  fs::remove_all(data() / "test/c");
  add("test", "c/0.png", 30, 24);
  result = train();
  EXPECT_EQ(result.code, 2);
  EXPECT_THAT(result.err, HasSubstr("24x24 pixels in train, 30x24 in test: say which size"));
  EXPECT_FALSE(fs::exists(folder_.file("run")));
}

TEST_F(Folders, MessagesSteerNoTerminal) {
  data_ = "no\x1b[2J\nwhere";
  expect_refusal(train(), 3, {"no\\x1b[2J", "no such folder"});
}

// Latin-1, a line feed and quotes, in the folder's own name and in those of classes and images.
TEST_F(Folders, NamesMayHoldAnyBytes) {
  fs::rename(data(), folder_.path() / "d\xe9j\xe0\n\"vu\"");
  data_ = "d\xe9j\xe0\n\"vu\"";
  for (const char* split : {"train", "val", "test"}) {
    fs::rename(data() / split / "a", data() / split / "caf\xe9");
    fs::rename(data() / split / "b", data() / split / "t\n\"ea\"");
    fs::rename(data() / split / "c/0.png", data() / split / "c/\xe9\n.png");
  }
  data::write_below(data() / "train/c/bad\n\xe9.png", "GIF89a..");
  expect_refusal(train(), 3, {"GIF"});
  EXPECT_FALSE(fs::exists(folder_.file("run")));
  ToolResult result = train({"--skip-bad", "1"});
  ASSERT_EQ(result.code, 0) << result.err;
  const json config = tools::parse_json_or_null(read_file(folder_.file("run/config.json")));
  EXPECT_EQ(config["run"]["classes"], (json{"c", "caf\xef\xbf\xbd", "t\n\"ea\""}));
  result = evaluate();
  ASSERT_EQ(result.code, 0) << result.err;
  EXPECT_EQ(report()["per_class"][1]["class"], "caf\xef\xbf\xbd");
  EXPECT_THAT(result.out, HasSubstr("\nt\\n\"ea\""));
}

}  // namespace
}  // namespace plume::test::folders_test
