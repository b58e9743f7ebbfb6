// Multiply-adds of a forward pass, counted while it runs.
//
// Convolutions and linear layers report what they do; everything else is not counted, as is usual. FLOPs are
// twice the MACs.
#pragma once
#include <cstdint>

namespace plume {

// While alive, adds up the MACs of the operations that this thread runs. May be nested: all of them count.
class CostCounter {
 public:
  CostCounter();
  ~CostCounter();
  CostCounter(const CostCounter&) = delete;
  CostCounter& operator=(const CostCounter&) = delete;

  int64_t macs() const { return macs_; }

 private:
  friend void count_macs(int64_t macs);
  int64_t macs_ = 0;
  CostCounter* outer_;
};

// Called by operations in their forward pass.
void count_macs(int64_t macs);

}  // namespace plume
