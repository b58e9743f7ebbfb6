// predict as a user runs it: what it says about images and tensors, and what it refuses.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <limits>

#include "data/dataset.h"
#include "data/images/png.h"
#include "data/images/resize.h"
#include "data/sets/imagenet_labels.h"
#include "engine/autograd/tape.h"
#include "engine/serialization/state_dict.h"
#include "models/registry.h"
#include "tests/support/preprocessed.h"
#include "tests/support/test_support.h"
#include "tests/support/tool_runner.h"
#include "tools/cli/json.h"
#include "tools/cli/tensors.h"

namespace plume::test::predict_test {
namespace {

namespace fs = std::filesystem;
using json = tools::Json;
using testing::HasSubstr;
using Words = std::vector<std::string>;

constexpr int kClasses = 7, kSide = 32;

data::Image drawn(int height, int width, int salt) {
  data::Image image{height, width, {}};
  for (int y = 0; y < height; ++y)
    for (int x = 0; x < width; ++x)
      for (int c = 0; c < 3; ++c)
        image.pixels.push_back(uint8_t(128 + 100 * std::sin(0.1 * salt * x + 0.07 * y * (c + 1))));
  return image;
}

// A network with random weights in evaluation mode: small logits, and small images will do.
class PredictTest : public testing::Test {
 protected:
  void SetUp() override {
    save(weights_, *model_, {{"format", "pt"}, {"resize", "36"}, {"crop", "32"}});
    for (int i = 0; i < 3; ++i) {
      images_.push_back(drawn(40 + 7 * i, 60 - 13 * i, i + 1));
      paths_.push_back(write_png("photo" + std::to_string(i) + ".png", images_.back()));
    }
  }
  static void save(const std::string& path, Module& model,
                   const std::map<std::string, std::string>& metadata) {
    save_state(path, model, metadata);
  }
  std::string write_png(const std::string& name, const data::Image& image) {
    write_file(folder_.file(name), data::encode_png(image));
    return folder_.file(name);
  }
  ToolResult predict(const Words& more) {
    Words words = {"--device", "cpu", "--threads", "1", "--model", "resnet18", "--weights", weights_};
    words.insert(words.end(), more.begin(), more.end());
    return run_tool("predict", words);
  }
  json report(const Words& more) {
    Words words = more;
    words.push_back("--json");
    const ToolResult result = predict(words);
    EXPECT_EQ(result.code, 0) << result.err;
    return tools::parse_json_or_null(result.out);
  }
  // The tensor a network sees, [1, 3, side, side].
  static Tensor prepared(const data::Image& image, int64_t resize, int64_t crop,
                         const data::ChannelStatistics& s) {
    const data::Image small = resize_and_crop(image, resize, crop);
    Tensor x = Tensor::empty({1, 3, crop, crop}, DType::f32, Device::cpu);
    for (int64_t i = 0; i < crop * crop; ++i)
      for (int64_t c = 0; c < 3; ++c)
        x.data<float>()[c * crop * crop + i] =
            (float(small.pixels[size_t(i * 3 + c)]) / 255 - s.mean[size_t(c)]) / s.std[size_t(c)];
    return x;
  }
  // By the library itself, not fused.
  std::vector<float> expected(const Tensor& nchw) {
    const NoGrad no_grad;
    model_->eval();
    return (*model_)(Variable(channels_last(nchw))).value().to_vector<float>();
  }
  static void expect_near(const std::vector<float>& found, const std::vector<float>& wanted) {
    ASSERT_EQ(found.size(), wanted.size());
    float most = 0;
    for (const float w : wanted) most = std::max(most, std::fabs(w));
    for (size_t i = 0; i < found.size(); ++i) EXPECT_NEAR(found[i], wanted[i], 1e-4f * most) << i;
  }
  std::vector<float> written_logits() { return tools::read_tensors(logits_).at("logits").to_vector<float>(); }

  TemporaryFolder folder_;
  std::unique_ptr<Module> model_ = make_model("resnet18", {.num_classes = kClasses, .seed = 3});
  std::string weights_ = folder_.file("weights.safetensors"), logits_ = folder_.file("logits.safetensors");
  std::vector<data::Image> images_;
  std::vector<std::string> paths_;
};

TEST_F(PredictTest, SaysWhatTheLibraryComputes) {
  Words words = paths_;
  words.insert(words.end(), {"--top", "7", "--logits", logits_, "--batch", "2"});
  const json r = report(words);
  const std::vector<float> logits = written_logits();
  ASSERT_EQ(logits.size(), 3u * kClasses);
  ASSERT_EQ(r["images"].size(), 3u);
  EXPECT_EQ(r["classes"], kClasses);
  EXPECT_EQ(r["skipped"].size(), 0u);
  for (size_t i = 0; i < 3; ++i) {
    const std::vector<float> row(logits.begin() + std::ptrdiff_t(i * kClasses),
                                 logits.begin() + std::ptrdiff_t((i + 1) * kClasses));
    expect_near(row, expected(prepared(images_[i], 36, 32, data::kImageNetStatistics)));
    const json& image = r["images"][i];
    EXPECT_EQ(image["image"], paths_[i]);
    ASSERT_EQ(image["top"].size(), size_t(kClasses));
    double sum = 0, before = std::numeric_limits<double>::infinity();
    for (const json& guess : image["top"]) {
      const size_t c = guess["class"];
      EXPECT_EQ(guess["label"], "class " + std::to_string(c));
      EXPECT_EQ(guess["logit"].get<float>(), row.at(c));
      EXPECT_LE(guess["logit"].get<double>(), before);
      before = guess["logit"];
      sum += guess["probability"].get<double>();
    }
    EXPECT_NEAR(sum, 1, 1e-9);
  }
}

TEST_F(PredictTest, TensorsGoInAsTheyAre) {
  const Tensor one = prepared(images_[0], 40, 33, data::kImageNetStatistics),
               two = prepared(images_[1], 40, 33, data::kImageNetStatistics);
  std::vector<float> both = one.to_vector<float>();
  const std::vector<float> second = two.to_vector<float>();
  both.insert(both.end(), second.begin(), second.end());
  const Tensor input = Tensor::from(both, {2, 3, 33, 33});
  const std::string in = folder_.file("in.safetensors");
  tools::write_tensors(in, {{"input", input}});
  for (const char* batch : {"1", "2", "16"}) {
    const ToolResult result = predict({"--tensor", in, "--logits", logits_, "--batch", batch});
    ASSERT_EQ(result.code, 0) << result.err;
    EXPECT_THAT(result.out, HasSubstr("logits [2, 7]"));
    expect_near(written_logits(), expected(input));
  }
}

TEST_F(PredictTest, TheWeightsSayWhatTheyExpect) {
  const std::string other = folder_.file("other.safetensors");
  save(other, *model_,
       {{"mean", "0.5,0.25,0.125"},
        {"std", "0.5,1,2"},
        {"resize", "48"},
        {"crop", "40"},
        {"rotate180", "1"},
        {"labels", "a\nb\nc\nd\ne\nf\ng\n"}});
  const ToolResult result = run_tool("predict", {"--device", "cpu", "--model", "resnet18", "--weights", other,
                                                 "--logits", logits_, "--json", "--top", "1", paths_[0]});
  ASSERT_EQ(result.code, 0) << result.err;
  Tensor x = prepared(images_[0], 48, 40, {{0.5f, 0.25f, 0.125f}, {0.5f, 1, 2}});
  for (int c = 0; c < 3; ++c) std::reverse(x.data<float>() + c * 1600, x.data<float>() + (c + 1) * 1600);
  const std::vector<float> wanted = expected(x);
  expect_near(written_logits(), wanted);
  const auto best = size_t(std::max_element(wanted.begin(), wanted.end()) - wanted.begin());
  EXPECT_EQ(tools::parse_json_or_null(result.out)["images"][0]["top"][0]["label"],
            std::string(1, char('a' + best)));
  // Flags have the last word.
  ASSERT_EQ(predict({"--weights=" + other, paths_[0]}).code, 2);  // given twice
  ASSERT_EQ(predict({paths_[0], "--logits", logits_, "--mean", "0,0,0", "--std", "1,1,1", "--resize", "50",
                     "--crop", "30"})
                .code,
            0);
  expect_near(written_logits(), expected(prepared(images_[0], 50, 30, {})));
}

TEST_F(PredictTest, NamesFromAFile) {
  const std::string labels = folder_.file("labels.txt");
  write_file(labels, "zero\r\none\r\ntwo\nthree\nfour\nfive\nsix");
  const ToolResult result = predict({paths_[0], paths_[1], "--labels", labels, "--top", "7"});
  ASSERT_EQ(result.code, 0) << result.err;
  EXPECT_THAT(result.out, testing::StartsWith(paths_[0] + "\n"));
  EXPECT_THAT(result.out, HasSubstr("\n" + paths_[1] + "\n"));
  for (const char* line : {"%     0  zero\n", "%     1  one\n", "%     6  six\n"})
    EXPECT_THAT(result.out, HasSubstr(line));
  for (const char* bad : {"a\nb\n", "", "a\n\nc\nd\ne\nf\ng\n", "a\nb\nc\nd\xFF\ne\nf\ng\n",
                          "a\nb\nc\nd\ne\nf\ng\nh\n", "a\x1b[2J\nb\nc\nd\ne\nf\ng\n"}) {
    write_file(labels, bad);
    expect_refusal(predict({paths_[0], "--labels", labels}), 3, {labels});
  }
  expect_refusal(predict({paths_[0], "--labels", folder_.path().string()}), 3, {"folder"});
}

TEST_F(PredictTest, AThousandClassesAreImageNets) {
  EXPECT_EQ(data::imagenet_labels()[0], "tench");
  EXPECT_EQ(data::imagenet_labels()[404], "airliner");
  EXPECT_EQ(data::imagenet_labels()[999], "toilet tissue");
  save(weights_, *make_model("resnet18", {.seed = 1}), {{"resize", "36"}, {"crop", "32"}});
  const json r = report({paths_[0], "--top", "3"});
  for (const json& guess : r["images"][0]["top"])
    EXPECT_EQ(guess["label"], std::string(data::imagenet_labels()[guess["class"].get<size_t>()]));
}

TEST_F(PredictTest, BadImages) {
  const std::string bad = folder_.file("bad.png"), whole = read_file(paths_[0]);
  const auto refuse = [&](const std::string& path, const Words& words) {
    Words say = words;
    say.push_back(path);
    expect_refusal(predict({paths_[0], path, "--json"}), 3, say);
  };
  refuse(folder_.file("missing.png"), {"No such file"});
  refuse(folder_.path().string(), {"folder"});
  for (const std::string& bytes : {std::string(), whole.substr(0, whole.size() / 2), std::string("GIF89a"),
                                   std::string("\xFF\xD8\xFF")}) {
    write_file(bad, bytes);
    refuse(bad, {});
  }
  const ToolResult skipped =
      predict({bad, paths_[0], folder_.file("missing.png"), "--skip-bad", "2", "--json"});
  ASSERT_EQ(skipped.code, 0) << skipped.err;
  const json r = tools::parse_json_or_null(skipped.out);
  ASSERT_EQ(r["images"].size(), 1u);
  EXPECT_EQ(r["images"][0]["image"], paths_[0]);
  ASSERT_EQ(r["skipped"].size(), 2u);
  EXPECT_EQ(r["skipped"][0]["image"], bad);
  EXPECT_EQ(predict({bad, paths_[0], folder_.file("missing.png"), "--skip-bad", "1"}).code, 3);
}

TEST_F(PredictTest, CommandLines) {
  expect_refusal(predict({}), 2, {"--tensor"});
  expect_refusal(predict({paths_[0], "--tensor", "x", "--logits", logits_}), 2, {"--tensor"});
  expect_refusal(predict({"--tensor", "x"}), 2, {"--logits"});
  expect_refusal(predict({"--tensor", "x", "--logits", logits_, "--json"}), 2, {"--json"});
  expect_refusal(predict({"--tensor", "x", "--logits", logits_, "--resize", "9"}), 2, {"--resize"});
  expect_refusal(predict({paths_[0], "--top", "0"}), 2, {"--top"});
  expect_refusal(predict({paths_[0], "--topp", "1"}), 2, {"--topp", "--top"});
  expect_refusal(predict({paths_[0], "--mean", "0.5,0.5"}), 2, {"--mean", "0.5,0.5"});
  expect_refusal(predict({paths_[0], "--mean", "0.5,nan,1"}), 2, {"--mean", "nan"});
  expect_refusal(predict({paths_[0], "--std", "1,1,0"}), 2, {"--std"});
  expect_refusal(predict({paths_[0], "--crop", "100000"}), 2, {"--crop"});
  expect_refusal(predict({paths_[0], "--interpolation", "nearest"}), 2, {"nearest", "bilinear"});
  expect_refusal(run_tool("predict", {paths_[0], "--model", "resnet", "--weights", weights_}), 2,
                 {"resnet18"});
  expect_refusal(run_tool("predict", {paths_[0], "--device", "cpu", "--weights", weights_}), 2, {"--model"});
  expect_refusal(run_tool("predict", {paths_[0], "--model", "resnet18"}), 2, {"--weights"});
  for (const std::string& input : {weights_, paths_[0]}) {
    const std::string before = read_file(input);
    expect_refusal(predict({paths_[0], "--logits", input}), 2, {input});
    EXPECT_EQ(read_file(input), before);
  }
  expect_refusal(predict({paths_[0], "--logits", folder_.path().string()}), 2, {"folder"});
  expect_refusal(predict({paths_[0], "--logits", folder_.file("no/where")}), 4, {"no/where"});
}

TEST_F(PredictTest, ExplainsItsGuess) {
  const std::string target = folder_.file("why.png");
  const json one = report({paths_[0], "--explain", target, "--logits", logits_});
  expect_near(written_logits(), expected(prepared(images_[0], 36, 32, data::kImageNetStatistics)));
  EXPECT_EQ(one["images"][0]["explained"]["overlay"], target);
  EXPECT_EQ(one["images"][0]["explained"]["class"], one["images"][0]["top"][0]["class"]);
  // 32 pixels, enlarged; where the network sees nothing for the class, the image is as it was.
  const data::Image overlay = data::load_image(target);
  ASSERT_EQ(overlay.height, 128);
  ASSERT_EQ(overlay.width, 128);
  const data::Image seen = resize_and_crop(images_[0], 36, 32);
  // The map has one value, since 32 pixels end in 1x1: all of it is the hottest colour over the image.
  for (const int at : {0, 5, 31}) {
    const uint8_t* pixel = seen.pixels.data() + at * 3;
    const double hottest[] = {165, 22, 4};
    for (int c = 0; c < 3; ++c)
      EXPECT_NEAR(overlay.pixels[size_t((at * 4 + 1) * 3 + c)], 0.35 * pixel[c] + 0.65 * hottest[c], 1) << at;
  }
  Words all = paths_;
  all.insert(all.end(),
             {"--explain", folder_.file("why"), "--explain-class", "2", "--explain-layer", "layer3.0"});
  const json many = report(all);
  for (size_t i = 0; i < paths_.size(); ++i) {
    EXPECT_EQ(many["images"][i]["explained"]["class"], 2);
    EXPECT_TRUE(fs::exists(folder_.file("why/photo" + std::to_string(i) + ".png")));
  }
  expect_refusal(predict({paths_[0], paths_[1], "--explain", target}), 2, {"why.png", "folder"});
  expect_refusal(predict({paths_[0], "--explain", target, "--explain-class", "7"}), 2, {"7"});
  expect_refusal(predict({paths_[0], "--explain", target, "--explain-layer", "layer9"}), 2, {"layer9"});
  expect_refusal(predict({paths_[0], "--explain-class", "1"}), 2, {"--explain"});
  const std::string before = read_file(paths_[0]);
  expect_refusal(predict({paths_[0], "--explain", paths_[0]}), 2, {paths_[0]});
  EXPECT_EQ(read_file(paths_[0]), before);
  fs::create_directory(folder_.file("sub"));
  fs::copy(paths_[0], folder_.file("sub"));
  expect_refusal(predict({paths_[0], folder_.file("sub/photo0.png"), "--explain", folder_.file("why")}), 2,
                 {"share"});
  expect_refusal(predict({paths_[0], "--explain", paths_[1] + "/x"}), 4, {"--explain"});
}

TEST_F(PredictTest, BadWeights) {
  const auto refuse = [&](const Words& words) { expect_refusal(predict({paths_[0]}), 3, words); };
  for (const auto& [key, value] :
       std::vector<std::pair<std::string, std::string>>{{"resize", "0"},
                                                        {"resize", "10x"},
                                                        {"crop", "-1"},
                                                        {"mean", "1,2"},
                                                        {"std", "0,1,1"},
                                                        {"interpolation", "lanczos"},
                                                        {"rotate180", "yes"},
                                                        {"labels", "only one"}}) {
    save(weights_, *model_, {{key, value}});
    refuse(key == "labels" ? Words{weights_, "1", "7"} : Words{weights_, "'" + key + "'"});
  }
  const std::string whole = read_file(weights_);
  write_file(weights_, whole.substr(0, whole.size() - 1));
  refuse({weights_, "MetadataIncompleteBuffer"});
  write_file(weights_, "version https://git-lfs.github.com/spec/v1\n");
  refuse({weights_, "HeaderTooLarge"});
  write_file(weights_, "");
  refuse({weights_});
  fs::remove(weights_);
  refuse({weights_, "No such file"});
  fs::create_directory(weights_);
  refuse({weights_});
  fs::remove(weights_);
  save(weights_, *make_model("resnet18", {.num_classes = kClasses, .stem = Stem::cifar}), {});
  refuse({weights_, "ShapeMismatch", "conv1.weight"});
}

TEST_F(PredictTest, BadTensors) {
  const std::string in = folder_.file("in.safetensors");
  const auto refuse = [&](const std::string& name, const Tensor& tensor, int code, const Words& words) {
    tools::write_tensors(in, {{name, tensor}});
    expect_refusal(predict({"--tensor", in, "--logits", logits_}), code, words);
    EXPECT_FALSE(fs::exists(logits_));
  };
  const auto zeros = [](const Shape& shape, DType dtype = DType::f32) {
    return Tensor::zeros(shape, dtype, Device::cpu);
  };
  refuse("images", zeros({1, 3, kSide, kSide}), 3, {in, "MissingTensor", "input"});
  refuse("input", zeros({1, kSide, kSide, 3}), 3, {in, "[1, 32, 32, 3]"});
  refuse("input", zeros({3, kSide, kSide}), 3, {in, "[3, 32, 32]"});
  refuse("input", zeros({0, 3, kSide, kSide}), 3, {in, "[0, 3, 32, 32]"});
  refuse("input", zeros({1, 3, kSide, kSide}, DType::i64), 3, {in, "i64"});
  Tensor bad = zeros({2, 3, kSide, kSide});
  bad.data<float>()[3 * kSide * kSide + 5] = std::numeric_limits<float>::quiet_NaN();
  refuse("input", bad, 5, {in, "image 1", "nan"});
  expect_refusal(predict({"--tensor", folder_.file("none"), "--logits", logits_}), 3, {"none"});
}

TEST_F(PredictTest, LogitsThatAreNoNumbers) {
  model_->parameters().back().variable.value().data<float>()[2] = std::numeric_limits<float>::infinity();
  save(weights_, *model_, {{"resize", "36"}, {"crop", "32"}});
  expect_refusal(predict({paths_[0], "--logits", logits_}), 5, {paths_[0], "logit 2", "inf"});
  EXPECT_FALSE(fs::exists(logits_));
}

// A training run's checkpoint knows its network, its images and its classes.
TEST_F(PredictTest, Checkpoints) {
  const std::string run = folder_.file("run");
  const ToolResult trained =
      run_tool("train", {"--device", "cpu", "--threads", "1", "--stem", "cifar", "--limit-train", "16",
                         "--limit-test", "8", "--batch", "8", "--epochs", "1", "--out", run});
  ASSERT_EQ(trained.code, 0) << trained.err;
  const ToolResult result =
      run_tool("predict", {"--device", "cpu", "--weights", run + "/last.safetensors", "--json", paths_[0]});
  ASSERT_EQ(result.code, 0) << result.err;
  const json r = tools::parse_json_or_null(result.out);
  EXPECT_EQ(r["model"], "resnet18");
  EXPECT_EQ(r["preprocessing"]["crop"], 32);
  EXPECT_EQ(r["classes"], 10);
  EXPECT_EQ(r["images"][0]["top"].size(), 5u);
  EXPECT_THAT(r["images"][0]["top"][0]["label"].get<std::string>(), testing::Not(HasSubstr("class")));
  std::string damaged = read_file(run + "/last.safetensors");
  damaged[damaged.size() / 2] = char(damaged[damaged.size() / 2] ^ 1);
  write_file(run + "/last.safetensors", damaged);
  expect_refusal(run_tool("predict", {"--device", "cpu", "--weights", run + "/last.safetensors", paths_[0]}),
                 3, {"last.safetensors"});
}

}  // namespace
}  // namespace plume::test::predict_test
