// What every kernels/*.cu includes first: the launch layer and the device this compilation is for.
#pragma once
#include "engine/core/dtype.h"
#include "engine/core/kernel_slot.h"
#include "engine/core/view.h"
#include "kernels/simt/simt.h"

// PLUME_KERNELS is the namespace, PLUME_KERNEL_DEVICE the device; the build sets both, so that the two
// compilations of one source live in one process.
namespace plume::PLUME_KERNELS {

inline constexpr Device kThisDevice = Device::PLUME_KERNEL_DEVICE;

inline simt::stream_t stream_of(const Context& context) {
  return static_cast<simt::stream_t>(context.stream());
}

// Calls f with a value of f16 or bf16.
template <class F>
void dispatch_16_bits(DType type, F&& f) {
  type == DType::f16 ? f(f16{}) : f(bf16{});
}

constexpr int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

}  // namespace plume::PLUME_KERNELS
