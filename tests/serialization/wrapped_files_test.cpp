// Checkpoints as people have them, written by PyTorch: what is found in them, and what is said.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/serialization/fit_weights.h"
#include "engine/serialization/state_dict.h"
#include "tests/serialization/tiny_net.h"
#include "tests/support/test_support.h"

namespace plume::wrapped_files_test {
namespace {

using test::bytes_of;
using test::TinyNet;
using testing::HasSubstr;

std::string wrapped(const std::string& name) { return test::fixture("wrapped/" + name); }

FittedWeights fit(const std::string& path, FitOptions options = {}) {
  TinyNet net(3);
  options.head = "fc.";
  return fit_weights(open_weights(path), state_sources({{"", net.state()}}), options);
}

std::vector<std::string> loaded(const FittedWeights& fitted) {
  TinyNet net(3);
  load_state(fitted.weights, net);
  return bytes_of(net);
}

std::vector<std::string> plain() { return loaded(fit(wrapped("plain.pth"))); }

TEST(WrappedFiles, PlainNeedsNoWord) {
  const FittedWeights fitted = fit(wrapped("plain.pth"));
  EXPECT_EQ(fitted.note, "");
  TinyNet net;
  load_state(fitted.weights, net);
  EXPECT_EQ(net.parameters().back().variable.value().to_vector<float>(),
            (std::vector<float>{-1, -0.875, -0.75, -0.625}));
  EXPECT_EQ(*net.state().at(6).tensor->data<int64_t>(), 7);
}

TEST(WrappedFiles, HoldTheSameWeights) {
  const std::vector<std::string> right = plain();
  const std::map<std::string, std::vector<std::string>> files = {
      {"parallel.pth", {"takes module. off 9 names"}},
      {"compiled_parallel.pth", {"takes _orig_mod. and module. off 9 names"}},
      {"half_parallel.pth", {"off 5 names"}},
      {"backbone_prefix.pth", {"takes 'encoder.net.' off the names"}},
      {"imagenet_example.pth.tar", {"takes 'state_dict'", "off 9 names"}},
      {"lightning.ckpt", {"takes 'state_dict'", "takes 'model.' off the names"}},
      {"extra.pth",
       {"no tensor: 'height', 'use_stereo' (2)", "counters: 'total_ops', 'fc.total_params' (2)",
        "normalisation, which images get beforehand here: 'mean' (1)"}},
      {"protocol3.pth", {}},
      {"protocol4.pth", {}},
      {"protocol5.pth", {}},
      {"legacy_protocol4.pth", {}},
      {"double.pth", {}},
      {"counter.pth", {}},
      {"parameters.pth", {}},
  };
  for (const auto& [name, words] : files) {
    SCOPED_TRACE(name);
    const FittedWeights fitted = fit(wrapped(name));
    EXPECT_EQ(loaded(fitted), right);
    EXPECT_EQ(fitted.note.empty(), words.empty()) << fitted.note;
    if (!words.empty()) {
      EXPECT_THAT(fitted.note, testing::StartsWith(wrapped(name) + ": "));
    }
    for (const std::string& word : words) EXPECT_THAT(fitted.note, HasSubstr(word));
    EXPECT_THAT(fitted.note, testing::Not(HasSubstr("\n")));
  }
}

TEST(WrappedFiles, OldOnesLackTheCounter) {
  std::vector<std::string> right = plain();
  right.at(6) = std::string(8, '\0');
  EXPECT_EQ(loaded(fit(wrapped("rebuild_tensor.pth"))), right);
}

TEST(WrappedFiles, NothingIsPreferredInSilence) {
  const std::string path = wrapped("average.pth");
  try {
    fit(path);
    ADD_FAILURE();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::bad_input);
    EXPECT_EQ(error.what(), path +
                                ": holds 2 dictionaries of tensors that fit: 'model', 'model_ema'; "
                                "choose with --weights-key");
  }
  EXPECT_EQ(loaded(fit(path, {.key = "model"})), plain());
  const FittedWeights average = fit(path, {.key = "model_ema"});
  EXPECT_NE(loaded(average), plain());
  EXPECT_THAT(average.note, HasSubstr("counters: 'n_averaged' (1)"));
  EXPECT_THROW(choose_weights(open_weights(path)), Error);
  EXPECT_EQ(choose_weights(open_weights(path), {.key = "model"}).weights.tensors.size(), 9u);
  try {
    fit(path, {.key = "ema"});
    ADD_FAILURE();
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("--weights-key 'ema': there is no such dictionary of tensors; there "
                                        "are 'model', 'model_ema'"));
  }
}

TEST(WrappedFiles, AMissingLastLayerIsNoticed) {
  const FittedWeights fitted = fit(wrapped("headless.pth"));
  EXPECT_TRUE(fitted.headless);
  EXPECT_EQ(fitted.weights.tensors.size(), 7u);
  EXPECT_FALSE(fit(wrapped("plain.pth")).headless);
  EXPECT_THROW(loaded(fitted), Error);
}

TEST(WrappedFiles, Ignore) {
  const FittedWeights fitted = fit(wrapped("plain.pth"), {.ignore = {"fc.*"}});
  EXPECT_TRUE(fitted.headless);
  EXPECT_THAT(fitted.note, HasSubstr("leaves out as told: 'fc.weight', 'fc.bias' (2)"));
  EXPECT_THROW(fit(wrapped("plain.pth"), {.ignore = {"aux.*"}}), Error);
}

}  // namespace
}  // namespace plume::wrapped_files_test
