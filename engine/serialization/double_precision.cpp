#include "engine/serialization/double_precision.h"

#include <cmath>
#include <cstring>

namespace plume {

bool is_f64(const FormatDType& type) { return std::strcmp(type.name, "F64") == 0; }

std::optional<DType> loaded_dtype(const FormatDType& type) {
  return is_f64(type) ? std::optional<DType>(DType::f32) : type.dtype;
}

void round_to_f32(Tensor& tensor, const std::string& what,
                  const std::function<void(uint64_t first, void* to, uint64_t count)>& read) {
  constexpr uint64_t kPiece = 8192;
  double wide[kPiece];
  float* out = tensor.data<float>();
  const auto size = uint64_t(tensor.size());
  for (uint64_t first = 0; first < size; first += kPiece) {
    const uint64_t count = std::min(kPiece, size - first);
    read(first, wide, count);
    for (uint64_t i = 0; i < count; ++i) {
      // Written so that nothing out of range is converted, which would be undefined.
      const double least_infinite = 0x1.ffffffp127;  // half a step beyond the largest f32
      if (std::isfinite(wide[i]) && std::abs(wide[i]) >= least_infinite)
        fail(ErrorKind::bad_input, "{}: BeyondF32: element {} is {}, which f32 cannot hold", what, first + i,
             wide[i]);
      out[first + i] = float(wide[i]);
    }
  }
}

}  // namespace plume
