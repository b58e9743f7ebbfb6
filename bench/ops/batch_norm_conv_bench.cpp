#include "engine/ops/batch_norm_conv.h"

#include "bench/support/slot_bench.h"

namespace plume {

std::string describe(const KnownNorm& norm) { return name(norm.activation); }

namespace bench {
namespace {

const bool batch_norm_conv_registered = bench_slot<batch_norm_conv_forward>() &&
                                        bench_slot<batch_norm_conv_backward_weight>() &&
                                        bench_slot<batch_norm_conv_backward>();

}  // namespace
}  // namespace bench
}  // namespace plume
