// Naive references of pooling, in double precision.
#pragma once
#include "engine/ops/max_pool2d.h"
#include "tests/support/array.h"

namespace plume::test::reference {

// The first largest value of each window in row-major order; argmax is its place
// r * window + s in there.
inline void max_pool2d(const Array& x, const MaxPool2dParams& params, Array& y, Array& argmax) {
  for (int64_t n = 0; n < y.dim(0); ++n)
    for (int64_t p = 0; p < y.dim(1); ++p)
      for (int64_t q = 0; q < y.dim(2); ++q)
        for (int64_t c = 0; c < y.dim(3); ++c) {
          int64_t best = -1;
          for (int64_t r = 0; r < params.window; ++r)
            for (int64_t s = 0; s < params.window; ++s) {
              const int64_t ih = p * params.stride - params.padding + r;
              const int64_t iw = q * params.stride - params.padding + s;
              if (!x.inside(ih, iw)) continue;
              const Real v = x.at(n, ih, iw, c);
              const Real& winner = y.at(n, p, q, c);
              if (best < 0 || v > winner || (std::isnan(v.value) && !std::isnan(winner.value))) {
                best = r * params.window + s;
                y.at(n, p, q, c) = v;
              }
            }
          argmax.at(n, p, q, c) = double(best);
        }
}
inline void max_pool2d_backward(const Array& dy, const Array& argmax, const MaxPool2dParams& params,
                                Array& dx) {
  std::vector<Sum> sums(size_t(dx.size()));
  for (int64_t n = 0; n < dy.dim(0); ++n)
    for (int64_t p = 0; p < dy.dim(1); ++p)
      for (int64_t q = 0; q < dy.dim(2); ++q)
        for (int64_t c = 0; c < dy.dim(3); ++c) {
          const int64_t place = int64_t(argmax.at(n, p, q, c).value);
          const int64_t h = p * params.stride - params.padding + place / params.window;
          const int64_t w = q * params.stride - params.padding + place % params.window;
          sums[size_t(&dx.at(n, h, w, c) - &dx[0])] += dy.at(n, p, q, c);
        }
  for (int64_t i = 0; i < dx.size(); ++i) dx[i] = sums[size_t(i)];
}

inline void global_avg_pool(const Array& x, Array& y) {
  const double area = double(x.dim(1) * x.dim(2));
  for (int64_t n = 0; n < x.dim(0); ++n)
    for (int64_t c = 0; c < x.dim(3); ++c) {
      Sum sum;
      for (int64_t ih = 0; ih < x.dim(1); ++ih)
        for (int64_t iw = 0; iw < x.dim(2); ++iw) sum += x.at(n, ih, iw, c);
      y.at(n, c) = Real(sum) / area;
    }
}
inline void global_avg_pool_backward(const Array& dy, Array& dx) {
  const double area = double(dx.dim(1) * dx.dim(2));
  for (int64_t n = 0; n < dx.dim(0); ++n)
    for (int64_t ih = 0; ih < dx.dim(1); ++ih)
      for (int64_t iw = 0; iw < dx.dim(2); ++iw)
        for (int64_t c = 0; c < dx.dim(3); ++c) dx.at(n, ih, iw, c) = dy.at(n, c) / area;
}

}  // namespace plume::test::reference
