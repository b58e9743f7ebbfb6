// A module's parameters and buffers in safetensors files, under torchvision's names and in its layout, so
// that load_state_dict() of PyTorch takes what is written here and the other way round.
#pragma once
#include <map>
#include <string>
#include <vector>

#include "engine/modules/module.h"
#include "engine/serialization/safetensors.h"
#include "engine/serialization/weights.h"

namespace plume {

// [A, B, C, D] -> [A, C, D, B], and back; NCHW to NHWC, for one. Host tensors; the result is new.
Tensor channels_last(const Tensor& kcrs);
Tensor channels_first(const Tensor& krsc);

// A filter as it lies in files [K, C, R, S] and in memory [K, R, S, C]; depthwise [C, 1, R, S] and [R, S, C].
Tensor filter_from_file(const Tensor& in_file, const Shape& in_memory);
Tensor filter_to_file(const Tensor& in_memory);

// Tensors whose names in the file begin with `prefix`, or with nothing.
struct StateGroup {
  std::string prefix;
  std::vector<NamedTensor> tensors;
};

// Fills the tensors of all groups, which keep their device. F16 and BF16 become f32; num_batches_tracked,
// which old files lack, becomes 0; where a scalar belongs, one element of one dimension will do. Tensors of
// the file under `ignored_prefix` (unless empty) are no concern.
//
// Throws bad_input naming the file and, class by class, everything that does not fit: MissingTensor,
// UnexpectedTensor, ShapeMismatch (nothing is broadcast), UnsupportedDtype. Nothing is changed then, nor when
// the file cannot be read.
void load_state(const SafetensorsFile& file, const std::vector<StateGroup>& groups,
                const std::string& ignored_prefix = "");
void load_state(const Weights& weights, const std::vector<StateGroup>& groups,
                const std::string& ignored_prefix = "");
// The same for a whole module; undoes fuse().
void load_state(const SafetensorsFile& file, Module& module, const std::string& ignored_prefix = "");
void load_state(const Weights& weights, Module& module, const std::string& ignored_prefix = "");

// For write_safetensors: the groups' tensors in files' layout, fetched from their devices one by one. The
// groups must outlive the result's use.
std::vector<TensorSource> state_sources(const std::vector<StateGroup>& groups);
void save_state(const std::string& path, Module& module,
                const std::map<std::string, std::string>& metadata = {{"format", "pt"}});

}  // namespace plume
