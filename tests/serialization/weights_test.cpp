// One door to all formats of weights, and timm's names.
#include "engine/serialization/weights.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <map>

#include "engine/serialization/fit_weights.h"
#include "engine/serialization/timm_names.h"
#include "tests/serialization/torch_writer.h"
#include "tests/support/test_support.h"

namespace plume::weights_test {
namespace {

using testing::HasSubstr;

TEST(Weights, TellsFormatsApart) {
  const test::TemporaryFolder folder;
  const std::string path = folder.file("weights");  // the name says nothing
  const Weights zip = open_weights(test::fixture("state_zip.pth"));
  const Weights legacy = open_weights(test::fixture("state_legacy.pth"));
  EXPECT_EQ(zip.format, WeightsFormat::torch_zip);
  EXPECT_EQ(legacy.format, WeightsFormat::torch_legacy);
  ASSERT_EQ(zip.tensors.size(), 7u);

  std::vector<TensorSource> sources;
  for (const WeightTensor& t : zip.tensors) {
    const Tensor value = t.read();
    sources.push_back({t.name, value.dtype(), value.shape(), t.read});
  }
  write_safetensors(path, sources, {{"key", "value"}});
  const Weights plain = open_weights(path);
  EXPECT_EQ(plain.format, WeightsFormat::safetensors);
  EXPECT_EQ(plain.metadata.at("key"), "value");
  EXPECT_EQ(plain.size, test::read_file(path).size());
  for (const WeightTensor& t : zip.tensors)
    for (const Weights* other : {&legacy, &plain}) {
      const WeightTensor* same = find_tensor(other->tensors, t.name);
      ASSERT_NE(same, nullptr) << t.name;
      EXPECT_EQ(same->describe(), t.describe());
      const Tensor a = t.read(), b = same->read();
      EXPECT_EQ(std::memcmp(a.raw(), b.raw(), a.bytes()), 0) << t.name;
    }
  EXPECT_EQ(find_tensor(zip.tensors, "absent"), nullptr);
}

TEST(Weights, OtherFilesAreRefusedByTheRightReader) {
  const test::TemporaryFolder folder;
  const std::string path = folder.file("weights");
  const auto refuse = [&](const std::string& bytes, const std::string& kind) {
    test::write_file(path, bytes);
    try {
      open_weights(path);
      ADD_FAILURE() << "accepted, expected " << kind;
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::bad_input);
      EXPECT_THAT(error.what(), HasSubstr(kind));
    }
  };
  refuse("", "HeaderTooSmall");
  refuse("\x80\x02\x8A", "HeaderTooSmall");
  refuse("version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer");
  refuse("<!DOCTYPE html><html></html>", "web page");
  refuse("PK\3\4 and so on", "ZipNoEndRecord");
  refuse(std::string("PK\5\6\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 22), "BadArchive");
  refuse("\x80\x02\x8A\x0A\x6C\xFC\x9C\x46\xF9\x20\x6A\xA8\x50\x19.", "PickleCorrupt");
  refuse("\x80\x04\x95\x10\x11\x12\x13\x14\x15\x16", "PickleCorrupt");
  refuse("\x80\x06\x95\x10\x11\x12\x13\x14\x15\x16", "HeaderTooLarge");
  refuse(std::string(257, '\1') + "ustar" + std::string(250, '\0'), "LegacyTar");
  // 0x80 and 2 begin this one's length, 640.
  std::string header = "{}";
  header.resize(640, ' ');
  test::write_file(path, test::raw(uint64_t{640}) + header);
  EXPECT_TRUE(open_weights(path).tensors.empty());
  EXPECT_THROW(open_weights(folder.path().string()), Error);
}

WeightTensor constant(const std::string& name, const std::vector<int64_t>& shape, float value) {
  WeightTensor t{name, &format_dtype(DType::f32), {shape.begin(), shape.end()}, {}};
  t.read = [shape, value] {
    const Shape s(shape.data(), int(shape.size()));
    return Tensor::from(std::vector<float>(size_t(s.elements()), value), s);
  };
  return t;
}

// Written by hand for a block or two of each kind; the whole list is compared with PyTorch's names elsewhere.
class Timm : public testing::Test {
 protected:
  void conv(const std::string& name, int64_t in, int64_t out, int64_t kernel, bool bias = false) {
    tensors_.push_back(constant(name + ".weight", {out, in, kernel, kernel}, 1));
    if (bias) tensors_.push_back(constant(name + ".bias", {out}, 1));
  }
  void norm(const std::string& name, int64_t channels) {
    tensors_.push_back(constant(name + ".weight", {channels}, 2));
    tensors_.push_back(constant(name + ".bias", {channels}, 3));
    tensors_.push_back(constant(name + ".running_mean", {channels}, 4));
    tensors_.push_back(constant(name + ".running_var", {channels}, 1e-4f));
  }
  void gate(const std::string& name, int64_t channels, int64_t squeezed) {
    conv(name + ".se.conv_reduce", channels, squeezed, 1, true);
    conv(name + ".se.conv_expand", squeezed, channels, 1, true);
  }
  void inverted(const std::string& name, int64_t in, int64_t wide, int64_t out, int64_t kernel,
                int64_t squeezed) {
    conv(name + ".conv_pw", in, wide, 1);
    norm(name + ".bn1", wide);
    conv(name + ".conv_dw", 1, wide, kernel);
    norm(name + ".bn2", wide);
    if (squeezed > 0) gate(name, wide, squeezed);
    conv(name + ".conv_pwl", wide, out, 1);
    norm(name + ".bn3", out);
  }
  void head(int64_t features, int64_t classes) {
    tensors_.push_back(constant("classifier.weight", {classes, features}, 1));
    tensors_.push_back(constant("classifier.bias", {classes}, 1));
  }
  void mobilenet() {
    conv("conv_stem", 3, 16, 3);
    norm("bn1", 16);
    conv("blocks.0.0.conv_dw", 1, 16, 3);
    norm("blocks.0.0.bn1", 16);
    gate("blocks.0.0", 16, 8);
    conv("blocks.0.0.conv_pw", 16, 16, 1);
    norm("blocks.0.0.bn2", 16);
    inverted("blocks.1.0", 16, 72, 24, 3, 0);
    inverted("blocks.1.1", 24, 88, 24, 3, 0);
    inverted("blocks.2.0", 24, 96, 40, 5, 24);
    inverted("blocks.2.1", 40, 240, 40, 5, 64);
    inverted("blocks.2.2", 40, 240, 40, 5, 64);
    inverted("blocks.3.0", 40, 120, 48, 5, 32);
    inverted("blocks.3.1", 48, 144, 48, 5, 40);
    inverted("blocks.4.0", 48, 288, 96, 5, 72);
    inverted("blocks.4.1", 96, 576, 96, 5, 144);
    inverted("blocks.4.2", 96, 576, 96, 5, 144);
    conv("blocks.5.0.conv", 96, 576, 1);
    norm("blocks.5.0.bn1", 576);
    conv("conv_head", 576, 1024, 1, true);
    head(1024, 10);
  }
  void fused(const std::string& name, int64_t in, int64_t out) {
    conv(name + ".conv_exp", in, 4 * in, 3);
    norm(name + ".bn1", 4 * in);
    conv(name + ".conv_pwl", 4 * in, out, 1);
    norm(name + ".bn2", out);
  }
  void efficientnet() {
    conv("conv_stem", 3, 24, 3);
    norm("bn1", 24);
    for (int i = 0; i < 2; ++i) {
      conv("blocks.0." + std::to_string(i) + ".conv", 24, 24, 3);
      norm("blocks.0." + std::to_string(i) + ".bn1", 24);
    }
    for (int i = 0; i < 4; ++i) fused("blocks.1." + std::to_string(i), i == 0 ? 24 : 48, 48);
    for (int i = 0; i < 4; ++i) fused("blocks.2." + std::to_string(i), i == 0 ? 48 : 64, 64);
    const auto stage = [&](const std::string& name, int blocks, int64_t in, int64_t out, int64_t expansion) {
      for (int i = 0; i < blocks; ++i, in = out)
        inverted(name + std::to_string(i), in, in * expansion, out, 3, in / 4);
    };
    stage("blocks.3.", 6, 64, 128, 4);
    stage("blocks.4.", 9, 128, 160, 6);
    stage("blocks.5.", 15, 160, 256, 6);
    conv("conv_head", 256, 1280, 1);
    norm("bn2", 1280);
    head(1280, 7);
  }
  void refuse(const std::string& model, ErrorKind kind, const std::vector<std::string>& words) {
    try {
      from_timm("FILE", tensors_, model);
      ADD_FAILURE() << "accepted";
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), kind);
      for (const std::string& word : words) EXPECT_THAT(error.what(), HasSubstr(word));
    }
  }

  std::vector<WeightTensor> tensors_;
};

TEST_F(Timm, MobileNetV3) {
  mobilenet();
  EXPECT_TRUE(has_timm_names(tensors_));
  const TimmConversion result = from_timm("FILE", tensors_, "mobilenetv3_small_100.lamb_in1k");
  EXPECT_EQ(result.model, "mobilenet_v3_small");
  ASSERT_EQ(result.tensors.size(), tensors_.size());
  EXPECT_FALSE(has_timm_names(result.tensors));
  std::map<std::string, std::string> names;
  for (const TimmConversion::Change& c : result.changes) names[c.from] = c.to;
  EXPECT_EQ(names.at("conv_stem.weight"), "features.0.0.weight");
  EXPECT_EQ(names.at("blocks.0.0.conv_dw.weight"), "features.1.block.0.0.weight");
  EXPECT_EQ(names.at("blocks.0.0.se.conv_reduce.bias"), "features.1.block.1.fc1.bias");
  EXPECT_EQ(names.at("blocks.0.0.bn2.running_var"), "features.1.block.2.1.running_var");
  EXPECT_EQ(names.at("blocks.1.1.conv_pwl.weight"), "features.3.block.2.0.weight");
  EXPECT_EQ(names.at("blocks.4.2.se.conv_expand.weight"), "features.11.block.2.fc2.weight");
  EXPECT_EQ(names.at("blocks.4.2.bn3.bias"), "features.11.block.3.1.bias");
  EXPECT_EQ(names.at("blocks.5.0.conv.weight"), "features.12.0.weight");
  EXPECT_EQ(names.at("classifier.bias"), "classifier.3.bias");

  const WeightTensor* flat = find_tensor(result.tensors, "classifier.0.weight");
  ASSERT_NE(flat, nullptr);
  EXPECT_EQ(flat->describe(), "F32 [1024, 576]");
  EXPECT_EQ(flat->read().shape(), (Shape{1024, 576}));

  // (x - mean) / sqrt(var + eps) * gamma + beta, for both definitions.
  const auto value = [&](const char* part) {
    return double(find_tensor(result.tensors, std::string("features.3.block.1.1.") + part)
                      ->read()
                      .to_vector<float>()[5]);
  };
  const double var = double(1e-4f), x = 1.7;
  const double theirs = (x - 4) / std::sqrt(var + 1e-5) * 2 + 3;
  const double ours =
      (x - value("running_mean")) / std::sqrt(value("running_var") + 1e-3) * value("weight") + value("bias");
  EXPECT_NEAR(ours, theirs, 1e-7 * std::abs(theirs));
}

TEST_F(Timm, EfficientNetV2) {
  efficientnet();
  const TimmConversion result = from_timm("FILE", tensors_, "efficientnetv2_s");
  EXPECT_EQ(result.model, "efficientnet_v2_s");
  std::map<std::string, std::string> names;
  for (const TimmConversion::Change& c : result.changes) names[c.from] = c.to;
  EXPECT_EQ(names.size(), tensors_.size());
  EXPECT_EQ(names.at("blocks.0.1.bn1.weight"), "features.1.1.block.0.1.weight");
  EXPECT_EQ(names.at("blocks.1.3.conv_exp.weight"), "features.2.3.block.0.0.weight");
  EXPECT_EQ(names.at("blocks.2.0.bn2.bias"), "features.3.0.block.1.1.bias");
  EXPECT_EQ(names.at("blocks.5.14.se.conv_reduce.weight"), "features.6.14.block.2.fc1.weight");
  EXPECT_EQ(names.at("blocks.5.14.bn3.running_mean"), "features.6.14.block.3.1.running_mean");
  EXPECT_EQ(names.at("conv_head.weight"), "features.7.0.weight");
  EXPECT_EQ(names.at("bn2.weight"), "features.7.1.weight");
  EXPECT_EQ(names.at("classifier.weight"), "classifier.1.weight");
}

TEST_F(Timm, OtherDefinitionsAreRefused) {
  mobilenet();
  refuse("tf_mobilenetv3_small_100", ErrorKind::usage, {"pads as TensorFlow does", "mobilenetv3_small_100"});
  refuse("tf_efficientnetv2_s.in21k_ft_in1k", ErrorKind::usage, {"'tf_efficientnetv2_s'", "pads"});
  refuse("efficientnetv2_rw_s", ErrorKind::usage, {"other widths"});
  refuse("resnet50", ErrorKind::usage, {"no counterpart", "supported are resnet18"});
  refuse("efficientnetv2_s", ErrorKind::bad_input,
         {"FILE: is not timm's efficientnetv2_s", "MissingTensor (", "UnexpectedTensor (", " more"});
  tensors_[0].shape[0] = 24;
  refuse("mobilenetv3_small_100", ErrorKind::bad_input,
         {"ShapeMismatch (1): 'conv_stem.weight' is F32 [24, 3, 3, 3], expected [16, 3, 3, 3]"});
  tensors_[0].shape[0] = 16;
  tensors_.push_back(constant("norm_head.weight", {1024}, 1));
  refuse("mobilenetv3_small_100", ErrorKind::bad_input, {"UnexpectedTensor (1): 'norm_head.weight'"});
  tensors_.pop_back();
  tensors_.erase(tensors_.begin() + 4);
  refuse("mobilenetv3_small_100", ErrorKind::bad_input, {"MissingTensor (1): 'bn1.running_var'"});
}

TEST_F(Timm, UnderAPrefix) {
  mobilenet();
  for (WeightTensor& t : tensors_) t.name = "module.model." + t.name;
  Weights weights;
  weights.path = "FILE";
  weights.groups = {{"", tensors_}};
  const std::string model = "mobilenetv3_small_100";
  const FittedWeights fitted = fit_weights(weights, timm_sources(model), {.head = "classifier."});
  EXPECT_THAT(fitted.note, HasSubstr("takes 'model.' off the names"));
  EXPECT_EQ(from_timm("FILE", fitted.weights.tensors, model).tensors.size(), tensors_.size());
  EXPECT_TRUE(timm_sources("resnet18.a1_in1k").empty());
}

TEST_F(Timm, ResNet18IsTheSame) {
  conv("conv1", 3, 64, 7);
  EXPECT_FALSE(has_timm_names(tensors_));
  const TimmConversion result = from_timm("FILE", tensors_, "resnet18.a1_in1k");
  EXPECT_EQ(result.model, "resnet18");
  EXPECT_TRUE(result.changes.empty());
  EXPECT_EQ(result.tensors.at(0).name, "conv1.weight");
}

}  // namespace
}  // namespace plume::weights_test
