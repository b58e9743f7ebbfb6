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
  // On the host, contiguous, with this type (F64: as f32) and shape; keeps the file open. Throws bad_input
  // (UnsupportedDtype or UnsupportedShape for what this engine cannot hold, BeyondF32).
  std::function<Tensor()> read;

  std::string describe() const;  // "F32 [64, 3, 7, 7]"
  bool has_shape(const Shape& expected) const;
};

// One dictionary of a file that may hold several.
struct WeightGroup {
  std::string key;  // "state_dict", "model_ema.module"; empty: the file is the dictionary
  std::vector<WeightTensor> tensors;
  std::vector<std::string> others = {};  // the first few of what else is in it: "epoch"
  size_t other_count = 0;
};

struct Weights {
  std::string path;
  WeightsFormat format = WeightsFormat::safetensors;
  uint64_t size = 0;                            // of the file, bytes
  std::map<std::string, std::string> metadata;  // of safetensors
  std::vector<WeightGroup> groups;              // at least one
  std::vector<WeightTensor> tensors;            // of the only group, in the file's order; of several none
};

// Tells the formats apart by what the file begins with, whatever its name. Throws bad_input as
// SafetensorsFile and TorchFile do. fit_weights.h finds out which tensors a network wants of them.
Weights open_weights(const std::string& path);

// The same of a file that is open already, which the result refers to.
Weights weights_of(const SafetensorsFile& file);

// Null when absent.
const WeightTensor* find_tensor(const std::vector<WeightTensor>& tensors, const std::string& name);

}  // namespace plume
