// A launch and what the counters make of it.
#pragma once
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <memory>

#include "kernels/simt/count_trace.h"
#include "tests/simt/counted_kernels.h"

namespace plume::PLUME_KERNELS {

// On the heap, at a multiple of 4 KiB: `offset` bytes after it.
template <class T>
struct CountedArray {
  explicit CountedArray(size_t values)
      : memory(std::aligned_alloc(4096, (values * sizeof(T) / 4096 + 1) * 4096)) {
    std::fill_n(static_cast<T*>(memory), values, T(1.0f));
  }
  ~CountedArray() { std::free(memory); }
  CountedArray(const CountedArray&) = delete;
  CountedArray& operator=(const CountedArray&) = delete;
  T* get() const { return static_cast<T*>(memory); }
  const T* in() const { return static_cast<const T*>(memory); }
  void* memory;
};

template <class Launch>
CountedLaunch counted(Launch&& launch, const CountOptions& options = {}) {
  simt::emu::counter().begin(options);
  launch();
  const std::vector<CountedLaunch> launches = simt::emu::counter().end();
  EXPECT_EQ(launches.size(), 1u);
  return launches.back();
}
template <auto kKernel, class... Args>
KernelCounts warp_counts(Args... args) {
  return counted([&] { simt::launch<kKernel>({1, 32, 0, {}}, args...); }).counts;
}

class Counts : public testing::Test {
 protected:
  CountedArray<float> in_{1 << 16}, out_{1 << 16};
};

}  // namespace plume::PLUME_KERNELS
