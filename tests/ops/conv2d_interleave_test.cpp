#include "engine/ops/conv2d_interleave.h"

#include <gtest/gtest.h>

#include "engine/ops/interleave.h"
#include "tests/ops/reference/convolution.h"
#include "tests/support/check_op.h"

namespace plume::test {
namespace {

struct ShuffleCase {
  Shape x;
  int64_t filters;
};

// Halves of whole chunks and not, ShuffleNetV2's among them; tiles of 32, 64 and 128 columns, ragged rows.
const std::vector<ShuffleCase> kShuffleCases = {
    {{1, 1, 1, 1}, 1},    {{2, 5, 7, 8}, 3},       {{3, 7, 7, 16}, 8},
    {{1, 9, 15, 64}, 58}, {{2, 12, 11, 120}, 116}, {{1, 35, 31, 120}, 116},
    {{1, 5, 9, 24}, 61},  {{3, 7, 7, 232}, 232},   {{1, 13, 10, 24}, 24}};

// Place of a row -> channel of the shuffled row, -1 for none.
struct Rows {
  int64_t pitch, begin, first, last;
  int64_t channel(int64_t place) const {
    const int64_t c = begin + place;
    return c < first || c >= last ? -1 : c;
  }
};
Rows first_rows(int64_t k, bool split, bool padded) {
  const int64_t kept = split ? k : 2 * k;
  return {padded ? (kept + 7) / 8 * 8 : kept, 0, 0, kept};
}
Rows second_rows(int64_t k, bool padded) {
  const int64_t begin = padded ? k / 8 * 8 : k;
  return {padded ? (2 * k - begin + 7) / 8 * 8 : k, begin, k, 2 * k};
}

OpCase shuffle_case(const ShuffleCase& c, bool split, bool padded) {
  const int64_t k = c.filters;
  const Rows first = first_rows(k, split, padded), second = second_rows(k, padded);
  const int64_t a_pitch = padded ? (k + 7) / 8 * 8 : k, shift = padded ? a_pitch : k;
  OpCase op{.slot = conv2d_interleave_forward,
            .label = message("{}{}", split ? "split" : "whole", padded ? ", padded" : ""),
            .inputs = {{"x", c.x},
                       {"w", {k, 1, 1, c.x[3]}},
                       {"shift", {shift}, short_values(), DType::f32},
                       {"a", c.x.with(-1, a_pitch)}},
            .outputs = {{"y0", c.x.with(-1, first.pitch)}},
            .run =
                [](Context& context, Tensors& t) {
                  const Epilogue epilogue{.shift = t["shift"], .activation = Activation::relu};
                  conv2d_interleave_forward(context, t["x"], t["w"], {}, epilogue, t["a"], t["y0"], t["y1"]);
                },
            .reference =
                [=](Arrays& a) {
                  const Array none;
                  Array b(c.x.with(-1, k));
                  reference::conv2d(a["x"], a["w"], {}, {none, a["shift"], none, Activation::relu}, b);
                  const auto fill = [&](Array& y, const Rows& rows) {
                    for (int64_t row = 0; row < b.rows(); ++row)
                      for (int64_t place = 0; place < rows.pitch; ++place) {
                        const int64_t channel = rows.channel(place);
                        y.at(row, place) = channel < 0        ? Real(0)
                                           : channel % 2 == 0 ? a["a"].at(row, channel / 2)
                                                              : b.at(row, channel / 2);
                      }
                  };
                  fill(a["y0"], first);
                  if (split) fill(a["y1"], second);
                },
            .coarse = {{"separate", 1e-5}}};  // Winograd or another library may be inside
  if (split) op.outputs.push_back({"y1", c.x.with(-1, second.pitch)});
  return op;
}

TEST(Conv2dInterleaveTest, Forward) {
  for (const ShuffleCase& c : kShuffleCases)
    for (const bool split : {false, true})
      for (const bool padded : {false, true}) check_op(shuffle_case(c, split, padded));
}

// The operation's shapes, and the same values as its two parts one after the other.
TEST(Conv2dInterleaveTest, EqualsConvolutionAndShuffle) {
  RandomSequence random(7);
  for (const Device device : devices_under_test())
    for (const int64_t k : {16, 58}) {
      if (device == Device::cuda) continue;  // a library's product rounds other sums
      const auto fresh = [&](const Shape& shape, DType dtype) {
        return to_tensor(outliers()(shape, random, false), shape, dtype, device);
      };
      const Tensor x = fresh({2, 3, 5, 16}, DType::bf16), w = fresh({k, 1, 1, 16}, DType::bf16),
                   a = fresh({2, 3, 5, k}, DType::bf16);
      const Epilogue epilogue{.shift = fresh({k}, DType::f32), .activation = Activation::relu};
      const Tensor b = conv2d_fused(x, w, {}, epilogue);
      const auto [y, none] = conv2d_interleave(x, w, {}, epilogue, a, false, false);
      EXPECT_FALSE(none.defined());
      EXPECT_EQ(to_doubles(y), to_doubles(interleave(Variable(a), Variable(b)).value()));
      const auto [y0, y1] = conv2d_interleave(x, w, {}, epilogue, a, true, false);
      const auto [first, second] = interleave_split(Variable(a), Variable(b));
      EXPECT_EQ(to_doubles(y0), to_doubles(first.value()));
      EXPECT_EQ(to_doubles(y1), to_doubles(second.value()));
      const auto [p0, p1] = conv2d_interleave(x, w, {}, epilogue, a, true, true);
      EXPECT_EQ(p0.dim(-1), k == 16 ? 16 : 64);
      EXPECT_EQ(p1.dim(-1), k == 16 ? 16 : 64);
    }
}

TEST(Conv2dInterleaveTest, RefusesWhatDoesNotFit) {
  const auto zeros = [](const Shape& shape) { return Tensor::zeros(shape, DType::f32, Device::cpu); };
  const auto apply = [&](const Shape& w, const Shape& a) {
    return conv2d_interleave(zeros({1, 4, 4, 4}), zeros(w), {}, {}, zeros(a), false, false).first;
  };
  EXPECT_EQ(apply({2, 1, 1, 4}, {1, 4, 4, 2}).shape(), (Shape{1, 4, 4, 4}));
  EXPECT_THROW(apply({2, 1, 1, 4}, {1, 4, 4, 1}), Error);
  EXPECT_THROW(apply({2, 1, 1, 4}, {1, 3, 4, 2}), Error);
  EXPECT_THROW(apply({2, 3, 3, 4}, {1, 2, 2, 2}), Error);
}

}  // namespace
}  // namespace plume::test
