#include "tools/cli/model.h"

#include "engine/serialization/state_dict.h"
#include "tools/cli/main.h"

namespace plume::tools {

WeightsFlags::WeightsFlags(Flags& flags) {
  flags.text("--weights-key", key_,
             "which dictionary of tensors in the file, where several fit: state_dict, model_ema.module");
  flags.list("--ignore", ignore_, "leave out tensors of such names: aux.*; may be given often");
}

FitOptions WeightsFlags::options() const {
  FitOptions options{.key = key_};
  for (const std::string& text : ignore_)
    for (std::string& pattern : split_patterns(text)) options.ignore.push_back(std::move(pattern));
  return options;
}

std::vector<std::string> split_patterns(const std::string& text) {
  std::vector<std::string> patterns;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find(',', begin), text.size());
    if (end > begin) patterns.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return patterns;
}

std::string head_prefix(Module& model) {
  const std::string last = model.parameters().back().name;
  return last.substr(0, last.rfind('.') + 1);
}

int count_classes(const Weights& weights, const WeightTensor& bias) {
  constexpr uint64_t kMost = 1'000'000;
  if (bias.shape.size() != 1 || bias.shape[0] == 0 || bias.shape[0] > kMost)
    fail(ErrorKind::bad_input, "{}: does not fit the model: {} is {}, expected from 1 to {} classes",
         weights.path, in_quotes(bias.name), bias.describe(), kMost);
  return int(bias.shape[0]);
}

std::unique_ptr<Module> model_from_weights(const std::string& name, Stem stem, const Weights& weights,
                                           FitOptions options) {
  std::unique_ptr<Module> model = make_model(name, {.stem = stem, .initialize = false});
  const std::string head = options.head = head_prefix(*model);
  const FittedWeights fitted = fit_weights(weights, state_sources({{"", model->state()}}), options);
  if (fitted.headless)
    fail(ErrorKind::bad_input,
         "{}: has no last layer ({}*), just what is below it: `train --weights` gives it a new one",
         weights.path, head);
  const NamedParameter last = model->parameters().back();
  if (const WeightTensor* bias = find_tensor(fitted.weights.tensors, last.name)) {
    const int classes = count_classes(weights, *bias);
    if (classes != last.variable.value().dim(0))
      model = make_model(name, {.num_classes = classes, .stem = stem, .initialize = false});
  }
  load_state(fitted.weights, *model);
  if (!fitted.note.empty()) log_line(fitted.note);
  return model;
}

std::unique_ptr<Module> model_from_weights(const std::string& name, Stem stem, const std::string& path,
                                           const FitOptions& options) {
  return model_from_weights(name, stem, open_weights(path), options);
}

DType parse_precision(std::string_view text) {
  for (const DType t : {DType::f32, DType::bf16, DType::f16})
    if (text == name(t)) return t;
  fail(ErrorKind::usage, "precision '{}' is not one of f32, bf16, f16", text);
}

Tensor nchw_to_nhwc(const Tensor& x) { return channels_last(x); }
Tensor nhwc_to_nchw(const Tensor& x) { return channels_first(x); }

}  // namespace plume::tools
