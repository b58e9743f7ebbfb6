#include "tools/tool_model.h"

#include "engine/serialization/state_dict.h"

namespace plume::tools {
namespace {

// The length of the last bias, or the rows of the last matrix.
int count_classes(const SafetensorsFile& file, const std::string& last_parameter) {
  constexpr uint64_t kMost = 1'000'000;
  const TensorInfo* info = file.find(last_parameter);
  if (info == nullptr)
    fail(ErrorKind::bad_input, "{}: does not fit the model: MissingTensor: {}", file.path(),
         in_quotes(last_parameter));
  if (info->shape.empty() || info->shape[0] == 0 || info->shape[0] > kMost)
    fail(ErrorKind::bad_input, "{}: does not fit the model: {} is {}, expected from 1 to {} classes",
         file.path(), in_quotes(last_parameter), info->describe(), kMost);
  return int(info->shape[0]);
}

}  // namespace

std::unique_ptr<Module> model_from_weights(const std::string& name, Stem stem, const std::string& path) {
  const SafetensorsFile file(path);
  std::unique_ptr<Module> model = make_model(name, {.stem = stem});
  const NamedParameter last = model->parameters().back();
  if (file.find(last.name) != nullptr) {
    const int classes = count_classes(file, last.name);
    if (classes != last.variable.value().dim(0))
      model = make_model(name, {.num_classes = classes, .stem = stem});
  }
  // A checkpoint of a training run serves too.
  load_state(file, *model, file.metadata().contains("plume.format") ? "optimizer." : "");
  return model;
}

Tensor nchw_to_nhwc(const Tensor& x) { return channels_last(x); }
Tensor nhwc_to_nchw(const Tensor& x) { return channels_first(x); }

}  // namespace plume::tools
