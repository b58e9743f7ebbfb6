// conv2d_max_pool of images of one to three channels in f32, a pooled row at a time: the convolution's rows
// under it stay in the second cache (85 KB of them under 3x3, 64 filters and 112 columns), so that what is
// pooled is neither written to memory nor read again.
//
// FLOPs: those of the convolution, the bound; each piece of work computes the rows once more that it shares
// with the one before. Bytes: x and y once.
#include <algorithm>

#include "engine/cpu/conv/few_channels.h"
#include "engine/cpu/conv/panel_gemm.h"
#include "engine/cpu/max_pool_row.h"
#include "engine/cpu/parallel.h"
#include "engine/cpu/scratch.h"
#include "engine/ops/conv2d_max_pool.h"

namespace plume::cpu {
namespace {

// Of a piece: a 3x3 window with stride 2 then computes 27 rows for 26, and 55 or 56 pooled rows make four.
constexpr int64_t kLeastRows = 13;

void run(Context&, const Tensor& x, const Tensor& w, const Conv2dParams& params, const Epilogue& epilogue,
         const MaxPool2dParams& pool, Tensor& y) {
  const FewChannels job(x, w, params, epilogue);
  const Shape whole = conv2d_shape(x.shape(), w.shape(), params);
  const int64_t height = whole[1], line = whole[2] * whole[3], out_height = y.dim(1);
  parallel_for(y.dim(0) * out_height, kLeastRows, [&](int64_t begin, int64_t end) {
    static thread_local Scratch<float> scratch;
    float* const rows = scratch.get((pool.window + 1) * line);
    FewChannels::Rows convolution(job);
    int64_t image = -1, first = 0, last = 0;  // rows first..last-1 of `image` are at hand
    for (int64_t i = begin; i < end; ++i) {
      const int64_t n = i / out_height, top = i % out_height * pool.stride - pool.padding;
      const int64_t h0 = std::max<int64_t>(top, 0), h1 = std::min(top + pool.window, height);
      if (n != image || last <= h0)
        last = h0;
      else if (first < h0)
        std::copy(rows + (h0 - first) * line, rows + (last - first) * line, rows);
      image = n, first = h0;
      for (; last < h1; ++last) convolution.compute(n, last, rows + (last - first) * line);
      max_pool_row({rows, h1 - h0, whole[2], whole[3], pool.window, pool.stride, pool.padding,
                    rows + pool.window * line, y.data<float>() + i * y.dim(2) * y.dim(3), y.dim(2)});
    }
  });
}

bool fits(const Context&, const Tensor& x, const Tensor& w, const Conv2dParams& p, const Epilogue& e,
          const MaxPool2dParams&, Tensor& y) {
  return FewChannels::fits(x, w, p, e) && y.size() > 0;
}

const bool registered =
    conv2d_max_pool_forward.add(Device::cpu, {{"few_channels", fits, run}}, KernelSlotBase::kSpecial + 1);

}  // namespace
}  // namespace plume::cpu
