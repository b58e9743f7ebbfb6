// Our own f32 convolutions, for operations that contain one. Called inside a parallel region they stay on the
// calling thread.
#pragma once
#include <vector>

#include "engine/cpu/depthwise_row.h"
#include "engine/ops/conv2d.h"

namespace plume::cpu {

// Dense, for constant filters (Conv2dParams::packed). The K channels are written to the channels from `first`
// on of y, which may have more. Residuals only where it has no more.
using ConstantConv2d = void(const Tensor& x, const Tensor& w, const Conv2dParams&, const Epilogue&, Tensor& y,
                            int64_t first);
ConstantConv2d indirect_gemm, winograd_4x4;
bool fits_winograd_4x4(const Tensor& x, const Tensor& w, const Conv2dParams&, const Tensor& y);

// The filter in panels of 16 columns, packed once; calls from several threads must find it packed.
const std::vector<float>& pack_for_indirect_gemm(const Tensor& w, PackedFilter& packed);

// Depthwise, w [R, S, C].
void depthwise_rows(const Tensor& x, const Tensor& w, const Conv2dParams&, const Epilogue&, Tensor& y);
bool fits_depthwise_rows(const Shape& x, const Shape& w, const Conv2dParams&);  // both f32
// Of norm(x), which a thread makes of some rows at a time; likewise the filter's gradient.
class Normaliser;
void normalised_depthwise_rows(const Tensor& x, const Normaliser&, const Tensor& w, const Conv2dParams&,
                               Tensor& y);
void normalised_depthwise_backward_weight(const Tensor& x, const Normaliser&, const Tensor& dy,
                                          const Conv2dParams&, Tensor& dw);

// Row by row, for some channels of many: those of the input lie side by side, those of the filter and of the
// output `pitch` from one tap or pixel to the next.
class DepthwiseChannels {
 public:
  DepthwiseChannels(int64_t width, int64_t channels, int filter, const Conv2dParams&, int64_t pitch,
                    int64_t out_width);
  // Row `out_row` of an image's output. `rows` [.., width, channels] begins with the input's row `first` and
  // has those under the filter; the image is `height` rows high. The other pointers are those of the first
  // of the channels.
  void run(const float* rows, int64_t first, int64_t height, int64_t out_row, const float* w,
           const ChannelEpilogue& epilogue, float* out) const;
  int filter() const { return filter_; }

 private:
  DepthwiseRowKernel* kernel_;
  int64_t width_, channels_, pitch_, out_width_;
  int filter_, stride_, padding_;
  std::vector<float> zeros_;
};

}  // namespace plume::cpu
