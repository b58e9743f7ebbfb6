// convert as a user runs it: what it writes, what it says, what it refuses.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "engine/serialization/state_dict.h"
#include "engine/serialization/weights.h"
#include "models/registry.h"
#include "tests/support/test_support.h"
#include "tests/support/tool_runner.h"

namespace plume::test::convert_test {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;
using Words = std::vector<std::string>;

std::string bytes_of(const Tensor& t) { return {static_cast<const char*>(t.raw()), t.bytes()}; }

class ConvertTest : public testing::Test {
 protected:
  ToolResult convert(const std::string& in, const Words& more = {}) {
    Words words = {in, out_};
    words.insert(words.end(), more.begin(), more.end());
    return run_tool("convert", words);
  }
  // Refused, and what was at OUT is as it was.
  void refuse(const std::string& in, const Words& more, int code, const Words& say) {
    write_file(out_, "as it was");
    expect_refusal(convert(in, more), code, say);
    EXPECT_EQ(read_file(out_), "as it was");
    EXPECT_FALSE(fs::exists(out_ + ".tmp"));
  }
  // One tensor of each name, f32.
  std::string weights_of(const std::vector<std::pair<std::string, std::vector<float>>>& tensors) {
    std::vector<TensorSource> sources;
    for (const auto& [name, values] : tensors) {
      const Shape shape{int64_t(values.size())};
      sources.push_back({name, DType::f32, shape, [=, v = values] { return Tensor::from(v, shape); }});
    }
    const std::string path = folder_.file("in.safetensors");
    write_safetensors(path, sources);
    return path;
  }
  std::string resnet18() {
    const std::string path = folder_.file("resnet18.safetensors");
    save_state(path, *make_model("resnet18", {.num_classes = 10, .seed = 5}));
    return path;
  }

  TemporaryFolder folder_;
  std::string out_ = folder_.file("out.safetensors");
};

TEST_F(ConvertTest, BothFormsOfPyTorchGiveTheSameTensors) {
  for (const char* form : {"zip", "legacy"}) {
    const std::string in = fixture(std::string("state_") + form + ".pth");
    const ToolResult result = convert(in);
    ASSERT_EQ(result.code, 0) << result.err;
    EXPECT_THAT(result.out, HasSubstr(std::string("PyTorch ") + form + ", 7 tensors"));
    const Weights before = open_weights(in);
    const SafetensorsFile after(out_);
    ASSERT_EQ(after.tensors().size(), before.tensors.size());
    for (const WeightTensor& t : before.tensors) {
      const TensorInfo* info = after.find(t.name);
      ASSERT_NE(info, nullptr) << t.name;
      EXPECT_EQ(info->describe(), t.describe());
      EXPECT_EQ(bytes_of(after.read(*info)), bytes_of(t.read())) << t.name;
    }
    EXPECT_EQ(after.metadata().at("format"), "pt");
    EXPECT_EQ(after.metadata().at("plume.source"), fs::path(in).filename());
    EXPECT_EQ(after.metadata().at("plume.source.format"), std::string("PyTorch ") + form);
    EXPECT_EQ(after.metadata().at("plume.source.bytes"), std::to_string(fs::file_size(in)));
    EXPECT_EQ(after.metadata().at("plume.source.crc64").size(), 16u);
    const std::string first = read_file(out_);
    ASSERT_EQ(convert(in).code, 0);
    EXPECT_EQ(read_file(out_), first);
  }
}

TEST_F(ConvertTest, Half) {
  ASSERT_EQ(convert(fixture("state_zip.pth"), {"--half"}).code, 0);
  const SafetensorsFile after(out_);
  for (const TensorInfo& info : after.tensors())
    EXPECT_EQ(info.type->dtype, info.name == "bn.num_batches_tracked" ? DType::i64 : DType::f16) << info.name;
  const std::vector<f16> slice = after.read(*after.find("slice")).to_vector<f16>();
  for (int i = 0; i < 5; ++i) EXPECT_EQ(float(slice[size_t(i)]), float(3 + 4 * i) / 4 - 1);
  refuse(weights_of({{"a", {1}}, {"big", {1, 70000}}}), {"--half"}, 5, {"'big'", "70000", "range of f16"});
}

TEST_F(ConvertTest, ComparesWithTheModel) {
  const std::string in = resnet18();
  const ToolResult same = convert(in, {"--model", "resnet18"});
  EXPECT_EQ(same.code, 0) << same.err;
  EXPECT_THAT(same.out, testing::Not(HasSubstr("missing")));
  EXPECT_EQ(SafetensorsFile(out_).metadata().at("plume.model"), "resnet18");

  const auto model = make_model("resnet18", {.num_classes = 10});
  std::vector<TensorSource> sources = state_sources({{"", model->state()}});
  std::erase_if(sources, [](const TensorSource& s) { return s.name.ends_with("num_batches_tracked"); });
  const std::string old = folder_.file("old.safetensors");
  write_safetensors(old, sources);
  const ToolResult completed = convert(old, {"--model", "resnet18"});
  EXPECT_EQ(completed.code, 0) << completed.err;
  EXPECT_THAT(completed.out, HasSubstr("'bn1.num_batches_tracked' I64 [] (0 is written)"));
  EXPECT_EQ(SafetensorsFile(out_).tensors().size(), 122u);

  for (TensorSource& s : sources) {
    if (s.name == "bn1.bias") s.name = "bn1.beta";
    if (s.name == "bn1.weight")
      s = {s.name, DType::f32, {3}, [] { return Tensor::zeros({3}, DType::f32, Device::cpu); }};
    if (s.name == "bn1.running_var")
      s = {s.name, DType::i64, {64}, [] { return Tensor::zeros({64}, DType::i64, Device::cpu); }};
  }
  write_safetensors(old, sources);
  refuse(old, {"--model", "resnet18"}, 3, {old, "does not fit resnet18", "4 tensors"});
  const ToolResult faults = convert(old, {"--model", "resnet18"});
  for (const char* line : {"missing    'bn1.bias' F32 [64]\n", "unexpected 'bn1.beta' F32 [64]\n",
                           "mismatch   'bn1.weight' F32 [64], the file has F32 [3]\n",
                           "mismatch   'bn1.running_var' F32 [64], the file has I64 [64]\n"})
    EXPECT_THAT(faults.out, HasSubstr(line));
}

TEST_F(ConvertTest, NewHead) {
  const std::string in = resnet18();
  const Words flags = {"--model", "resnet18", "--classes", "7", "--seed", "3"};
  const ToolResult result = convert(in, flags);
  ASSERT_EQ(result.code, 0) << result.err;
  EXPECT_THAT(result.out, HasSubstr("dropped    'fc.weight' F32 [10, 512]"));
  EXPECT_THAT(result.out, HasSubstr("new        'fc.bias' F32 [7] (initialised with seed 3)"));
  const SafetensorsFile before(in), after(out_);
  EXPECT_EQ(after.metadata().at("plume.head"), "new: 7 classes, seed 3");
  const auto fresh = make_model("resnet18", {.num_classes = 7, .seed = 3});
  EXPECT_EQ(bytes_of(after.read(*after.find("fc.weight"))),
            bytes_of(fresh->parameters()[fresh->parameters().size() - 2].variable.value()));
  for (const TensorInfo& info : before.tensors()) {
    if (info.name.starts_with("fc.")) continue;
    EXPECT_EQ(bytes_of(after.read(*after.find(info.name))), bytes_of(before.read(info))) << info.name;
  }
  load_state(after, *fresh);  // fits
}

// How images are prepared stays as it was; what the last layer had learnt does not.
TEST_F(ConvertTest, ANewHeadKnowsNoDataSet) {
  const std::string in = folder_.file("named.safetensors");
  std::string labels;
  for (int c = 0; c < 10; ++c) labels += message("class {}\n", c);
  save_state(in, *make_model("resnet18", {.num_classes = 10}),
             {{"format", "pt"}, {"resize", "36"}, {"crop", "32"}, {"data", "cifar10"}, {"labels", labels}});
  ASSERT_EQ(convert(in, {"--model", "resnet18"}).code, 0);
  EXPECT_EQ(SafetensorsFile(out_).metadata().at("data"), "cifar10");
  std::filesystem::remove(out_);
  ASSERT_EQ(convert(in, {"--model", "resnet18", "--classes", "7"}).code, 0);
  const SafetensorsFile file(out_);
  EXPECT_EQ(file.metadata().at("crop"), "32");
  EXPECT_FALSE(file.metadata().contains("labels"));
  EXPECT_FALSE(file.metadata().contains("data"));
}

TEST_F(ConvertTest, TimmNeedsAName) {
  const std::string in = weights_of({{"conv_stem.weight", {1}}});
  refuse(in, {}, 3, {"timm's names", "--timm mobilenetv3_small_100"});
  refuse(in, {"--timm", "mobilenetv3_small_100"}, 3, {in, "ShapeMismatch", "MissingTensor"});
  refuse(in, {"--timm", "tf_efficientnetv2_s"}, 2, {"pads as TensorFlow does"});
  refuse(resnet18(), {"--timm", "resnet50"}, 2, {"no counterpart"});
  EXPECT_EQ(convert(resnet18(), {"--timm", "resnet18.a1_in1k", "--model", "resnet18"}).code, 0);
}

TEST_F(ConvertTest, NeverWritesOnAFault) {
  const std::string in = folder_.file("in.pth"), good = read_file(fixture("state_zip.pth"));
  refuse(in, {}, 3, {in, "cannot be opened"});
  refuse(folder_.path().string(), {}, 3, {"is a folder"});
  write_file(in, good.substr(0, good.size() / 2));
  refuse(in, {}, 3, {in, "ZipNoEndRecord"});
  write_file(in, "version https://git-lfs.github.com/spec/v1\n");
  refuse(in, {}, 3, {in, "Git LFS pointer"});

  write_file(in, good);
  fs::create_symlink(in, folder_.file("link"));
  for (const std::string& same : {in, folder_.file("link"), folder_.path().string() + "/./in.pth"})
    expect_refusal(run_tool("convert", {in, same}), 2, {"OUT is the input file"});
  EXPECT_EQ(read_file(in), good);
  expect_refusal(run_tool("convert", {in, folder_.path().string()}), 2, {"OUT is a folder"});
  expect_refusal(run_tool("convert", {in, folder_.file("no/such/folder")}), 4, {"no/such/folder"});
}

TEST_F(ConvertTest, Usage) {
  const std::string in = fixture("state_zip.pth");
  expect_refusal(run_tool("convert", {}), 2, {"IN and OUT"});
  expect_refusal(run_tool("convert", {in}), 2, {"IN and OUT"});
  refuse(in, {"third"}, 2, {"third"});
  refuse(in, {"--hal"}, 2, {"--half"});
  refuse(in, {"--half", "--half"}, 2, {"twice"});
  refuse(in, {"--classes", "7"}, 2, {"--model"});
  refuse(in, {"--model", "resnet18", "--classes", "0"}, 2, {"--classes"});
  refuse(in, {"--model", "resnet18", "--classes", "10x"}, 2, {"10x"});
  refuse(in, {"--model", "resnet18", "--seed", "1"}, 2, {"--classes"});
  refuse(in, {"--model", "resnet81"}, 2, {"resnet18"});
  refuse(in, {"--stem", "cifar"}, 2, {"--model"});
}

}  // namespace
}  // namespace plume::test::convert_test
