// The windows of adaptive pooling along one axis of `in` values and `out` windows.
#pragma once
#include <cstdint>

#include "engine/core/half.h"

namespace plume {

struct AdaptiveWindows {
  int in, out;

  // Window p covers begin(p) <= i < end(p): floor(p in / out) to ceil((p + 1) in / out).
  PLUME_HD int begin(int p) const { return int(int64_t(p) * in / out); }
  PLUME_HD int end(int p) const { return int((int64_t(p + 1) * in + out - 1) / out); }
  PLUME_HD int size(int p) const { return end(p) - begin(p); }

  // Windows first(i) <= p < last(i) cover value i: those with end(p) > i and begin(p) <= i.
  PLUME_HD int first(int i) const { return int(int64_t(i) * out / in); }
  PLUME_HD int last(int i) const { return int((int64_t(i + 1) * out + in - 1) / in); }
};

}  // namespace plume
