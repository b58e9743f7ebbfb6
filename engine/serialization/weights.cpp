#include "engine/serialization/weights.h"

#include <algorithm>
#include <cstring>

#include "engine/serialization/torch_file.h"

namespace plume {
namespace {

// What is neither goes to the reader of safetensors, whose errors say what else a file may be.
bool is_torch(const std::string& path) {
  constexpr uint64_t kMostHeader = 100'000'000;
  constexpr uint64_t kTarMark = 257;
  const InputFile file(path);
  const std::string first = file.read_text(0, std::min<uint64_t>(file.size(), kTarMark + 5));
  if (first.size() < 9) return false;
  // Of safetensors this is a length, and then comes a JSON object. Archives and pickles of PyTorch have other
  // bytes in both places.
  uint64_t length = 0;
  std::memcpy(&length, first.data(), 8);
  if (length <= kMostHeader && first[8] == '{') return false;
  if (first.starts_with("PK\3\4") || first.starts_with("PK\5\6")) return true;
  const bool pickle = uint8_t(first[0]) == 0x80 && first[1] >= 1 && first[1] <= 5 && length > kMostHeader;
  return pickle || first.substr(std::min<size_t>(first.size(), kTarMark)) == "ustar";
}

template <class File>
Weights collect(const std::shared_ptr<File>& file, WeightsFormat format) {
  Weights weights;
  weights.path = file->path();
  weights.format = format;
  weights.size = file->size();
  return weights;
}

template <class File>
WeightTensor tensor_of(const std::shared_ptr<File>& file, const TensorInfo& info) {
  return {info.name, info.type, info.shape, [file, &info] { return file->read(info); }};
}

Weights from_torch(const std::string& path) {
  const auto file = std::make_shared<const TorchFile>(path);
  Weights weights = collect(file, file->legacy() ? WeightsFormat::torch_legacy : WeightsFormat::torch_zip);
  for (const TorchFile::Dictionary& d : file->dictionaries()) {
    WeightGroup& group = weights.groups.emplace_back(WeightGroup{d.key, {}, d.others, d.other_count});
    for (size_t i = d.first; i < d.first + d.count; ++i)
      group.tensors.push_back(tensor_of(file, file->tensors()[i]));
  }
  if (weights.groups.size() == 1) weights.tensors = weights.groups[0].tensors;
  return weights;
}

Weights from_safetensors(const std::shared_ptr<const SafetensorsFile>& file) {
  Weights weights = collect(file, WeightsFormat::safetensors);
  weights.metadata = file->metadata();
  for (const TensorInfo& info : file->tensors()) weights.tensors.push_back(tensor_of(file, info));
  weights.groups.push_back({"", weights.tensors});
  return weights;
}

TensorInfo info_of(const WeightTensor& tensor) {
  TensorInfo info;
  info.type = tensor.type;
  info.shape = tensor.shape;
  return info;
}

}  // namespace

const char* name(WeightsFormat format) {
  constexpr const char* kNames[] = {"safetensors", "PyTorch zip", "PyTorch legacy"};
  return kNames[size_t(format)];
}

std::string WeightTensor::describe() const { return info_of(*this).describe(); }
bool WeightTensor::has_shape(const Shape& expected) const { return info_of(*this).has_shape(expected); }

Weights open_weights(const std::string& path) {
  return is_torch(path) ? from_torch(path) : from_safetensors(std::make_shared<const SafetensorsFile>(path));
}

Weights weights_of(const SafetensorsFile& file) {
  // Not owned.
  return from_safetensors(std::shared_ptr<const SafetensorsFile>(std::shared_ptr<void>(), &file));
}

const WeightTensor* find_tensor(const std::vector<WeightTensor>& tensors, const std::string& name) {
  for (const WeightTensor& t : tensors)
    if (t.name == name) return &t;
  return nullptr;
}

}  // namespace plume
