// conv2d_interleave: for evaluation, a 1x1 convolution with all that follows it, whose output is shuffled
// with the channels that passed it by (engine/ops/interleave.h):
//
//   b = epilogue(conv1x1(x, w));  y[2 i] = a[i], y[2 i + 1] = b[i];  as one tensor, or as its two halves
//   x [N, H, W, C], w [K, 1, 1, C], a [N, H, W, K], y [N, H, W, 2 K]
//
// b is not stored: the convolution writes into its place of y. Records nothing.
//
// Rows may also be padded to whole chunks of 8 channels, which 16-bit kernels move at once: a and y then have
// chunked_channels(K) and chunked_channels(2 K) places, of which the last are no channel's; of the halves y0
// is like a, and y1 begins with the chunk that the border lies in, second_half_begin(K) places before the
// half itself. Such places are written as zeros, and not read.
#pragma once
#include <utility>

#include "engine/ops/conv2d.h"

namespace plume {

inline constexpr int64_t kChannelChunk = 8;
constexpr int64_t chunked_channels(int64_t channels) {
  return (channels + kChannelChunk - 1) / kChannelChunk * kChannelChunk;
}
constexpr int64_t second_half_begin(int64_t channels) { return channels % kChannelChunk; }

// y and an undefined tensor, or with `split` its halves. `padded`: in rows of whole chunks, as a may be, too;
// the epilogue's shift may be longer than K. Its residual is undefined.
std::pair<Tensor, Tensor> conv2d_interleave(const Tensor& x, const Tensor& weight, const Conv2dParams& params,
                                            const Epilogue& epilogue, const Tensor& a, bool split,
                                            bool padded);

// y1 undefined: y0 is all of y. Defined: y0 and y1 are its halves.
using Conv2dInterleaveForward = void(Context&, const Tensor& x, const Tensor& w, const Conv2dParams&,
                                     const Epilogue&, const Tensor& a, Tensor& y0, Tensor& y1);
extern KernelSlot<Conv2dInterleaveForward> conv2d_interleave_forward;

}  // namespace plume
