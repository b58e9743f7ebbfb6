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

// What every program means by "fits". Nothing is broadcast, but where a scalar belongs, one element of one
// dimension will do: before version 0.4, PyTorch had no scalars. F64, F16 and BF16 serve as f32, I32 as i64.
bool fits_shape(const WeightTensor& tensor, const Shape& expected);
bool fits_dtype(const WeightTensor& tensor, DType expected);
Tensor widened(const Tensor& i32);               // to i64, on the host
bool is_batch_counter(const std::string& name);  // num_batches_tracked: old files lack it, others have more

// Fills the tensors of all groups, which keep their device; a num_batches_tracked that is missing becomes 0.
// Tensors of the file under `ignored_prefix` (unless empty) are no concern. What people do to their files
// (wrappers, prefixes) is the business of fit_weights.h.
//
// Throws bad_input naming the file and, class by class, what does not fit (see weight_faults.h):
// MissingTensor, UnexpectedTensor, ShapeMismatch, UnsupportedDtype. Nothing is changed then, nor when the
// file cannot be read.
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
