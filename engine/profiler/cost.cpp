#include "engine/profiler/cost.h"

namespace plume {
namespace {

CostCounter*& innermost() {
  thread_local CostCounter* counter = nullptr;
  return counter;
}

}  // namespace

CostCounter::CostCounter() : outer_(innermost()) { innermost() = this; }
CostCounter::~CostCounter() { innermost() = outer_; }

void count_macs(int64_t macs) {
  for (CostCounter* c = innermost(); c; c = c->outer_) c->macs_ += macs;
}

}  // namespace plume
