// The same images give the same logits, to the last bit, in training's own evaluation, in evaluate and in
// predict, whatever they come from and however they are prepared.
#include <gmock/gmock.h>

#include <algorithm>

#include "data/images/png.h"
#include "data/sets/cifar.h"
#include "data/sets/image_source.h"
#include "engine/serialization/state_dict.h"
#include "models/registry.h"
#include "tests/data/images/image_files.h"
#include "tests/tools/training_run.h"
#include "tools/training/checkpoint.h"
#include "tools/training/evaluation.h"
#include "tools/training/run_data.h"

namespace plume::test::same_images_test {
namespace {

using testing::HasSubstr;

constexpr const char* kNetwork = "shufflenet_v2_x0_5";
constexpr int64_t kTogether = 4;  // images at once, in all programs

class SameImages : public testing::Test {
 protected:
  Words places() const { return {"--data-dir", data_, "--cache-dir", folder_.file("cache")}; }
  std::string checkpoint() const { return folder_.file("run/last.safetensors"); }
  static Words common() {
    return {"--device", "cpu", "--threads", "1", "--batch", std::to_string(kTogether)};
  }

  void train(const std::string& data, const Words& more = {}) {
    const Words words =
        joined(common(), {"--model", kNetwork, "--data", data, "--epochs", "1", "--limit-train", "8",
                          "--limit-test", "6", "--out", folder_.file("run")});
    const ToolResult result = run_tool("train", joined(joined(words, places()), more));
    ASSERT_EQ(result.code, 0) << result.err;
    EXPECT_THAT(read_file(folder_.file("run/console.log")), HasSubstr("images: "));
  }

  // What a run's own evaluation comes to, by the functions that `train` calls.
  static std::vector<float> logits_in_training(const std::string& checkpoint) {
    const tools::RunDescription run = tools::describe_run(checkpoint);
    tools::RunData data =
        tools::open_run_data(run.recipe, run.options, Device::cpu, run.network.preprocessing);
    EXPECT_EQ(data.how, run.network.preprocessing);
    const auto model = make_model(run.recipe.model, {.num_classes = int(run.state.classes)});
    tools::load_weights(checkpoint, *model);
    return logits_of(*model, data.test);
  }
  static std::vector<float> logits_of(Module& model, data::Loader& loader) {
    std::vector<float> all;
    tools::evaluate(model, loader, Device::cpu, DType::f32,
                    [&](const std::vector<float>& more) { all.insert(all.end(), more.begin(), more.end()); });
    return all;
  }

  std::vector<float> evaluate(const Words& more) {
    const ToolResult result =
        run_tool("evaluate", joined(joined(joined(common(), places()), more),
                                    {"--limit", limit_, "--latency-seconds", "0", "--json",
                                     folder_.file("report.json"), "--logits", folder_.file("evaluated")}));
    EXPECT_EQ(result.code, 0) << result.err;
    report_ = tools::parse_json_or_null(read_file(folder_.file("report.json")));
    return read_logits("evaluated");
  }

  std::vector<float> predict(const Words& more) {
    const ToolResult result = run_tool("predict", joined(joined(joined(common(), more), images_),
                                                         {"--json", "--logits", folder_.file("predicted")}));
    EXPECT_EQ(result.code, 0) << result.err;
    EXPECT_THAT(result.err, HasSubstr("predict: images: "));
    predictions_ = tools::parse_json_or_null(result.out);
    return read_logits("predicted");
  }

  std::vector<float> read_logits(const char* file) const {
    return tools::read_tensors(folder_.file(file)).at("logits").to_vector<float>();
  }

  // The first of a set, as files.
  void write_images(const data::Dataset& set) {
    for (int64_t i = 0; i < std::min<int64_t>(6, set.size()); ++i) {
      const data::Sample sample = set.get(i);
      images_.push_back(folder_.file(message("image-{}.png", i)));
      labels_.push_back(sample.label);
      write_file(
          images_.back(),
          data::encode_png({sample.height, sample.width, {sample.pixels.begin(), sample.pixels.end()}}));
    }
  }

  // After evaluate() and predict() of the same images.
  void expect_same_report() {
    EXPECT_EQ(report_["preprocessing"], predictions_["preprocessing"]);
    json confusion = json::array();
    const size_t classes = report_["confusion"].size();
    for (size_t c = 0; c < classes; ++c) confusion.push_back(std::vector<int>(classes));
    for (size_t i = 0; i < images_.size(); ++i) {
      const json& guess = predictions_["images"][i]["top"][0];
      json& count = confusion[size_t(labels_[i])][guess["class"].get<size_t>()];
      count = count.get<int>() + 1;
      EXPECT_EQ(guess["label"], report_["per_class"][guess["class"].get<size_t>()]["class"]);
    }
    EXPECT_EQ(report_["confusion"], confusion);
  }

  void expect_same_everywhere(const Words& more = {}) {
    const std::vector<float> trained = logits_in_training(checkpoint());
    EXPECT_EQ(trained.size() % images_.size(), 0u);
    EXPECT_EQ(evaluate(joined({"--checkpoint", checkpoint()}, more)), trained);
    EXPECT_EQ(predict(joined({"--weights", checkpoint()}, more)), trained);
    expect_same_report();
  }

  // data/train, val with two classes of images of any size, and the list of those in val.
  void make_folder() {
    data_ = folder_.file("data");
    const std::pair<int, int> sizes[] = {{40, 90}, {75, 50}, {33, 33}, {20, 61}};
    for (const char* split : {"train", "val"})
      for (int i = 0; i < 8; ++i) {
        const auto [height, width] = sizes[i % 4];
        data::write_image(fs::path(data_) / split / (i % 2 ? "b" : "a") / message("{}.png", i), height, width,
                          uint64_t(i));
      }
    const data::ImageSource source = data::list_image_folder(data_, data::Split::val);
    for (size_t i = 0; i < 6; ++i) {
      images_.push_back(source.path(source.files[i]));
      labels_.push_back(source.files[i].label);
    }
  }

  // A network without a word about its images, for two classes.
  std::string write_weights(const std::string& model, const std::map<std::string, std::string>& metadata) {
    const std::string path = folder_.file("weights.safetensors");
    save_state(path, *make_model(model, {.num_classes = 2, .seed = 4}), metadata);
    return path;
  }

  TemporaryFolder folder_;
  std::string data_ = folder_.file("data"), limit_ = "6";
  Words images_;
  std::vector<int> labels_;
  json report_, predictions_;
};

TEST_F(SameImages, OfTheEmbeddedSet) {
  write_images(*data::open_dataset("synthetic", "", data::Split::test, {.count = 6}));
  for (const char* size : {"0", "40", "24"}) {  // as they are, enlarged, and with a margin cut off
    train("synthetic", {"--image-size", size, "--overwrite"});
    expect_same_everywhere();
  }
  EXPECT_EQ(predictions_["preprocessing"]["resize"], 27);
}

TEST_F(SameImages, OfTinyImageNet) {
  std::string annotations;
  data::write_below(fs::path(data_) / "wnids.txt", "n2\nn1\n");
  data::write_below(fs::path(data_) / "words.txt", "n1\tgoldfish, Carassius auratus\nn2\tcab, taxi\n");
  for (int i = 0; i < 6; ++i) {
    const std::string wnid = i % 3 ? "n1" : "n2", name = message("{}.JPEG", i);
    data::write_image(fs::path(data_) / "train" / wnid / "images" / (wnid + "_" + name), 64, 64, uint64_t(i));
    data::write_image(fs::path(data_) / "val/images" / name, 64, 64, uint64_t(90 + i));
    annotations += name + "\t" + wnid + "\t0\t0\t9\t9\n";
    images_.push_back((fs::path(data_) / "val/images" / name).string());
    labels_.push_back(i % 3 ? 1 : 0);
  }
  data::write_below(fs::path(data_) / "val/val_annotations.txt", annotations);
  for (const char* size : {"0", "40"}) {
    train("tiny-imagenet", {"--image-size", size, "--overwrite"});
    expect_same_everywhere();
    EXPECT_THAT(predictions_["images"][0]["top"][0]["label"].get<std::string>(),
                testing::AnyOf("goldfish", "cab"));
  }
}

TEST_F(SameImages, OfAFolderOfMixedSizes) {
  make_folder();
  train("imagefolder", {"--image-size", "32"});
  expect_same_everywhere();
  EXPECT_EQ(predictions_["preprocessing"]["resize"], 37);
  // What overrules the checkpoint is the same in both programs, and is said.
  for (const Words& flags : {Words{"--image-size", "48"},
                             {"--squash"},
                             {"--resize", "40", "--crop", "36"},
                             {"--interpolation", "bicubic", "--mean", "0.5,0.4,0.3", "--std", "1,2,3"}}) {
    const std::vector<float> evaluated = evaluate(joined({"--checkpoint", checkpoint()}, flags));
    EXPECT_EQ(predict(joined({"--weights", checkpoint()}, flags)), evaluated);
    EXPECT_NE(evaluated, logits_in_training(checkpoint()));
    expect_same_report();
  }
}

TEST_F(SameImages, OfSquashedImages) {
  make_folder();
  train("imagefolder", {"--image-size", "32", "--squash"});
  expect_same_everywhere();
  EXPECT_EQ(predictions_["preprocessing"]["squash"], true);
  EXPECT_TRUE(tools::describe_run(checkpoint()).network.preprocessing.squash);
}

// Weights say it, the run that begins with them keeps to it, in training too.
TEST_F(SameImages, OfRotatedImages) {
  make_folder();
  const std::string upright = write_weights(kNetwork, {{"crop", "32"}, {"resize", "37"}});
  const Words flags = {"--model", kNetwork, "--weights", upright, "--data", "imagefolder"};
  const std::vector<float> before = evaluate(flags);
  EXPECT_EQ(predict({"--model", kNetwork, "--weights", upright}), before);
  write_weights(kNetwork,
                {{"crop", "32"}, {"resize", "37"}, {"rotate180", "1"}, {"interpolation", "bicubic"}});
  const std::vector<float> rotated = evaluate(flags);
  EXPECT_NE(rotated, before);
  EXPECT_EQ(predict({"--model", kNetwork, "--weights", upright}), rotated);
  train("imagefolder", {"--image-size", "32", "--weights", upright});
  EXPECT_TRUE(tools::describe_run(checkpoint()).network.preprocessing.rotate180);
  expect_same_everywhere();
  EXPECT_EQ(predictions_["preprocessing"]["interpolation"], "bicubic");
  // The weights may have gone when the run goes on.
  fs::remove(upright);
  const ToolResult result = run_tool("train", joined(joined(resumed_run(folder_.file("run")), places()),
                                                     {"--epochs", "2", "--allow-changes"}));
  ASSERT_EQ(result.code, 0) << result.err;
  expect_same_everywhere();
}

// CIFAR's files have one size, so that no small ones can be had for the programs: by their functions.
TEST_F(SameImages, OfCifar) {
  for (const data::CifarFormat* format : {&data::cifar10_format(), &data::cifar100_format()}) {
    data::CifarFormat small = *format;
    small.test_records = 6;
    std::string records;
    for (int i = 0; i < 6; ++i) {
      records += std::string(small.coarse_classes > 0 ? 1 : 0, '\1') + char(i);
      for (const uint8_t value : data::noise(32, 32, uint64_t(i)).pixels) records += char(value);
    }
    data::write_below(fs::path(data_) / small.test_files[0], records);
    const auto set = data::load_cifar(small, data_, data::Split::test);
    images_.clear(), labels_.clear();
    write_images(*set);
    for (const int64_t size : {0, 24}) {
      const auto model = make_model(kNetwork, {.num_classes = set->classes()});
      tools::RunDescription run;
      run.recipe.model = kNetwork;
      run.recipe.data = set->name();
      run.recipe.image_size = size;
      run.state.image_size = size > 0 ? size : 32;
      run.state.classes = set->classes();
      run.network = {.preprocessing = data::preprocessing_for(set->info(), size),
                     .class_names = set->class_names(),
                     .data = set->name()};
      const std::string path = folder_.file("cifar.safetensors");
      tools::save_weights(path, run, model->state());
      data::Loader loader = tools::evaluation_loader(set, kTogether, 1, 0, run.network.preprocessing);
      EXPECT_EQ(predict({"--weights", path}), logits_of(*model, loader));
      EXPECT_EQ(predictions_["images"][0]["top"][0]["label"],
                set->class_names()[predictions_["images"][0]["top"][0]["class"].get<size_t>()]);
      EXPECT_EQ(predictions_["preprocessing"]["mean"], json(set->statistics().mean));
      // Weights that say nothing are told by the name of the data set.
      save_state(path, *model);
      data::Loader plain =
          tools::evaluation_loader(set, kTogether, 1, 0, data::preprocessing_for(set->info(), 0));
      EXPECT_EQ(predict({"--weights", path, "--model", kNetwork, "--data", set->name()}),
                logits_of(*model, plain));
    }
  }
}

// What torchvision's weights want is known by the network's name, in all programs alike.
TEST_F(SameImages, OfPublishedWeights) {
  make_folder();
  images_.resize(1), labels_.resize(1), limit_ = "1";
  const char* model = "efficientnet_v2_s";
  const std::string weights = write_weights(model, {});
  const std::vector<float> evaluated =
      evaluate({"--model", model, "--weights", weights, "--data", "imagefolder"});
  EXPECT_EQ(predict({"--model", model, "--weights", weights}), evaluated);
  for (const json& report : {report_, predictions_}) {
    EXPECT_EQ(report["preprocessing"]["resize"], 384);
    EXPECT_EQ(report["preprocessing"]["crop"], 384);
  }
}

}  // namespace
}  // namespace plume::test::same_images_test
