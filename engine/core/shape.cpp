#include "engine/core/shape.h"

#include <algorithm>

#include "engine/core/error.h"

namespace plume {

Shape::Shape(const int64_t* dims, int rank) : rank_(rank) {
  PLUME_CHECK(rank >= 0 && rank <= kMaxRank, "shape: rank {} is not in 0..{}", rank, kMaxRank);
  int64_t elements = 1;
  for (int i = 0; i < rank; ++i) {
    PLUME_CHECK(dims[i] >= 0, "shape: extent {} of dimension {} is negative", dims[i], i);
    dims_[size_t(i)] = dims[i];
    // Zero extents must not hide an overflow of the others.
    const int64_t extent = std::max<int64_t>(dims[i], 1);
    PLUME_CHECK(elements <= (int64_t{1} << 62) / extent, "shape: more than 2^62 elements");
    elements *= extent;
  }
}

Shape Shape::with(int i, int64_t extent) const {
  std::array<int64_t, kMaxRank> dims = dims_;
  dims[size_t(i < 0 ? i + rank_ : i)] = extent;
  return Shape(dims.data(), rank_);
}

int64_t Shape::elements() const {
  int64_t n = 1;
  for (int64_t d : *this) n *= d;
  return n;
}

bool Shape::operator==(const Shape& other) const {
  return rank_ == other.rank_ && std::equal(begin(), end(), other.begin());
}

std::string to_string(const Shape& shape) {
  std::string s = "[";
  for (int i = 0; i < shape.rank(); ++i) s += (i ? ", " : "") + std::to_string(shape[i]);
  return s + "]";
}

}  // namespace plume
