// Multiply-adds of a forward pass, counted while it runs.
//
// Convolutions and linear layers report what they do; everything else is not counted, as is usual. FLOPs are
// twice the MACs.
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>

namespace plume {

// What the MACs belong to: filters larger than one pixel, 1x1 filters, one filter per channel, fully
// connected layers, the two products of squeeze-excitation.
enum class Work : uint8_t { dense, pointwise, depthwise, linear, squeeze_excitation };
inline constexpr int kWorkKinds = 5;
const char* name(Work work);

// While alive, adds up the MACs of the operations that this thread runs. May be nested: all of them count.
class CostCounter {
 public:
  CostCounter();
  ~CostCounter();
  CostCounter(const CostCounter&) = delete;
  CostCounter& operator=(const CostCounter&) = delete;

  int64_t macs() const;
  int64_t macs(Work work) const { return macs_[size_t(work)]; }

 private:
  friend void count_macs(Work work, int64_t macs);
  std::array<int64_t, kWorkKinds> macs_{};
  CostCounter* outer_;
};

// Called by operations in their forward pass.
void count_macs(Work work, int64_t macs);

}  // namespace plume
