// The extents of a tensor, outermost first: [N, H, W, C] for activations, [K, R, S, C] for filters.
#pragma once
#include <array>
#include <cstdint>
#include <initializer_list>
#include <string>

namespace plume {

class Shape {
 public:
  static constexpr int kMaxRank = 8;

  Shape() = default;
  Shape(std::initializer_list<int64_t> dims) : Shape(dims.begin(), int(dims.size())) {}
  Shape(const int64_t* dims, int rank);  // throws on rank > 8, negative extents, or more than 2^62 elements

  int rank() const { return rank_; }
  int64_t operator[](int i) const { return dims_[size_t(i < 0 ? i + rank_ : i)]; }
  Shape with(int i, int64_t extent) const;  // the same but for dimension i
  int64_t elements() const;                 // 1 for rank 0
  bool operator==(const Shape& other) const;
  const int64_t* begin() const { return dims_.data(); }
  const int64_t* end() const { return dims_.data() + rank_; }

 private:
  std::array<int64_t, kMaxRank> dims_{};
  int rank_ = 0;
};

std::string to_string(const Shape& shape);  // "[3, 7, 7, 64]"

}  // namespace plume
