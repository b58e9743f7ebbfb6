#include "tools/cli/model.h"

#include "engine/serialization/checkpoint.h"
#include "engine/serialization/state_dict.h"

namespace plume::tools {
namespace {

// The length of the last bias.
int count_classes(const Weights& weights, const WeightTensor& bias) {
  constexpr uint64_t kMost = 1'000'000;
  if (bias.shape.empty() || bias.shape[0] == 0 || bias.shape[0] > kMost)
    fail(ErrorKind::bad_input, "{}: does not fit the model: {} is {}, expected from 1 to {} classes",
         weights.path, in_quotes(bias.name), bias.describe(), kMost);
  return int(bias.shape[0]);
}

}  // namespace

std::unique_ptr<Module> model_from_weights(const std::string& name, Stem stem, const Weights& weights) {
  std::unique_ptr<Module> model = make_model(name, {.stem = stem});
  const NamedParameter last = model->parameters().back();
  if (const WeightTensor* bias = find_tensor(weights.tensors, last.name)) {
    const int classes = count_classes(weights, *bias);
    if (classes != last.variable.value().dim(0))
      model = make_model(name, {.num_classes = classes, .stem = stem});
  }
  // A checkpoint of a training run serves too.
  load_state(weights, *model, weights.metadata.contains("plume.format") ? kOptimizerPrefix : "");
  return model;
}

std::unique_ptr<Module> model_from_weights(const std::string& name, Stem stem, const std::string& path) {
  return model_from_weights(name, stem, open_weights(path));
}

DType parse_precision(std::string_view text) {
  for (const DType t : {DType::f32, DType::bf16, DType::f16})
    if (text == name(t)) return t;
  fail(ErrorKind::usage, "precision '{}' is not one of f32, bf16, f16", text);
}

Tensor nchw_to_nhwc(const Tensor& x) { return channels_last(x); }
Tensor nhwc_to_nchw(const Tensor& x) { return channels_first(x); }

}  // namespace plume::tools
