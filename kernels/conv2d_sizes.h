// The sizes of a convolution, named once for kernels and launchers.
#pragma once
#include "engine/ops/conv2d.h"
#include "kernels/common/kernel.h"

namespace plume::PLUME_KERNELS {

struct ConvSizes {
  int images, height, width, channels;       // x [N, H, W, C]
  int filters, filter_height, filter_width;  // w [K, R, S, C]
  int out_height, out_width;                 // y [N, P, Q, K]
  int stride, padding, dilation;

  ConvSizes(const Tensor& x, const Tensor& w, const Tensor& y, const Conv2dParams& p)
      : ConvSizes(x, w, y.shape(), p) {}
  ConvSizes(const Tensor& x, const Tensor& w, const Shape& y, const Conv2dParams& p)
      : images(int(x.dim(0))),
        height(int(x.dim(1))),
        width(int(x.dim(2))),
        channels(int(x.dim(3))),
        filters(int(w.dim(0))),
        filter_height(int(w.dim(1))),
        filter_width(int(w.dim(2))),
        out_height(int(y[1])),
        out_width(int(y[2])),
        stride(p.stride),
        padding(p.padding),
        dilation(p.dilation) {}

  PLUME_HD int patch() const { return filter_height * filter_width * channels; }
  PLUME_HD int64_t out_pixels() const { return int64_t(images) * out_height * out_width; }
  PLUME_HD bool inside(int h, int w) const {
    return unsigned(h) < unsigned(height) && unsigned(w) < unsigned(width);
  }
  PLUME_HD bool inside_output(int p, int q) const {
    return unsigned(p) < unsigned(out_height) && unsigned(q) < unsigned(out_width);
  }
  PLUME_HD int64_t x_offset(int n, int h, int w, int c) const {
    return ((int64_t(n) * height + h) * width + w) * channels + c;
  }
  PLUME_HD int64_t w_offset(int k, int r, int s, int c) const {
    return ((int64_t(k) * filter_height + r) * filter_width + s) * channels + c;
  }
  PLUME_HD int64_t y_offset(int n, int p, int q, int k) const {
    return ((int64_t(n) * out_height + p) * out_width + q) * filters + k;
  }
};

// The parts of a linear index over [a, h, w, c], outermost first.
struct Index4 {
  int a, h, w, c;

  PLUME_HD Index4(int64_t i, int height, int width, int channels) {
    const int64_t pixel = i / channels, row = pixel / width;
    c = int(i - pixel * channels);
    w = int(pixel - row * width);
    a = int(row / height);
    h = int(row - int64_t(a) * height);
  }
};

}  // namespace plume::PLUME_KERNELS
