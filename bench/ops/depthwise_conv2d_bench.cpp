#include "engine/ops/depthwise_conv2d.h"

#include "bench/support/slot_bench.h"

namespace plume::bench {
namespace {

const bool depthwise_conv2d_registered = bench_slot<depthwise_conv2d_forward>() &&
                                         bench_slot<depthwise_conv2d_backward_input>() &&
                                         bench_slot<depthwise_conv2d_backward_weight>();

}  // namespace
}  // namespace plume::bench
