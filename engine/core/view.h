// Strided-free views that kernels and loops index by name: at(n, h, w, c), never by hand-carried strides.
#pragma once
#include <cstdint>

#include "engine/core/half.h"
#include "engine/core/tensor.h"

namespace plume {

// Row-major rank-2 view, e.g. [rows, channels].
template <class T>
struct View2 {
  T* data;
  int rows, cols;
  PLUME_HD T& at(int r, int c) const { return data[int64_t(r) * cols + c]; }
};

// NHWC activations, or KRSC filters read as at(k, r, s, c).
template <class T>
struct View4 {
  T* data;
  int n, h, w, c;
  PLUME_HD int64_t offset(int in, int ih, int iw, int ic) const {
    return ((int64_t(in) * h + ih) * w + iw) * c + ic;
  }
  PLUME_HD T& at(int in, int ih, int iw, int ic) const { return data[offset(in, ih, iw, ic)]; }
  PLUME_HD bool inside(int ih, int iw) const {
    return unsigned(ih) < unsigned(h) && unsigned(iw) < unsigned(w);
  }
};

template <class T>
View4<T> view4(Tensor& t) {
  return {t.data<T>(), int(t.dim(0)), int(t.dim(1)), int(t.dim(2)), int(t.dim(3))};
}
template <class T>
View4<const T> view4(const Tensor& t) {
  return {t.data<T>(), int(t.dim(0)), int(t.dim(1)), int(t.dim(2)), int(t.dim(3))};
}
// Any tensor as rows x (last dimension).
template <class T>
View2<T> rows_view(Tensor& t) {
  return {t.data<T>(), int(t.size() / t.dim(-1)), int(t.dim(-1))};
}
template <class T>
View2<const T> rows_view(const Tensor& t) {
  return {t.data<T>(), int(t.size() / t.dim(-1)), int(t.dim(-1))};
}

}  // namespace plume
