// The epilogue (engine/math/epilogue.h) of a vector of channels, for loops that are compiled for several
// processors: as depthwise_row.h, this holds plain pointers and templates over `Lanes` only.
#pragma once
#include <cstdint>

#include "engine/math/activation.h"

namespace plume::cpu {

// Pointers at the loop's first channel and output; null stands for an absent part.
struct ChannelEpilogue {
  const float* scale = nullptr;
  const float* shift = nullptr;
  const float* residual = nullptr;  // like the output
  Activation activation = Activation::identity;
  bool adds_last = false;  // the residual, behind the activation
};

// out[at...] = epilogue(v) for the channels from c on, but for a residual behind the activation: a branch
// there would keep the compiler from computing the activation without any. Always inlined, since no vector
// register outlives a call.
template <class Lanes, Activation kActivation>
[[gnu::always_inline]] inline void finish_channels(typename Lanes::Vector v, const ChannelEpilogue& e,
                                                   int64_t c, int64_t at, float* out) {
  if (e.scale) v *= Lanes::load(e.scale + c);
  if (e.shift) v += Lanes::load(e.shift + c);
  if (e.residual && !e.adds_last) v += Lanes::load(e.residual + at);
  Lanes::store(out + at, activate(kActivation, v));
}

// What then is left to do where e.adds_last.
template <class Lanes>
inline void add_last(const ChannelEpilogue& e, int64_t at, float* out) {
  Lanes::store(out + at, Lanes::load(out + at) + Lanes::load(e.residual + at));
}

}  // namespace plume::cpu
