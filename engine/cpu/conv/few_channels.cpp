// conv2d forward of images of one to three channels in f32, row by row: few_channels_row.h says how. The
// image rows under a row of outputs are copied, with their padding, into lines that stay in the first cache;
// the next row of outputs needs `stride` new ones.
//
// FLOPs: 2 N P Q K R S C, the bound. Bytes: x and y once.
#include <algorithm>
#include <bit>

#include "engine/cpu/conv/few_channels_row.h"
#include "engine/cpu/conv/own_conv2d.h"
#include "engine/cpu/conv/panel_gemm.h"
#include "engine/cpu/parallel.h"
#include "engine/cpu/scratch.h"

namespace plume::cpu {
namespace {

constexpr int kMostFilterRows = 16;
// With more, there are sums enough in flight in any loop, and y is what takes the time.
constexpr int64_t kMostFilters = 32;

FewChannelsRowKernel* row_kernel(int64_t step) {
#if defined(__x86_64__)
  if (has_avx512()) return few_channels_row_avx512(step);
#endif
  return few_channels_row_kernel<Lanes8>(step);
}

// The padded rows of an image that lie under a filter.
class Lines {
 public:
  Lines(const Tensor& x, int filter_rows, int padding)
      : height_(x.dim(1)),
        row_(x.dim(2) * x.dim(3)),
        padding_(padding * x.dim(3)),
        rows_(filter_rows),
        places_(int64_t(std::bit_ceil(unsigned(filter_rows)))) {
    static thread_local Scratch<float> scratch;
    length_ = row_ + 2 * padding_ + kFewChannelsSlack;
    memory_ = scratch.get(places_ * length_);
    std::fill_n(memory_, places_ * length_, 0.0f);
  }
  void begin(const float* image) {
    image_ = image;
    next_ = -height_ - rows_;  // none is there
  }
  // Rows first, first + 1, ... of the image.
  void find(int64_t first, const float** lines) {
    for (int64_t h = std::max(next_, first); h < first + rows_; ++h) {
      float* const to = line(h) + padding_;
      if (h >= 0 && h < height_)
        std::copy_n(image_ + h * row_, row_, to);
      else
        std::fill_n(to, row_, 0.0f);
    }
    next_ = first + rows_;
    for (int64_t r = 0; r < rows_; ++r) lines[r] = line(first + r);
  }

 private:
  float* line(int64_t h) const { return memory_ + (h & (places_ - 1)) * length_; }

  const float* image_ = nullptr;
  int64_t height_, row_, padding_, rows_, places_, length_ = 0, next_ = 0;
  float* memory_ = nullptr;
};

void run(Context&, const Tensor& x, const Tensor& w, const Conv2dParams& params, const Epilogue& epilogue,
         Tensor& y) {
  const int64_t height = y.dim(1), width = y.dim(2), filters = y.dim(3), depth = w.dim(2) * w.dim(3);
  const int filter_rows = int(w.dim(1));
  std::vector<float> made;
  if (!params.packed) made = pack_panels(w.data<float>(), filters, w.size() / filters);
  const std::vector<float>& panels = params.packed ? pack_for_indirect_gemm(w, *params.packed) : made;
  FewChannelsRowKernel* const kernel = row_kernel(params.stride * x.dim(3));
  const float* const in = x.data<float>();
  float* const out = y.data<float>();
  const EpilogueView<float> e(epilogue);
  parallel_for(x.dim(0) * height, row_grain(width * filters * filter_rows), [&](int64_t begin, int64_t end) {
    Lines lines(x, filter_rows, params.padding);
    const float* pointers[kMostFilterRows];
    for (int64_t row = begin; row < end; ++row) {
      const int64_t n = row / height, p = row % height, at = row * width * filters;
      if (row == begin || p == 0) lines.begin(in + n * (x.size() / x.dim(0)));
      lines.find(p * params.stride - params.padding, pointers);
      kernel({pointers, filter_rows, depth, panels.data(), filter_rows * depth * kPanelColumns, filters,
              channel_epilogue(e, 0, at), out + at, width});
    }
  });
}

bool fits(const Context&, const Tensor& x, const Tensor& w, const Conv2dParams& p, const Epilogue& e,
          Tensor& y) {
  return x.dtype() == DType::f32 && x.dim(3) <= 3 && w.dim(0) % 8 == 0 && w.dim(0) <= kMostFilters &&
         w.dim(1) <= kMostFilterRows && p.dilation == 1 && !e.residual.defined() && y.size() > 0 &&
         row_kernel(p.stride * x.dim(3));
}

const bool registered =
    conv2d_forward.add(Device::cpu, {{"few_channels", fits, run}}, KernelSlotBase::kSpecial + 1);

}  // namespace
}  // namespace plume::cpu
