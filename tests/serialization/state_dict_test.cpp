#include "engine/serialization/state_dict.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>

#include "tests/serialization/tiny_net.h"
#include "tests/serialization/torch_writer.h"
#include "tests/support/test_support.h"

namespace plume::state_dict_test {
namespace {

using test::bytes_of;
using test::TemporaryFolder;
using test::TinyNet;
using testing::AllOf;
using testing::HasSubstr;

// What the file of a TinyNet holds, to be spoilt by the tests.
std::map<std::string, Tensor> content(TinyNet& net) {
  std::map<std::string, Tensor> all;
  for (const TensorSource& s : state_sources({{"", net.state()}})) all[s.name] = s.fetch().clone();
  return all;
}

class StateDict : public testing::Test {
 protected:
  std::string write(const std::map<std::string, Tensor>& tensors) {
    std::vector<TensorSource> sources;
    for (const auto& [name, tensor] : tensors)
      sources.push_back({name, tensor.dtype(), tensor.shape(), [value = tensor] { return value; }});
    write_safetensors(path_, std::move(sources));
    return path_;
  }
  // Loading fails with all of these words, in one line, and changes nothing.
  void refuse(const std::map<std::string, Tensor>& tensors, const std::vector<std::string>& words) {
    TinyNet net(7);
    const auto before = bytes_of(net);
    const SafetensorsFile file(write(tensors));
    try {
      load_state(file, net);
      ADD_FAILURE() << "accepted";
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::bad_input);
      EXPECT_THAT(error.what(), AllOf(testing::StartsWith(path_ + ": "), testing::Not(HasSubstr("\n"))));
      for (const std::string& word : words) EXPECT_THAT(error.what(), HasSubstr(word));
    }
    EXPECT_EQ(bytes_of(net), before);
  }

  TemporaryFolder folder_;
  std::string path_ = folder_.file("net.safetensors");
  TinyNet source_{1};
};

TEST_F(StateDict, LayoutsOfFilters) {
  std::vector<float> values(2 * 3 * 2 * 2);
  for (size_t i = 0; i < values.size(); ++i) values[i] = float(i);
  const Tensor kcrs = Tensor::from(values, {2, 3, 2, 2});
  const Tensor krsc = channels_last(kcrs);
  EXPECT_EQ(krsc.shape(), (Shape{2, 2, 2, 3}));
  const std::vector<float> v = krsc.to_vector<float>();
  for (size_t k = 0; k < 2; ++k)
    for (size_t c = 0; c < 3; ++c)
      for (size_t rs = 0; rs < 4; ++rs) EXPECT_EQ(v[(k * 4 + rs) * 3 + c], float((k * 3 + c) * 4 + rs));
  EXPECT_EQ(channels_first(krsc).to_vector<float>(), values);
  EXPECT_EQ(channels_first(krsc).shape(), kcrs.shape());
  EXPECT_THROW(channels_last(Tensor::from(values, {24})), Error);
}

TEST_F(StateDict, LayoutsOfDepthwiseFilters) {
  const std::vector<float> values = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11};
  const Tensor filter = filter_from_file(Tensor::from(values, {3, 1, 2, 2}), {2, 2, 3});
  EXPECT_EQ(filter.shape(), (Shape{2, 2, 3}));
  EXPECT_EQ(filter.to_vector<float>(), (std::vector<float>{0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11}));
  EXPECT_EQ(filter_to_file(filter).shape(), (Shape{3, 1, 2, 2}));
  EXPECT_EQ(filter_to_file(filter).to_vector<float>(), values);
}

TEST_F(StateDict, HasTorchvisionsNamesAndShapes) {
  save_state(path_, source_);
  const SafetensorsFile file(path_);
  std::map<std::string, std::string> found;
  for (const TensorInfo& info : file.tensors()) found[info.name] = info.describe();
  EXPECT_EQ(found, (std::map<std::string, std::string>{{"conv1.weight", "F32 [3, 2, 3, 3]"},
                                                       {"dw.weight", "F32 [3, 1, 5, 5]"},
                                                       {"bn1.weight", "F32 [3]"},
                                                       {"bn1.bias", "F32 [3]"},
                                                       {"bn1.running_mean", "F32 [3]"},
                                                       {"bn1.running_var", "F32 [3]"},
                                                       {"bn1.num_batches_tracked", "I64 []"},
                                                       {"fc.weight", "F32 [4, 3]"},
                                                       {"fc.bias", "F32 [4]"}}));
}

TEST_F(StateDict, RoundTripIsExact) {
  *source_.state().at(6).tensor->data<int64_t>() = 12;
  save_state(path_, source_);
  TinyNet net(2);
  EXPECT_NE(bytes_of(net), bytes_of(source_));
  load_state(SafetensorsFile(path_), net);
  EXPECT_EQ(bytes_of(net), bytes_of(source_));
}

TEST_F(StateDict, OldFilesHaveNoBatchCounter) {
  auto tensors = content(source_);
  ASSERT_EQ(tensors.erase("bn1.num_batches_tracked"), 1u);
  TinyNet net(2);
  *net.state().at(6).tensor->data<int64_t>() = 12;
  load_state(SafetensorsFile(write(tensors)), net);
  EXPECT_EQ(bytes_of(net), bytes_of(source_));
}

TEST_F(StateDict, OldFilesHaveScalarsOfOneDimension) {
  auto tensors = content(source_);
  tensors["bn1.num_batches_tracked"] = Tensor::from(std::vector<int64_t>{12}, {1});
  TinyNet net(2);
  load_state(SafetensorsFile(write(tensors)), net);
  EXPECT_EQ(*net.state().at(6).tensor->data<int64_t>(), 12);
  tensors["bn1.num_batches_tracked"] = Tensor::from(std::vector<int64_t>{12, 13}, {2});
  refuse(tensors, {"ShapeMismatch (1): 'bn1.num_batches_tracked' is I64 [2], expected []"});
  tensors["bn1.num_batches_tracked"] = Tensor::from(std::vector<int32_t>{-3}, {});
  load_state(SafetensorsFile(write(tensors)), net);
  EXPECT_EQ(*net.state().at(6).tensor->data<int64_t>(), -3);
}

TEST_F(StateDict, LoadsPyTorchsOwnFiles) {
  std::string entries;
  std::vector<test::ZipItem> items = {{.name = "net/data.pkl", .content = ""}};
  for (const auto& [name, tensor] : content(source_)) {
    const std::string key = std::to_string(items.size());
    std::vector<int64_t> size(tensor.shape().begin(), tensor.shape().end()), stride(size.size(), 1);
    for (size_t d = size.size(); d-- > 1;) stride[d - 1] = stride[d] * size[d];
    const std::string storage =
        test::storage(tensor.dtype() == DType::i64 ? "Long" : "Float", key, tensor.size());
    entries += test::text(name) + test::tensor(storage, 0, size, stride);
    items.push_back(
        {.name = "net/data/" + key, .content = {static_cast<const char*>(tensor.raw()), tensor.bytes()}});
  }
  items[0].content = test::pickle_of(test::dict(entries));
  test::write_file(path_, test::zip_of(items));
  TinyNet net(2);
  load_state(open_weights(path_), net);
  EXPECT_EQ(bytes_of(net), bytes_of(source_));
}

TEST_F(StateDict, HalfPrecisionWidens) {
  auto tensors = content(source_);
  std::vector<f16> halves;
  std::vector<bf16> shorts;
  for (const float v : tensors["conv1.weight"].to_vector<float>()) halves.emplace_back(v);
  for (const float v : tensors["fc.weight"].to_vector<float>()) shorts.emplace_back(v);
  tensors["conv1.weight"] = Tensor::from(halves, {3, 2, 3, 3});
  tensors["fc.weight"] = Tensor::from(shorts, {4, 3});
  TinyNet net(2);
  load_state(SafetensorsFile(write(tensors)), net);
  const auto loaded = content(net);
  const std::vector<float> conv = loaded.at("conv1.weight").to_vector<float>(),
                           fc = loaded.at("fc.weight").to_vector<float>();
  for (size_t i = 0; i < conv.size(); ++i) EXPECT_EQ(conv[i], float(halves[i]));
  for (size_t i = 0; i < fc.size(); ++i) EXPECT_EQ(fc[i], float(shorts[i]));
}

TEST_F(StateDict, MissingTensor) {
  auto tensors = content(source_);
  tensors.erase("bn1.bias");
  tensors.erase("fc.weight");
  refuse(tensors, {"MissingTensor (2): 'bn1.bias', 'fc.weight'"});
  refuse({}, {"MissingTensor (8): 'conv1.weight', 'dw.weight', 'bn1.weight', 'bn1.bias', 'bn1.running_mean' "
              "and 3 more"});
}

TEST_F(StateDict, UnexpectedTensor) {
  auto tensors = content(source_);
  tensors["fc2.bias"] = Tensor::from(std::vector<float>{1}, {1});
  refuse(tensors, {"UnexpectedTensor (1): 'fc2.bias'"});
  TinyNet net(2);
  EXPECT_THROW(load_state(SafetensorsFile(path_), net, "fc3."), Error);
  load_state(SafetensorsFile(path_), net, "fc2.");
  EXPECT_EQ(bytes_of(net), bytes_of(source_));
}

TEST_F(StateDict, ShapeMismatch) {
  auto tensors = content(source_);
  tensors["fc.bias"] = Tensor::from(std::vector<float>{1}, {1});  // would broadcast
  tensors["bn1.weight"] = tensors["bn1.weight"].reshape({3, 1});
  tensors["conv1.weight"] = tensors["conv1.weight"].reshape({3, 3, 3, 2});  // the layout in memory
  refuse(tensors, {"ShapeMismatch (3): ", "'fc.bias' is F32 [1], expected [4]",
                   "'bn1.weight' is F32 [3, 1], expected [3]",
                   "'conv1.weight' is F32 [3, 3, 3, 2], expected [3, 2, 3, 3]"});
}

TEST_F(StateDict, AnotherNumberOfClasses) {
  TinyNet other(1, 5);
  refuse(content(other), {"ShapeMismatch (2): 'fc.weight' is F32 [5, 3], expected [4, 3], 'fc.bias'"});
}

TEST_F(StateDict, UnsupportedDtype) {
  auto tensors = content(source_);
  tensors["fc.bias"] = Tensor::from(std::vector<int32_t>{1, 2, 3, 4}, {4});
  tensors["bn1.num_batches_tracked"] = Tensor::from(std::vector<float>{1}, {});
  refuse(tensors, {"UnsupportedDtype (2): 'bn1.num_batches_tracked' is F32, expected i64, 'fc.bias' is I32, "
                   "expected f32"});
}

TEST_F(StateDict, AllFaultsAtOnce) {
  auto tensors = content(source_);
  tensors.erase("bn1.bias");
  tensors["extra"] = Tensor::from(std::vector<float>{1}, {1});
  tensors["fc.weight"] = tensors["fc.weight"].reshape({3, 4});
  tensors["fc.bias"] = Tensor::from(std::vector<uint8_t>{1, 2, 3, 4}, {4});
  refuse(tensors,
         {"MissingTensor (1): 'bn1.bias'; UnexpectedTensor (1): 'extra'; ShapeMismatch (1): 'fc.weight'",
          "; UnsupportedDtype (1): 'fc.bias' is U8"});
}

TEST_F(StateDict, AFileThatShrinksMeanwhileChangesNothing) {
  save_state(path_, source_);
  const SafetensorsFile file(path_);
  std::filesystem::resize_file(path_, file.size() - 4);
  TinyNet net(2);
  const auto before = bytes_of(net);
  EXPECT_THROW(load_state(file, net), Error);
  EXPECT_EQ(bytes_of(net), before);
}

}  // namespace
}  // namespace plume::state_dict_test
