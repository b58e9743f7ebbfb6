#include "engine/ops/partial_sums.h"

#include <algorithm>

namespace plume {

constinit KernelSlot<PartialSums> partial_sums{"partial_sums", costs<CallClass::movement>};

namespace {

constexpr size_t kMostBytes = size_t{32} << 20;  // less than the L2 of a large GPU

struct Waiting {
  int scopes = 0;
  size_t bytes = 0;
  std::vector<PartialSum> sums;
};
thread_local Waiting waiting;

}  // namespace

void finish_sum(Context& context, const Tensor& partial, const Tensor& out, int64_t first) {
  if (waiting.scopes == 0) {
    std::vector<PartialSum> one{{partial, out, first}};
    return partial_sums(context, one);
  }
  waiting.sums.push_back({partial, out, first});
  waiting.bytes += partial.bytes();
  if (waiting.bytes > kMostBytes) settle_sums();
}

SumsPutOff::SumsPutOff() { ++waiting.scopes; }
SumsPutOff::~SumsPutOff() {
  if (--waiting.scopes > 0) return;
  waiting.sums.clear();
  waiting.bytes = 0;
}

void settle_sums() {
  if (waiting.sums.empty()) return;
  std::vector<PartialSum> sums = std::move(waiting.sums);
  waiting.sums.clear();
  waiting.bytes = 0;
  partial_sums(context(sums.front().out.device()), sums);
}

void settle_sums_of(const Tensor& out) {
  const bool waits = std::any_of(waiting.sums.begin(), waiting.sums.end(),
                                 [&](const PartialSum& sum) { return sum.out.same_storage(out); });
  if (waits) settle_sums();
}

}  // namespace plume
