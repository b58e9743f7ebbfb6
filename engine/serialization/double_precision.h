// Weights in double precision, which the engine does not compute in: they are read as f32.
#pragma once
#include <functional>
#include <optional>
#include <string>

#include "engine/serialization/safetensors.h"

namespace plume {

bool is_f64(const FormatDType& type);
// What a tensor of this type is read as; empty for what the engine cannot hold.
std::optional<DType> loaded_dtype(const FormatDType& type);

// Fills an f32 tensor on the host with doubles, which read(first, to, count) gives piece by piece, rounded to
// the nearest f32. Infinities and NaN stay what they are; a finite number that would become infinite is
// refused. Throws bad_input: "`what`: BeyondF32: ...".
void round_to_f32(Tensor& tensor, const std::string& what,
                  const std::function<void(uint64_t first, void* to, uint64_t count)>& read);

}  // namespace plume
