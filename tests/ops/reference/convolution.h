// Naive references of convolutions and of the matrix product, in double precision.
#pragma once
#include "engine/ops/conv2d.h"
#include "tests/ops/reference/elementwise.h"

namespace plume::test::reference {

// y = activation(accumulator * scale[k] + shift[k] + residual), or with the residual last; undefined parts
// are left out.
struct EpilogueArrays {
  const Array &scale, &shift, &residual;
  Activation activation = Activation::identity;
  bool residual_last = false;

  Real operator()(Sum sum, int64_t k, int64_t index) const {
    if (!scale.defined() && shift.defined()) sum += shift[k];  // a bias may be where the sum starts
    Real v = sum;
    if (scale.defined()) v = v * scale[k];
    if (scale.defined() && shift.defined()) v = v + shift[k];
    if (residual.defined() && !residual_last) v = v + residual[index];
    v = activate(activation, v);
    if (residual.defined() && residual_last) v = v + residual[index];
    return v;
  }
};

// Calls f(n, p, q, h, w, r, s) for every pair of output and input element that the filter connects.
template <class F>
void for_each_tap(const Shape& x, const Shape& w, const Shape& y, const Conv2dParams& params, F&& f) {
  for (int64_t n = 0; n < y[0]; ++n)
    for (int64_t p = 0; p < y[1]; ++p)
      for (int64_t q = 0; q < y[2]; ++q)
        for (int64_t r = 0; r < w[1]; ++r)
          for (int64_t s = 0; s < w[2]; ++s) {
            const int64_t ih = p * params.stride - params.padding + r * params.dilation;
            const int64_t iw = q * params.stride - params.padding + s * params.dilation;
            if (ih >= 0 && ih < x[1] && iw >= 0 && iw < x[2]) f(n, p, q, ih, iw, r, s);
          }
}

inline void conv2d(const Array& x, const Array& w, const Conv2dParams& params, const EpilogueArrays& epilogue,
                   Array& y) {
  const int64_t filters = w.dim(0), channels = w.dim(3);
  std::vector<Sum> sums(size_t(y.size()));
  for_each_tap(x.shape, w.shape, y.shape, params,
               [&](auto n, auto p, auto q, auto ih, auto iw, auto r, auto s) {
                 for (int64_t k = 0; k < filters; ++k)
                   for (int64_t c = 0; c < channels; ++c)
                     sums[size_t(&y.at(n, p, q, k) - &y[0])] += x.at(n, ih, iw, c) * w.at(k, r, s, c);
               });
  for (int64_t i = 0; i < y.size(); ++i) y[i] = epilogue(sums[size_t(i)], i % filters, i);
}

inline void conv2d_backward_input(const Array& dy, const Array& w, const Conv2dParams& params, Array& dx) {
  std::vector<Sum> sums(size_t(dx.size()));
  for_each_tap(dx.shape, w.shape, dy.shape, params,
               [&](auto n, auto p, auto q, auto ih, auto iw, auto r, auto s) {
                 for (int64_t k = 0; k < w.dim(0); ++k)
                   for (int64_t c = 0; c < w.dim(3); ++c)
                     sums[size_t(&dx.at(n, ih, iw, c) - &dx[0])] += dy.at(n, p, q, k) * w.at(k, r, s, c);
               });
  for (int64_t i = 0; i < dx.size(); ++i) dx[i] = sums[size_t(i)];
}

inline void conv2d_backward_weight(const Array& x, const Array& dy, const Conv2dParams& params, Array& dw) {
  std::vector<Sum> sums(size_t(dw.size()));
  for_each_tap(x.shape, dw.shape, dy.shape, params,
               [&](auto n, auto p, auto q, auto ih, auto iw, auto r, auto s) {
                 for (int64_t k = 0; k < dw.dim(0); ++k)
                   for (int64_t c = 0; c < dw.dim(3); ++c)
                     sums[size_t(&dw.at(k, r, s, c) - &dw[0])] += dy.at(n, p, q, k) * x.at(n, ih, iw, c);
               });
  for (int64_t i = 0; i < dw.size(); ++i) dw[i] = sums[size_t(i)];
}

// w [R, S, C]: calls f(n, p, q, h, w, r, s, c) for every product of a depthwise convolution.
template <class F>
void for_each_depthwise_product(const Shape& x, const Shape& w, const Shape& y, const Conv2dParams& params,
                                F&& f) {
  for_each_tap(x, {w[2], w[0], w[1], w[2]}, y, params,
               [&](auto n, auto p, auto q, auto ih, auto iw, auto r, auto s) {
                 for (int64_t c = 0; c < w[2]; ++c) f(n, p, q, ih, iw, r, s, c);
               });
}
inline void depthwise_conv2d(const Array& x, const Array& w, const Conv2dParams& params,
                             const EpilogueArrays& epilogue, Array& y) {
  std::vector<Sum> sums(size_t(y.size()));
  for_each_depthwise_product(x.shape, w.shape, y.shape, params,
                             [&](auto n, auto p, auto q, auto ih, auto iw, auto r, auto s, auto c) {
                               sums[size_t(&y.at(n, p, q, c) - &y[0])] +=
                                   x.at(n, ih, iw, c) * w.at(r * w.dim(1) + s, c);
                             });
  for (int64_t i = 0; i < y.size(); ++i) y[i] = epilogue(sums[size_t(i)], i % w.dim(2), i);
}

inline void depthwise_conv2d_backward_input(const Array& dy, const Array& w, const Conv2dParams& params,
                                            Array& dx) {
  std::vector<Sum> sums(size_t(dx.size()));
  for_each_depthwise_product(dx.shape, w.shape, dy.shape, params,
                             [&](auto n, auto p, auto q, auto ih, auto iw, auto r, auto s, auto c) {
                               sums[size_t(&dx.at(n, ih, iw, c) - &dx[0])] +=
                                   dy.at(n, p, q, c) * w.at(r * w.dim(1) + s, c);
                             });
  for (int64_t i = 0; i < dx.size(); ++i) dx[i] = sums[size_t(i)];
}
inline void depthwise_conv2d_backward_weight(const Array& x, const Array& dy, const Conv2dParams& params,
                                             Array& dw) {
  std::vector<Sum> sums(size_t(dw.size()));
  for_each_depthwise_product(x.shape, dw.shape, dy.shape, params,
                             [&](auto n, auto p, auto q, auto ih, auto iw, auto r, auto s, auto c) {
                               sums[size_t(&dw.at(r * dw.dim(1) + s, c) - &dw[0])] +=
                                   dy.at(n, p, q, c) * x.at(n, ih, iw, c);
                             });
  for (int64_t i = 0; i < dw.size(); ++i) dw[i] = sums[size_t(i)];
}

// y[n, k] = epilogue(sum over c of x[n, c] w[k, c])
inline void linear(const Array& x, const Array& w, const EpilogueArrays& epilogue, Array& y) {
  for (int64_t n = 0; n < x.dim(0); ++n)
    for (int64_t k = 0; k < w.dim(0); ++k) {
      Sum sum;
      for (int64_t c = 0; c < x.dim(1); ++c) sum += x.at(n, c) * w.at(k, c);
      y.at(n, k) = epilogue(sum, k, n * w.dim(0) + k);
    }
}
inline void linear_backward_input(const Array& dy, const Array& w, Array& dx) {
  for (int64_t n = 0; n < dx.dim(0); ++n)
    for (int64_t c = 0; c < dx.dim(1); ++c) {
      Sum sum;
      for (int64_t k = 0; k < w.dim(0); ++k) sum += dy.at(n, k) * w.at(k, c);
      dx.at(n, c) = sum;
    }
}
inline void linear_backward_weight(const Array& x, const Array& dy, Array& dw) {
  for (int64_t k = 0; k < dw.dim(0); ++k)
    for (int64_t c = 0; c < dw.dim(1); ++c) {
      Sum sum;
      for (int64_t n = 0; n < x.dim(0); ++n) sum += dy.at(n, k) * x.at(n, c);
      dw.at(k, c) = sum;
    }
}

}  // namespace plume::test::reference
