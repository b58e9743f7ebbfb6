// conv2d forward of images of one to three channels in f32, row by row: few_channels_row.h says how. The
// image rows under a row of outputs are copied, with their padding, into lines that stay in the first cache;
// the next row of outputs needs `stride` new ones.
//
// FLOPs: 2 N P Q K R S C, the bound. Bytes: x and y once.
#include "engine/cpu/conv/few_channels.h"

#include <algorithm>
#include <bit>

#include "engine/cpu/conv/own_conv2d.h"
#include "engine/cpu/conv/panel_gemm.h"
#include "engine/cpu/parallel.h"
#include "engine/cpu/scratch.h"

namespace plume::cpu {
namespace {

FewChannelsRowKernel* row_kernel(int64_t step) {
#if defined(__x86_64__)
  if (has_avx512()) return few_channels_row_avx512(step);
#endif
  return few_channels_row_kernel<Lanes8>(step);
}

}  // namespace

FewChannels::FewChannels(const Tensor& x, const Tensor& w, const Conv2dParams& params,
                         const Epilogue& epilogue)
    : x_(x),
      w_(w),
      params_(params),
      epilogue_(epilogue),
      out_width_(conv2d_shape(x.shape(), w.shape(), params)[2]),
      kernel_(row_kernel(params.stride * x.dim(3))) {
  if (!params.packed) made_ = pack_panels(w.data<float>(), w.dim(0), w.size() / w.dim(0));
  panels_ = params.packed ? pack_for_indirect_gemm(w, *params.packed).data() : made_.data();
}

bool FewChannels::fits(const Tensor& x, const Tensor& w, const Conv2dParams& p, const Epilogue& e) {
  return x.dtype() == DType::f32 && x.dim(3) <= 3 && w.dim(0) % 8 == 0 && w.dim(1) <= kMostFilterRows &&
         p.dilation == 1 && !e.residual.defined() && row_kernel(p.stride * x.dim(3));
}

FewChannels::Rows::Rows(const FewChannels& job)
    : job_(job),
      rows_(job.w_.dim(1)),
      places_(int64_t(std::bit_ceil(uint64_t(rows_)))),
      padding_(job.params_.padding * job.x_.dim(3)),
      length_(job.x_.dim(2) * job.x_.dim(3) + 2 * padding_ + kFewChannelsSlack) {
  static thread_local Scratch<float> scratch;
  memory_ = scratch.get(places_ * length_);
  std::fill_n(memory_, places_ * length_, 0.0f);
}

// Rows first, first + 1, ... of the image, where there are any.
void FewChannels::Rows::find(int64_t n, int64_t first) {
  const int64_t height = job_.x_.dim(1), row = job_.x_.dim(2) * job_.x_.dim(3);
  if (n != image_ || first + rows_ < next_) next_ = first;  // nothing is there
  image_ = n;
  for (int64_t h = std::max(next_, first); h < first + rows_; ++h) {
    float* const to = line(h) + padding_;
    if (h >= 0 && h < height)
      std::copy_n(job_.x_.data<float>() + (n * height + h) * row, row, to);
    else
      std::fill_n(to, row, 0.0f);
  }
  next_ = first + rows_;
  for (int64_t r = 0; r < rows_; ++r) lines_[r] = line(first + r);
}

void FewChannels::Rows::compute(int64_t n, int64_t p, float* out) {
  find(n, p * job_.params_.stride - job_.params_.padding);
  const int64_t depth = job_.w_.dim(2) * job_.w_.dim(3);
  job_.kernel_({lines_, int(rows_), depth, job_.panels_, rows_ * depth * kPanelColumns, job_.w_.dim(0),
                channel_epilogue(job_.epilogue_, 0, 0), out, job_.out_width_});
}

namespace {

// With more, there are sums enough in flight in any loop, and y is what takes the time.
constexpr int64_t kMostFilters = 32;

void run(Context&, const Tensor& x, const Tensor& w, const Conv2dParams& params, const Epilogue& epilogue,
         Tensor& y) {
  const FewChannels job(x, w, params, epilogue);
  const int64_t height = y.dim(1), line = y.dim(2) * y.dim(3);
  parallel_for(y.dim(0) * height, row_grain(line * w.dim(1)), [&](int64_t begin, int64_t end) {
    FewChannels::Rows rows(job);
    for (int64_t i = begin; i < end; ++i) rows.compute(i / height, i % height, y.data<float>() + i * line);
  });
}

bool fits(const Context&, const Tensor& x, const Tensor& w, const Conv2dParams& p, const Epilogue& e,
          Tensor& y) {
  return FewChannels::fits(x, w, p, e) && w.dim(0) <= kMostFilters && y.size() > 0;
}

const bool registered =
    conv2d_forward.add(Device::cpu, {{"few_channels", fits, run}}, KernelSlotBase::kSpecial + 1);

}  // namespace
}  // namespace plume::cpu
