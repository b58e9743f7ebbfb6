// oneDNN's plans for convolutions, and what describes a problem to it.
#pragma once
#include "engine/cpu/conv/onednn.h"
#include "engine/ops/conv2d.h"

#if PLUME_HAVE_ONEDNN

namespace plume::cpu {

using dnnl::memory;
using Tag = memory::format_tag;
inline constexpr auto kF32 = memory::data_type::f32;
enum class Kind : int64_t { forward, backward_input, backward_weight };

// The problem in oneDNN's terms: dimensions in the order n c h w, whatever the layout in memory.
struct Problem {
  memory::dims x, w, y, strides, dilation, padding, padding_after;

  Problem(const Shape& xs, const Shape& ws, const Shape& ys, const Conv2dParams& p)
      : x{xs[0], xs[3], xs[1], xs[2]},
        w{ws[0], ws[3], ws[1], ws[2]},
        y{ys[0], ys[3], ys[1], ys[2]},
        strides{p.stride, p.stride},
        dilation{p.dilation - 1, p.dilation - 1},
        padding{p.padding, p.padding},
        padding_after{after(xs[1], ws[1], ys[1], p), after(xs[2], ws[2], ys[2], p)} {}

  std::array<int64_t, 14> key(Kind kind, int64_t detail) const {
    return {int64_t(kind), detail, x[0], x[1], x[2],       x[3],        w[0],
            w[2],          w[3],   y[2], y[3], strides[0], dilation[0], padding[0]};
  }

 private:
  // What the last window needs beyond the image: less than the padding when the stride does not divide, and
  // negative when input is left over.
  static int64_t after(int64_t in, int64_t filter, int64_t out, const Conv2dParams& p) {
    return (out - 1) * p.stride + p.dilation * (filter - 1) + 1 - in - p.padding;
  }
};

// Blocks of eight suit AVX2; newer instruction sets have fast NHWC kernels.
bool use_blocked(const Problem& problem);

struct Plan {
  bool blocked = false;
  dnnl::primitive primitive;  // with memory of the caller's, so that several threads may execute it at once
  memory::desc x, w, y, shift, scratchpad;
  dnnl::reorder filter_reorder;  // into the primitive's layout, or out of it for the filter's gradient
};

// Bits of an epilogue that change the primitive.
inline constexpr int64_t kShift = 1, kScale = 2;

std::unique_ptr<Plan> make_plan(Kind kind, const Problem& q, int64_t epilogue_parts);
memory::desc plain_filter(const Tensor& w);

}  // namespace plume::cpu
#endif  // PLUME_HAVE_ONEDNN
