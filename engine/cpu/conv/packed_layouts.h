// The layouts of one constant filter that the cpu variants keep in a PackedFilter.
#pragma once
#include <memory>
#include <vector>

#include "engine/ops/conv2d.h"
#if PLUME_HAVE_ONEDNN
#include <dnnl.hpp>
#endif

namespace plume::cpu {

struct PackedLayouts {
#if PLUME_HAVE_ONEDNN
  std::vector<dnnl::memory> onednn;  // found again by their description
#endif
  std::vector<float> panels;    // of panel_gemm.h; empty: not made yet
  std::vector<float> winograd;  // the same
};

// Not for two threads at once on the same filter.
inline PackedLayouts& packed_layouts(PackedFilter& packed) {
  if (!packed.data) packed.data = std::make_shared<PackedLayouts>();
  return *static_cast<PackedLayouts*>(packed.data.get());
}

}  // namespace plume::cpu
