#include "engine/profiler/cost.h"

#include <numeric>

namespace plume {
namespace {

CostCounter*& innermost() {
  thread_local CostCounter* counter = nullptr;
  return counter;
}

}  // namespace

const char* name(Work work) {
  constexpr const char* kNames[kWorkKinds] = {"dense", "pointwise", "depthwise", "linear",
                                              "squeeze_excitation"};
  return kNames[size_t(work)];
}

CostCounter::CostCounter() : outer_(innermost()) { innermost() = this; }
CostCounter::~CostCounter() { innermost() = outer_; }

int64_t CostCounter::macs() const { return std::accumulate(macs_.begin(), macs_.end(), int64_t{0}); }

void count_macs(Work work, int64_t macs) {
  for (CostCounter* c = innermost(); c; c = c->outer_) c->macs_[size_t(work)] += macs;
}

}  // namespace plume
