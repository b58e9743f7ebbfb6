// Named tensors in safetensors files, on the host, as they lie in the file.
#pragma once
#include <map>
#include <string>

#include "engine/core/tensor.h"

namespace plume::tools {

using TensorMap = std::map<std::string, Tensor>;

TensorMap read_tensors(const std::string& path);  // throws bad_input
const Tensor& find_tensor(const TensorMap& tensors, const std::string& name, const std::string& path);
void write_tensors(const std::string& path, const TensorMap& tensors);  // atomically

}  // namespace plume::tools
