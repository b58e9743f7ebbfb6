// Finding what a network wants among the names of a file.
#include "engine/serialization/fit_weights.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "engine/serialization/fit_names.h"
#include "engine/serialization/known_networks.h"
#include "engine/serialization/state_dict.h"
#include "tests/serialization/tiny_net.h"
#include "tests/support/test_support.h"

namespace plume::fit_weights_test {
namespace {

using test::bytes_of;
using test::TinyNet;
using testing::ElementsAre;
using testing::HasSubstr;

using Tensors = std::map<std::string, Tensor>;

class FitWeights : public testing::Test {
 protected:
  Tensors content(const std::string& prefix = "") {
    Tensors all;
    for (const TensorSource& s : state_sources({{"", source_.state()}})) all[prefix + s.name] = s.fetch();
    return all;
  }
  Weights open(const Tensors& tensors) {
    std::vector<TensorSource> sources;
    for (const auto& [name, tensor] : tensors)
      sources.push_back({name, tensor.dtype(), tensor.shape(), [value = tensor] { return value; }});
    write_safetensors(path_, std::move(sources));
    return open_weights(path_);
  }
  FittedWeights fit(const Tensors& tensors, FitOptions options = {}) {
    options.head = "fc.";
    return fit_weights(open(tensors), state_sources({{"", source_.state()}}), options);
  }
  void loads(const Tensors& tensors, const std::vector<std::string>& words, const FitOptions& options = {}) {
    const FittedWeights fitted = fit(tensors, options);
    for (const std::string& word : words) EXPECT_THAT(fitted.note, HasSubstr(word));
    TinyNet net(9);
    load_state(fitted.weights, net);
    EXPECT_EQ(bytes_of(net), bytes_of(source_));
  }
  void refuse(const Tensors& tensors, const std::vector<std::string>& words, const FitOptions& options = {}) {
    try {
      TinyNet net(9);
      load_state(fit(tensors, options).weights, net);
      ADD_FAILURE() << "accepted";
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::bad_input);
      EXPECT_THAT(error.what(), testing::StartsWith(path_ + ": "));
      EXPECT_THAT(error.what(), testing::Not(HasSubstr("\n")));
      EXPECT_LT(std::string(error.what()).size(), 700u);
      for (const std::string& word : words) EXPECT_THAT(error.what(), HasSubstr(word));
    }
  }
  static Tensors with(Tensors tensors, const std::string& name, const Tensor& value) {
    tensors[name] = value;
    return tensors;
  }
  static Tensor ones(const Shape& shape) {
    return Tensor::from(std::vector<float>(size_t(shape.elements()), 1), shape);
  }

  test::TemporaryFolder folder_;
  std::string path_ = folder_.file("w.safetensors");
  TinyNet source_{1};
};

TEST_F(FitWeights, AnyPrefix) {
  for (const char* prefix : {"model.", "net.", "backbone.", "a.b.c.", "bn1."})
    loads(content(prefix), {"takes '" + std::string(prefix) + "'"});
  refuse(content("x"), {"MissingTensor (8)"});  // no component of its own
  loads(content("module.model.module."), {"takes module. off 9 names", "takes 'model.'"});
}

TEST_F(FitWeights, WhatIsLeftOver) {
  Tensors more = content("model.");
  refuse(with(more, "loss.weight", ones({3})), {"UnexpectedTensor (1): 'loss.weight'"});
  loads(with(more, "loss.weight", ones({3})), {"as told: 'loss.weight' (1)"}, {.ignore = {"loss.*"}});
  loads(with(more, "loss.weight", ones({3})), {}, {.ignore = {"l?ss.[vw]*"}});
  loads(with(more, "model.conv1.total_ops", ones({1})), {"counters: 'conv1.total_ops' (1)"});
  loads(with(more, "model.dw.num_batches_tracked", ones({1})), {"counters"});
  loads(with(more, "model.normalize.mean", ones({3, 1, 1})), {"normalisation", "'normalize.mean' (1)"});
  refuse(with(more, "model.normalize.mean", ones({64})), {"UnexpectedTensor (1): 'normalize.mean'"});
  refuse(with(more, "AuxLogits.fc.weight", ones({3})), {"UnexpectedTensor (1): 'AuxLogits.fc.weight'"});
  refuse(more, {"--ignore 'los.*': no tensor has such a name"}, {.ignore = {"los.*"}});
  more.erase("model.bn1.num_batches_tracked");
  const FittedWeights fitted = fit(more);
  TinyNet net(9);
  load_state(fitted.weights, net);
  EXPECT_EQ(*net.state().at(6).tensor->data<int64_t>(), 0);
}

TEST_F(FitWeights, TwoOfThemUnderPrefixes) {
  Tensors both = content("student.");
  for (const auto& [name, tensor] : content("teacher.")) both[name] = tensor;
  refuse(both, {"holds 2 dictionaries of tensors that fit: 'student', 'teacher'; choose with --weights-key"});
  loads(both, {"takes 'teacher'"}, {.key = "teacher"});
  refuse(both, {"--weights-key 'pupil': there is no such dictionary", "the file is one itself"},
         {.key = "pupil"});
  // Only one of them is this network: the other has a tensor more.
  both["teacher.layer.weight"] = ones({2});
  loads(both, {"takes 'student.' off the names"});
}

TEST_F(FitWeights, Clashes) {
  Tensors both = content();
  both["module.fc.bias"] = ones({4});
  refuse(both, {"has 'fc.bias' under two prefixes"});
}

TEST_F(FitWeights, ScalarsOfOldFilesServeEveryProgram) {
  const Tensors old = with(content(), "bn1.num_batches_tracked", Tensor::from(std::vector<int32_t>{5}, {1}));
  const FittedWeights fitted = fit(old);
  const WeightTensor* counter = find_tensor(fitted.weights.tensors, "bn1.num_batches_tracked");
  EXPECT_EQ(counter->describe(), "I64 []");
  EXPECT_EQ(counter->read().to_vector<int64_t>(), std::vector<int64_t>{5});
}

TEST_F(FitWeights, CountersOfAWholeDictionaryInAnotherPrecision) {
  for (const auto& [count, expected] : {std::pair<float, int64_t>{5, 5}, {INFINITY, 0}, {NAN, 0}, {-2, -2}}) {
    const Tensor counter = Tensor::from(std::vector<f16>{f16(count)}, {});
    const FittedWeights fitted = fit(with(content(), "bn1.num_batches_tracked", counter));
    EXPECT_THAT(fitted.note, HasSubstr("rounds 1 counters that are real numbers"));
    TinyNet net(9);
    load_state(fitted.weights, net);
    EXPECT_EQ(*net.state().at(6).tensor->data<int64_t>(), expected);
  }
}

TEST_F(FitWeights, ErrorsNameFewAndTheCause) {
  Tensors other;
  for (int i = 0; i < 40; ++i) other["layer" + std::to_string(i) + ".conv.weight"] = ones({2});
  refuse(other, {"MissingTensor (8): 'conv1.weight', 'dw.weight' and 6 more; UnexpectedTensor (40): 'layer"});
  other["layer3.5.conv2.weight"] = ones({2});
  refuse(other, {"; the file seems to be resnet34"});
  other["conv_stem.weight"] = ones({2});
  refuse(other, {"timm's names", "convert --timm"});
}

TEST(FitNames, Wrappers) {
  Names removed;
  const Names wanted = {"a.module.b"};
  EXPECT_EQ(without_wrappers("module.a.b", wanted, removed), "a.b");
  EXPECT_EQ(without_wrappers("a.module.b", wanted, removed), "a.module.b");
  EXPECT_EQ(without_wrappers("a._orig_mod.module.c", wanted, removed), "a.c");
  EXPECT_EQ(without_wrappers("amodule.modules.module", wanted, removed), "amodule.modules.module");
  EXPECT_EQ(without_wrappers("", wanted, removed), "");
  EXPECT_EQ(without_wrappers("module.", wanted, removed), "");
  EXPECT_THAT(removed, ElementsAre("_orig_mod", "module"));
}

TEST(FitNames, Prefixes) {
  const Names wanted = {"conv1.weight", "bn1.weight", "fc.bias"};
  EXPECT_THAT(best_prefixes({"conv1.weight", "bn1.weight"}, wanted), ElementsAre(""));
  EXPECT_THAT(best_prefixes({"m.conv1.weight", "m.bn1.weight", "m.l.bn1.weight"}, wanted), ElementsAre("m."));
  EXPECT_THAT(best_prefixes({"a.fc.bias", "b.fc.bias"}, wanted), ElementsAre(""));  // not half of them
  EXPECT_THAT(best_prefixes({"a.fc.bias", "b.fc.bias"}, {"fc.bias"}), ElementsAre("a.", "b."));
  EXPECT_THAT(best_prefixes({}, wanted), ElementsAre(""));
  EXPECT_THAT(best_prefixes({"", ".", "..", "a."}, wanted), ElementsAre(""));
}

}  // namespace
}  // namespace plume::fit_weights_test
