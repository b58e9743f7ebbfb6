#include "engine/ops/adaptive_avg_pool2d.h"

#include <gtest/gtest.h>

#include "tests/support/check_op.h"

namespace plume::test {
namespace {

struct AdaptivePoolCase {
  Shape x, y;
};

std::vector<AdaptivePoolCase> adaptive_pool_cases() {
  std::vector<AdaptivePoolCase> list;
  for (const Shape& x : odd_images())
    for (const int64_t height : {1, 2, 5})  // 1x1, windows that overlap, more windows than values
      list.push_back({x, {x[0], height, height + 2, x[3]}});
  return list;
}

// Calls f(n, p, q, c, h, w, area) for every value of every window, as the formula in the header reads.
template <class F>
void for_each_value(const Shape& x, const Shape& y, F&& f) {
  const auto begin = [](int64_t p, int64_t in, int64_t out) { return p * in / out; };
  const auto end = [](int64_t p, int64_t in, int64_t out) { return ((p + 1) * in + out - 1) / out; };
  for (int64_t n = 0; n < y[0]; ++n)
    for (int64_t p = 0; p < y[1]; ++p)
      for (int64_t q = 0; q < y[2]; ++q)
        for (int64_t c = 0; c < y[3]; ++c) {
          const int64_t h0 = begin(p, x[1], y[1]), h1 = end(p, x[1], y[1]);
          const int64_t w0 = begin(q, x[2], y[2]), w1 = end(q, x[2], y[2]);
          for (int64_t h = h0; h < h1; ++h)
            for (int64_t w = w0; w < w1; ++w) f(n, p, q, c, h, w, double((h1 - h0) * (w1 - w0)));
        }
}

TEST(AdaptiveAvgPool2dTest, Forward) {
  for (const AdaptivePoolCase& pool : adaptive_pool_cases())
    check_op({.slot = adaptive_avg_pool2d_forward,
              .label = message("to {} x {}", pool.y[1], pool.y[2]),
              .inputs = {{"x", pool.x}},
              .outputs = {{"y", pool.y}},
              .run = [](Context& c, Tensors& t) { adaptive_avg_pool2d_forward(c, t["x"], t["y"]); },
              .reference =
                  [pool](Arrays& a) {
                    std::vector<Sum> sums(size_t(pool.y.elements()));
                    for_each_value(pool.x, pool.y,
                                   [&](auto n, auto p, auto q, auto c, auto h, auto w, double area) {
                                     const int64_t i = ((n * pool.y[1] + p) * pool.y[2] + q) * pool.y[3] + c;
                                     sums[size_t(i)] += a["x"].at(n, h, w, c) / area;
                                   });
                    for (size_t i = 0; i < sums.size(); ++i) a["y"][int64_t(i)] = Real(sums[i]);
                  },
              .op = [pool](Variables& v) { return adaptive_avg_pool2d(v["x"], pool.y[1], pool.y[2]); }});
}

TEST(AdaptiveAvgPool2dTest, Backward) {
  for (const AdaptivePoolCase& pool : adaptive_pool_cases())
    check_op({.slot = adaptive_avg_pool2d_backward,
              .label = message("from {} x {}", pool.y[1], pool.y[2]),
              .inputs = {{"dy", pool.y}},
              .outputs = {{"dx", pool.x}},
              .run = [](Context& c, Tensors& t) { adaptive_avg_pool2d_backward(c, t["dy"], t["dx"]); },
              .reference =
                  [pool](Arrays& a) {
                    std::vector<Sum> sums(size_t(pool.x.elements()));
                    for_each_value(pool.x, pool.y,
                                   [&](auto n, auto p, auto q, auto c, auto h, auto w, double area) {
                                     const int64_t i = ((n * pool.x[1] + h) * pool.x[2] + w) * pool.x[3] + c;
                                     sums[size_t(i)] += a["dy"].at(n, p, q, c) / area;
                                   });
                    for (size_t i = 0; i < sums.size(); ++i) a["dx"][int64_t(i)] = Real(sums[i]);
                  }});
}

TEST(AdaptiveAvgPool2dTest, RefusesWhatHasNoPixels) {
  const Tensor x = Tensor::zeros({2, 3, 3, 1}, DType::f32, Device::cpu);
  EXPECT_THROW(adaptive_avg_pool2d(x, 0, 1), Error);
  EXPECT_THROW(adaptive_avg_pool2d(Tensor::zeros({2, 3}, DType::f32, Device::cpu), 1, 1), Error);
}

}  // namespace
}  // namespace plume::test
