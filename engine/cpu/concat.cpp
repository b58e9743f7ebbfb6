#include "engine/ops/concat.h"

#include <cstring>

#include "engine/cpu/parallel.h"

namespace plume::cpu {
namespace {

// Bytes per row of a tensor whose last dimension is the row.
size_t row_bytes(const Tensor& t) { return size_t(t.dim(t.rank() - 1)) * size_of(t.dtype()); }

template <class Copy>
void for_each_row(const Tensor& a, const Tensor& b, const Copy& copy) {
  const size_t first = row_bytes(a), second = row_bytes(b);
  if (first + second == 0) return;
  const int64_t rows = first > 0 ? a.size() / a.dim(a.rank() - 1) : b.size() / b.dim(b.rank() - 1);
  parallel_for(rows, row_grain(int64_t(first + second) / 4), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) copy(size_t(row), first, second);
  });
}

void run_forward(Context&, const Tensor& a, const Tensor& b, Tensor& y) {
  const auto *from_a = static_cast<const char*>(a.raw()), *from_b = static_cast<const char*>(b.raw());
  auto* to = static_cast<char*>(y.raw());
  for_each_row(a, b, [=](size_t row, size_t first, size_t second) {
    std::memcpy(to + row * (first + second), from_a + row * first, first);
    std::memcpy(to + row * (first + second) + first, from_b + row * second, second);
  });
}

void run_backward(Context&, const Tensor& dy, Tensor& da, Tensor& db) {
  const auto* from = static_cast<const char*>(dy.raw());
  auto *to_a = static_cast<char*>(da.raw()), *to_b = static_cast<char*>(db.raw());
  for_each_row(da, db, [=](size_t row, size_t first, size_t second) {
    std::memcpy(to_a + row * first, from + row * (first + second), first);
    std::memcpy(to_b + row * second, from + row * (first + second) + first, second);
  });
}

const bool registered = concat_forward.add(Device::cpu, {{"loop", always, run_forward}}) &&
                        concat_backward.add(Device::cpu, {{"loop", always, run_backward}});

}  // namespace
}  // namespace plume::cpu
