#include "bench/support/slot_bench.h"

namespace plume::bench {
namespace {

bool recording = false;

}  // namespace

std::vector<OpBench*>& op_benches() {
  static std::vector<OpBench*> benches;
  return benches;
}

Recording::Recording() {
  PLUME_CHECK(!recording, "bench: a recording is under way");
  recording = true;
}
Recording::~Recording() { recording = false; }
bool Recording::active() { return recording; }

PackedFilter& any_packed_filter() {
  static PackedFilter filter;
  return filter;
}

double agreement(DType dtype) {
  switch (dtype) {
    case DType::bf16:
      return 2e-2;
    case DType::f16:
      return 4e-3;
    default:
      return 1e-4;
  }
}

}  // namespace plume::bench
