// Named tensors from any file that holds a network's weights.
#pragma once
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "engine/serialization/safetensors.h"

namespace plume {

enum class WeightsFormat : uint8_t { safetensors, torch_zip, torch_legacy };
const char* name(WeightsFormat format);  // "safetensors", "PyTorch zip", "PyTorch legacy"

struct WeightTensor {
  std::string name;
  const FormatDType* type = nullptr;
  std::vector<uint64_t> shape;
  // On the host, contiguous, with this type and shape; keeps the file open. Throws bad_input
  // (UnsupportedDtype or UnsupportedShape for what this engine cannot hold).
  std::function<Tensor()> read;

  std::string describe() const;  // "F32 [64, 3, 7, 7]"
  bool has_shape(const Shape& expected) const;
};

struct Weights {
  std::string path;
  WeightsFormat format = WeightsFormat::safetensors;
  uint64_t size = 0;                            // of the file, bytes
  std::map<std::string, std::string> metadata;  // of safetensors
  std::vector<WeightTensor> tensors;            // in the file's order
};

// Tells the formats apart by what the file begins with, whatever its name. Throws bad_input as
// SafetensorsFile and TorchFile do.
Weights open_weights(const std::string& path);

// The same of a file that is open already, which the result refers to.
Weights weights_of(const SafetensorsFile& file);

// Null when absent.
const WeightTensor* find_tensor(const std::vector<WeightTensor>& tensors, const std::string& name);

}  // namespace plume
