// What weights say about images and classes, and who keeps to it.
#include <gmock/gmock.h>

#include "data/sets/registry.h"
#include "engine/serialization/checkpoint.h"
#include "engine/serialization/safetensors_header.h"
#include "models/registry.h"
#include "tests/data/images/image_files.h"
#include "tests/tools/training_run.h"
#include "tools/cli/preprocessing.h"
#include "tools/training/checkpoint.h"

namespace plume::test::network_description_test {
namespace {

using testing::HasSubstr;

TEST(NetworkDescription, NamesAsManyClassesAsThereAre) {
  tools::NetworkDescription network;
  tools::check_class_names("w", network, 7);  // none are known
  network.class_names = {"a", "b", "c"};
  tools::check_class_names("w", network, 3);
  try {
    tools::check_class_names("w", network, 7);
    FAIL() << "three names of seven classes";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::bad_input);
    EXPECT_STREQ(error.what(), "w: names 3 classes and has 7");
  }
}

TEST(NetworkDescription, TravelsInMetadata) {
  tools::NetworkDescription network;
  network.data = "imagefolder";
  network.class_names = {"caf\xC3\xA9", "caf\xE9",  "two\nlines", "back\\slash\\n",
                         "\\xE9",       "\xff\xfe", "plain"};
  data::Preprocessing& how = network.preprocessing;
  how = {.resize = 37,
         .crop = {48, 32},
         .interpolation = data::Interpolation::bicubic,
         .rotate180 = true,
         .statistics = {{0.1f, 1.0f / 3, 1e-7f}, {0.2777777f, 5, 1e5f}}};
  for (const bool squash : {false, true}) {
    how.squash = squash;
    const auto metadata = tools::to_metadata(network);
    for (const auto& [key, value] : metadata) EXPECT_EQ(find_invalid_utf8(value), std::string::npos) << key;
    const tools::NetworkDescription again = tools::describe_network("file", metadata, "resnet18");
    EXPECT_EQ(again.preprocessing, how);
    EXPECT_EQ(again.class_names, network.class_names);
    EXPECT_EQ(again.data, network.data);
    EXPECT_TRUE(again.stated);
  }
  EXPECT_EQ(tools::to_line(how),
            "squashed to 48x32, bicubic, rotated by 180 degrees, mean 0.1,0.33333334,1e-07, std "
            "0.2777777,5,100000");
  EXPECT_EQ(tools::to_json(how)["crop"], (json{48, 32}));
}

TEST(NetworkDescription, IsKnownByNameWhereTheWeightsSayNothing) {
  const auto known = [](const std::string& model, const std::string& data = "") {
    return tools::describe_network("file", {{"format", "pt"}}, model, data);
  };
  EXPECT_EQ(known("resnet18").preprocessing, data::Preprocessing{});
  EXPECT_EQ(to_line(known("efficientnet_v2_s")),
            "shorter side 384, crop 384, bilinear, mean 0.485,0.456,0.406, std 0.229,0.224,0.225 (as "
            "torchvision's efficientnet_v2_s wants them)");
  EXPECT_EQ(known("resnet18", "imagefolder").preprocessing, data::Preprocessing{});
  EXPECT_EQ(known("resnet18", "cifar10").preprocessing.crop, (data::ImageSize{32, 32}));
  EXPECT_EQ(known("resnet18", "cifar10").class_names.at(3), "cat");
  EXPECT_FALSE(known("resnet18", "cifar10").stated);
}

// A run on a folder of two classes, "bird" and "cat" plus what is added.
class NetworkOfAFolder : public testing::Test {
 protected:
  NetworkOfAFolder() {
    for (const char* split : {"train", "val"})
      for (const char* name : {"bird/0.png", "bird/1.png", "c\xE1t/0.png", "c\xE1t/1.png", "dog/0.png"}) {
        data::write_image(fs::path(data_) / split / name, 30, 40, ++seed_);
      }
  }
  Words places() const { return {"--data-dir", data_, "--cache-dir", folder_.file("cache")}; }
  std::string run() const { return folder_.file("run"); }
  std::string last() const { return run() + "/last.safetensors"; }
  void train(const Words& more = {}) {
    const Words words = {
        "--device", "cpu",         "--threads",    "1",         "--model", "shufflenet_v2_x0_5",
        "--data",   "imagefolder", "--image-size", image_size_, "--batch", "4",
        "--epochs", "1",           "--out",        run()};
    const ToolResult result = run_tool("train", joined(joined(words, places()), more));
    ASSERT_EQ(result.code, 0) << result.err;
  }
  ToolResult evaluate(const std::string& weights, const Words& more = {}) const {
    Words words = {"--device",          "cpu", "--threads", "1",
                   "--latency-seconds", "0",   "--json",    folder_.file("r")};
    words = joined(words, weights == last() ? Words{"--checkpoint", weights}
                                            : Words{"--model", "shufflenet_v2_x0_5", "--weights", weights});
    return run_tool("evaluate", joined(joined(words, places()), more));
  }
  json report(const std::string& weights, const Words& more = {}) const {
    const ToolResult result = evaluate(weights, more);
    EXPECT_EQ(result.code, 0) << result.err;
    return tools::parse_json_or_null(read_file(folder_.file("r")));
  }

  TemporaryFolder folder_;
  std::string data_ = folder_.file("data"), image_size_ = "32";
  uint64_t seed_ = 0;
};

TEST_F(NetworkOfAFolder, IsInEveryFileOfARun) {
  train();
  size_t files = 0;
  for (const fs::directory_entry& entry : fs::recursive_directory_iterator(run())) {
    if (entry.path().extension() != ".safetensors") continue;
    ++files;
    const tools::NetworkDescription network = tools::describe_run(entry.path().string()).network;
    EXPECT_EQ(network.preprocessing, data::preprocessing_for(data::dataset_traits("imagefolder"), 32));
    EXPECT_EQ(network.class_names, (Words{"bird", "c\xE1t", "dog"}));
    EXPECT_EQ(network.data, "imagefolder");
    EXPECT_EQ(network.origin, "as the checkpoint says");
  }
  EXPECT_EQ(files, 3u);  // the last, the best and the step's
  const json config = tools::parse_json_or_null(read_file(run() + "/config.json"));
  EXPECT_EQ(config["run"]["preprocessing"]["resize"], 37);
}

TEST_F(NetworkOfAFolder, LabelsGoByTheNetworksNames) {
  train();
  const json before = report(last());
  // Without train, and without a class: places among its own folders would be others.
  fs::remove_all(data_ + "/train");
  fs::remove_all(data_ + "/val/bird");
  json now = report(last());
  EXPECT_EQ(now["per_class"][0]["support"], 0);
  EXPECT_EQ(now["per_class"][2]["class"], "dog");
  for (size_t c : {1, 2}) EXPECT_EQ(now["confusion"][c], before["confusion"][c]);
  // So do converted weights.
  const std::string plain = folder_.file("plain.safetensors");
  const ToolResult converted = run_tool("convert", {last(), plain, "--model", "shufflenet_v2_x0_5"});
  ASSERT_EQ(converted.code, 0) << converted.err;
  EXPECT_THAT(converted.out, HasSubstr("images     shorter side 37, crop 32, bilinear"));
  EXPECT_EQ(report(plain)["confusion"], now["confusion"]);
  EXPECT_EQ(report(plain)["preprocessing"], now["preprocessing"]);
  // A class that the network does not know has no label.
  data::write_image(fs::path(data_) / "val/zebra/0.png", 30, 40, 1);
  expect_refusal(evaluate(last(), {"--split", "val"}), 3,
                 {"/val: has a class that the network has not: 'zebra'"});
  fs::rename(data_ + "/val/c\xE1t", data_ + "/val/cat");
  fs::remove_all(data_ + "/val/zebra");
  expect_refusal(evaluate(last(), {"--split", "val"}), 3, {"'cat'"});
  write_file(folder_.file("names"), "bird\ncat\ndog\n");
  EXPECT_EQ(report(last(), {"--labels", folder_.file("names")})["confusion"], now["confusion"]);
  expect_refusal(evaluate(last(), {"--data", "synthetic"}), 3, {"tells 3 classes apart"});
}

TEST_F(NetworkOfAFolder, PredictNamesClassesWithoutBeingTold) {
  train();
  const std::string image = data_ + "/val/dog/0.png";
  const ToolResult result = run_tool("predict", {"--device", "cpu", "--weights", last(), image});
  ASSERT_EQ(result.code, 0) << result.err;
  EXPECT_THAT(result.out, HasSubstr("  dog\n"));
  EXPECT_THAT(result.err,
              HasSubstr("predict: images: shorter side 37, crop 32, bilinear, mean 0.485,0.456,0.406, "
                        "std 0.229,0.224,0.225 (as the checkpoint says)\n"));
  expect_refusal(run_tool("predict", {"--device", "cpu", "--weights", last(), image, "--data", "cifar10"}), 2,
                 {"--data", "says itself"});
  expect_refusal(run_tool("predict", {"--device", "cpu", "--weights", last(), image, "--image-size", "0"}), 2,
                 {"--image-size 0"});
  expect_refusal(
      run_tool("predict", {"--device", "cpu", "--weights", last(), image, "--squash", "--resize", "40"}), 2,
      {"--squash", "--resize"});
  expect_refusal(run_tool("predict", {"--device", "cpu", "--weights", last(), image, "--image-size", "9",
                                      "--crop", "8"}),
                 2, {"--image-size", "--crop"});
}

// Checkpoints that say nothing of images, as those of older versions.
TEST_F(NetworkOfAFolder, OlderCheckpointsAreUnderstood) {
  for (const char* size : {"32", "0"}) {  // 0: as they are, 30x40
    image_size_ = size;
    train({"--overwrite"});
    const json now = report(last());
    const auto model = make_model("shufflenet_v2_x0_5", {.num_classes = 3});
    tools::load_weights(last(), *model);
    std::string state = CheckpointFile(last()).state();
    const std::string younger = "\"squash\":false,";
    const size_t at = state.find(younger);
    ASSERT_NE(at, std::string::npos);
    save_checkpoint(last(), state.erase(at, younger.size()), {{"", model->state()}});
    const ToolResult result = evaluate(last());
    ASSERT_EQ(result.code, 0) << result.err;
    EXPECT_THAT(result.out, HasSubstr("(derived from the settings of an older version's checkpoint)"));
    const json older = tools::parse_json_or_null(read_file(folder_.file("r")));
    EXPECT_EQ(older["preprocessing"], now["preprocessing"]);
    EXPECT_EQ(older["confusion"], now["confusion"]);
    EXPECT_EQ(older["loss"], now["loss"]);
  }
}

}  // namespace
}  // namespace plume::test::network_description_test
