// partial_sums: the second pass of sums that the blocks of a kernel left in parts, for many results at once.
//
//   out[i] = sum over slices of partial[slice, first + i], in a fixed order    partial f32 [slices, columns]
//
// Nobody reads a parameter's gradient before backward() is done, or before ranks add it up. So while sums are
// put off, kernels that compute such gradients leave their partial sums here, and one launch finishes many.
#pragma once
#include <vector>

#include "engine/core/kernel_slot.h"
#include "engine/core/tensor.h"

namespace plume {

struct PartialSum {
  Tensor partial, out;
  int64_t first = 0;

  template <class Self, class F>
  static void for_each_tensor(Self& self, F&& f) {
    f(self.partial);
    f(self.out);
  }
};

// For kernels: computes out = sum of partial, now or, while sums are put off on this thread, later.
void finish_sum(Context& context, const Tensor& partial, const Tensor& out, int64_t first = 0);

// Puts sums off on this thread while alive: until so much memory waits that it would leave a GPU's cache, or
// somebody wants to read. What is left when it goes without settle() is never computed.
class SumsPutOff {
 public:
  SumsPutOff();
  ~SumsPutOff();
  SumsPutOff(const SumsPutOff&) = delete;
  SumsPutOff& operator=(const SumsPutOff&) = delete;
};
void settle_sums();                      // computes what was put off on this thread
void settle_sums_of(const Tensor& out);  // the same, if that is among it

using PartialSums = void(Context&, std::vector<PartialSum>& sums);
extern KernelSlot<PartialSums> partial_sums;

}  // namespace plume
