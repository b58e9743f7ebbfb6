#include "tools/cli/tensors.h"

#include "engine/serialization/safetensors.h"

namespace plume::tools {

TensorMap read_tensors(const std::string& path) {
  const SafetensorsFile file(path);
  TensorMap tensors;
  for (const TensorInfo& info : file.tensors()) tensors.emplace(info.name, file.read(info));
  return tensors;
}

const Tensor& find_tensor(const TensorMap& tensors, const std::string& name, const std::string& path) {
  const auto found = tensors.find(name);
  if (found == tensors.end()) fail(ErrorKind::bad_input, "{}: MissingTensor: '{}'", path, name);
  return found->second;
}

void write_tensors(const std::string& path, const TensorMap& tensors) {
  std::vector<TensorSource> sources;
  for (const auto& [name, tensor] : tensors)
    sources.push_back({name, tensor.dtype(), tensor.shape(), [&value = tensor] { return value; }});
  write_safetensors(path, std::move(sources));
}

}  // namespace plume::tools
