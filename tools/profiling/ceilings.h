// What the machine can do at most, measured: the ruler for the operation benchmarks.
#pragma once
#include <cstddef>
#include <map>

#include "engine/core/device.h"
#include "engine/core/dtype.h"

namespace plume::tools {

struct Ceilings {
  double copy_bytes_per_second = 0;          // bytes read plus bytes written
  std::map<DType, double> flops_per_second;  // of the dtypes whose peak is known
  // Seconds below which no operation can be done; 0 when unknown.
  double least_seconds(double bytes, double flops, DType dtype) const;
};

// cpu: a large copy, and fused multiply-adds in registers on all threads (f32). cuda: a large copy, and
// 8192^3 matrix products through the linear slot. simt proves correctness, never speed: nothing is known.
Ceilings measure_ceilings(Device device);

// Argument sets are rotated through more memory than this: the last-level cache and a quarter.
size_t rotation_bytes(Device device);

}  // namespace plume::tools
