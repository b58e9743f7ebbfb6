#include "engine/serialization/state_dict.h"

#include <algorithm>
#include <set>

#include "engine/serialization/double_precision.h"
#include "engine/serialization/known_networks.h"
#include "engine/serialization/weight_faults.h"

namespace plume {
namespace {

template <class T>
void transpose_blocks(const T* from, T* to, int64_t blocks, int64_t rows, int64_t columns) {
  for (int64_t b = 0; b < blocks; ++b, from += rows * columns, to += rows * columns)
    for (int64_t c = 0; c < columns; ++c)
      for (int64_t r = 0; r < rows; ++r) to[c * rows + r] = from[r * columns + c];
}

// [blocks, rows, columns] -> [blocks, columns, rows]
void transpose_blocks(const Tensor& from, Tensor& to, int64_t blocks, int64_t rows, int64_t columns) {
  const auto run = [&](auto word) {
    using Word = decltype(word);
    transpose_blocks(static_cast<const Word*>(from.raw()), static_cast<Word*>(to.raw()), blocks, rows,
                     columns);
  };
  switch (size_of(from.dtype())) {
    case 1:
      return run(uint8_t{});
    case 2:
      return run(uint16_t{});
    case 4:
      return run(uint32_t{});
    default:
      return run(uint64_t{});
  }
}

void check_layout(const Tensor& tensor) {
  PLUME_CHECK(tensor.rank() == 4 && is_host(tensor.device()), "layout: {} is not a rank-4 tensor on the host",
              tensor);
}

Tensor as_f32(const Tensor& tensor) {
  if (tensor.dtype() == DType::f32) return tensor;
  Tensor wide = Tensor::empty(tensor.shape(), DType::f32, Device::cpu, "file");
  float* out = wide.data<float>();
  dispatch_floating(tensor.dtype(), [&](auto zero) {
    const auto* in = tensor.data<decltype(zero)>();
    for (int64_t i = 0; i < tensor.size(); ++i) out[i] = float(in[i]);
  });
  return wide;
}

Shape file_shape(const NamedTensor& entry) {
  const Shape& s = entry.tensor->shape();
  if (!entry.filter) return s;
  return s.rank() == 3 ? Shape{s[2], 1, s[0], s[1]} : Shape{s[0], s[3], s[1], s[2]};
}

using Index = std::map<std::string_view, const WeightTensor*>;

const WeightTensor* find(const Index& index, const std::string& name) {
  const auto found = index.find(name);
  return found == index.end() ? nullptr : found->second;
}

void check(const Weights& weights, const Index& index, const std::vector<StateGroup>& groups,
           const std::string& ignored_prefix) {
  if (weights.tensors.empty() && weights.groups.size() > 1)
    fail(ErrorKind::bad_input, "{}: holds {} dictionaries of tensors, and none of them was chosen",
         weights.path, weights.groups.size());
  WeightFaults faults;
  std::set<std::string> expected;
  for (const StateGroup& group : groups)
    for (const NamedTensor& entry : group.tensors) {
      const std::string name = group.prefix + entry.name;
      expected.insert(name);
      const WeightTensor* info = find(index, name);
      if (info == nullptr) {
        if (!is_batch_counter(name)) faults.add("MissingTensor", in_quotes(name));
        continue;
      }
      if (!fits_shape(*info, file_shape(entry)))
        faults.add("ShapeMismatch",
                   message("{} is {}, expected {}", in_quotes(name), info->describe(), file_shape(entry)));
      if (!fits_dtype(*info, entry.tensor->dtype()))
        faults.add("UnsupportedDtype", message("{} is {}, expected {}", in_quotes(name), info->type->name,
                                               entry.tensor->dtype()));
    }
  for (const WeightTensor& info : weights.tensors)
    if (!expected.contains(info.name) && (ignored_prefix.empty() || !info.name.starts_with(ignored_prefix)))
      faults.add("UnexpectedTensor", in_quotes(info.name));
  if (faults.any()) {
    std::vector<TensorSource> wanted = state_sources(groups);
    faults.fail(weights.path, difference_of_networks(weights.tensors, wanted));
  }
}

}  // namespace

bool fits_shape(const WeightTensor& tensor, const Shape& expected) {
  return tensor.has_shape(expected) || (expected.rank() == 0 && tensor.has_shape({1}));
}

bool fits_dtype(const WeightTensor& tensor, DType to) {
  const std::optional<DType> from = loaded_dtype(*tensor.type);
  return from && (*from == to || (to == DType::f32 && is_floating(*from)) ||
                  (to == DType::i64 && *from == DType::i32));
}

Tensor widened(const Tensor& narrow) {
  Tensor wide = Tensor::empty(narrow.shape(), DType::i64, Device::cpu, "file");
  std::copy_n(narrow.data<int32_t>(), narrow.size(), wide.data<int64_t>());
  return wide;
}

bool is_batch_counter(const std::string& name) { return name.ends_with("num_batches_tracked"); }

Tensor channels_last(const Tensor& kcrs) {
  check_layout(kcrs);
  const Shape& s = kcrs.shape();
  Tensor result = Tensor::empty({s[0], s[2], s[3], s[1]}, kcrs.dtype(), kcrs.device());
  transpose_blocks(kcrs, result, s[0], s[1], s[2] * s[3]);
  return result;
}

Tensor channels_first(const Tensor& krsc) {
  check_layout(krsc);
  const Shape& s = krsc.shape();
  Tensor result = Tensor::empty({s[0], s[3], s[1], s[2]}, krsc.dtype(), krsc.device());
  transpose_blocks(krsc, result, s[0], s[1] * s[2], s[3]);
  return result;
}

Tensor filter_from_file(const Tensor& in_file, const Shape& in_memory) {
  if (in_memory.rank() != 3) return channels_last(in_file);
  Tensor result = Tensor::empty(in_memory, in_file.dtype(), in_file.device());
  transpose_blocks(in_file, result, 1, in_memory[2], in_memory[0] * in_memory[1]);
  return result;
}

Tensor filter_to_file(const Tensor& in_memory) {
  if (in_memory.rank() != 3) return channels_first(in_memory);
  const Shape& s = in_memory.shape();
  Tensor result = Tensor::empty({s[2], 1, s[0], s[1]}, in_memory.dtype(), in_memory.device());
  transpose_blocks(in_memory, result, 1, s[0] * s[1], s[2]);
  return result;
}

void load_state(const Weights& weights, const std::vector<StateGroup>& groups,
                const std::string& ignored_prefix) {
  Index index;
  for (const WeightTensor& t : weights.tensors) index.emplace(t.name, &t);
  check(weights, index, groups, ignored_prefix);
  // All is read before anything is changed: reading may fail.
  std::vector<std::pair<Tensor*, Tensor>> staged;
  for (const StateGroup& group : groups)
    for (const NamedTensor& entry : group.tensors) {
      const WeightTensor* info = find(index, group.prefix + entry.name);
      Tensor value = info == nullptr
                         ? Tensor::zeros(entry.tensor->shape(), entry.tensor->dtype(), Device::cpu)
                         : info->read();
      if (entry.tensor->rank() == 0) value = value.reshape({});
      if (entry.filter && info != nullptr) value = filter_from_file(value, entry.tensor->shape());
      if (is_floating(value.dtype())) value = as_f32(value);
      if (value.dtype() == DType::i32 && entry.tensor->dtype() == DType::i64) value = widened(value);
      staged.emplace_back(entry.tensor, std::move(value));
    }
  for (auto& [tensor, value] : staged) tensor->copy_from(value);
}

void load_state(const Weights& weights, Module& module, const std::string& ignored_prefix) {
  load_state(weights, {{"", module.state()}}, ignored_prefix);
  module.train(module.training());
}

void load_state(const SafetensorsFile& file, const std::vector<StateGroup>& groups,
                const std::string& ignored_prefix) {
  load_state(weights_of(file), groups, ignored_prefix);
}

void load_state(const SafetensorsFile& file, Module& module, const std::string& ignored_prefix) {
  load_state(weights_of(file), module, ignored_prefix);
}

std::vector<TensorSource> state_sources(const std::vector<StateGroup>& groups) {
  std::vector<TensorSource> sources;
  for (const StateGroup& group : groups)
    for (const NamedTensor& entry : group.tensors) {
      const auto fetch = [tensor = entry.tensor, filter = entry.filter] {
        const Tensor host = is_host(tensor->device()) ? *tensor : tensor->to(Device::cpu);
        return filter ? filter_to_file(host) : host;
      };
      sources.push_back({group.prefix + entry.name, entry.tensor->dtype(), file_shape(entry), fetch});
    }
  return sources;
}

void save_state(const std::string& path, Module& module, const std::map<std::string, std::string>& metadata) {
  write_safetensors(path, state_sources({{"", module.state()}}), metadata);
}

}  // namespace plume
