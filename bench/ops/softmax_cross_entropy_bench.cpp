#include "engine/ops/softmax_cross_entropy.h"

#include "bench/support/slot_bench.h"

namespace plume {

std::string describe(const Targets& targets) { return targets.labels.defined() ? "labels" : "soft"; }
std::string describe(const CrossEntropyParams& p) { return message("smoothing{}", p.label_smoothing); }

namespace bench {
namespace {

const bool softmax_cross_entropy_registered = bench_slot<softmax_cross_entropy_forward>() &&
                                              bench_slot<softmax_cross_entropy_backward>() &&
                                              bench_slot<mean_forward>();

}  // namespace
}  // namespace bench
}  // namespace plume
