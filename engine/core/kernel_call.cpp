#include "engine/core/kernel_call.h"

namespace plume {

const char* name(CallClass kind) {
  constexpr const char* kNames[kCallClasses] = {"dense",   "pointwise",  "depthwise",          "linear",
                                                "fused",   "batch_norm", "squeeze_excitation", "activation",
                                                "pooling", "loss",       "optimizer",          "movement"};
  return kNames[size_t(kind)];
}

}  // namespace plume
