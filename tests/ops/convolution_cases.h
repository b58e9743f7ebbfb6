// Shapes for convolutions: channels that no vector divides, planes below the filter, what networks use.
#pragma once
#include <vector>

#include "engine/ops/depthwise_conv2d.h"
#include "tests/support/check_op.h"

namespace plume::test {

struct ConvCase {
  Shape x;          // N H W C
  int64_t filters;  // K
  int64_t height, width;
  Conv2dParams params;

  Shape w() const { return {filters, height, width, x[3]}; }
  Shape y() const { return conv2d_shape(x, w(), params); }
  std::string label() const {
    return message("filter {}x{}, stride {}, padding {}, dilation {}", height, width, params.stride,
                   params.padding, params.dilation);
  }
};

inline std::vector<ConvCase> conv2d_cases() {
  return {
      // input           K   R  S  {stride, padding, dilation}
      {{1, 1, 1, 1}, 1, 1, 1, {1, 0, 1}},
      {{3, 1, 1, 64}, 17, 1, 1, {1, 0, 1}},
      {{1, 7, 7, 17}, 64, 1, 1, {1, 0, 1}},
      {{3, 7, 7, 3}, 17, 1, 1, {2, 0, 1}},
      {{1, 31, 7, 3}, 3, 1, 1, {2, 1, 1}},
      {{1, 1, 1, 3}, 1, 3, 3, {1, 1, 1}},
      {{3, 7, 7, 1}, 3, 3, 3, {1, 1, 1}},
      {{1, 7, 7, 3}, 17, 3, 3, {1, 0, 1}},
      {{3, 7, 7, 17}, 3, 3, 3, {2, 1, 1}},
      {{1, 7, 7, 64}, 64, 3, 3, {1, 1, 1}},
      {{1, 31, 31, 3}, 1, 3, 3, {2, 1, 1}},
      {{1, 7, 31, 1}, 17, 3, 3, {1, 2, 2}},
      {{3, 7, 7, 3}, 3, 3, 3, {2, 3, 2}},
      {{1, 7, 7, 1}, 64, 7, 7, {1, 3, 1}},
      {{3, 31, 31, 3}, 3, 7, 7, {2, 3, 1}},
      {{1, 7, 7, 3}, 3, 7, 7, {1, 0, 1}},
      {{1, 31, 7, 17}, 1, 7, 7, {2, 9, 3}},
      {{1, 7, 7, 3}, 17, 1, 7, {1, 3, 1}},
      {{3, 31, 7, 1}, 3, 5, 2, {1, 1, 1}},
      {{1, 1, 31, 17}, 3, 1, 3, {1, 1, 1}},
      {{3, 7, 7, 64}, 17, 3, 3, {1, 1, 1}},
      {{2, 11, 12, 72}, 64, 3, 3, {1, 1, 1}},
      {{3, 9, 7, 48}, 56, 3, 3, {1, 2, 2}},
      {{1, 1, 1, 64}, 64, 3, 3, {1, 1, 1}},
      // planes of 1x1 to 4x4 and a batch: what the last stages of a network on small images see
      {{17, 1, 1, 17}, 64, 3, 3, {1, 1, 1}},
      {{16, 2, 2, 64}, 17, 3, 3, {1, 1, 1}},
      {{16, 4, 4, 3}, 17, 3, 3, {2, 1, 1}},
      {{19, 3, 4, 17}, 3, 1, 1, {2, 0, 1}},
      {{16, 4, 4, 17}, 3, 3, 3, {1, 1, 1}},
      // vectors of 8 channels, or pairs: tiles of 32, 64 and 128 columns, strides, more tiles than blocks
      {{2, 9, 9, 72}, 24, 1, 1, {1, 0, 1}},
      {{2, 9, 8, 136}, 128, 1, 1, {1, 0, 1}},
      {{2, 9, 9, 16}, 72, 3, 3, {2, 1, 1}},
      {{2, 8, 9, 40}, 8, 1, 1, {2, 0, 1}},
      {{1, 9, 9, 8}, 128, 3, 3, {1, 1, 1}},
      {{2, 9, 10, 8}, 16, 3, 3, {2, 2, 2}},
      {{2, 9, 9, 10}, 12, 3, 3, {1, 1, 1}},
      {{1, 262, 262, 8}, 8, 1, 1, {1, 0, 1}},
      // tiles of 96 columns, in steps of 32 layers and of 64
      {{2, 23, 23, 16}, 72, 1, 1, {1, 0, 1}},
      {{2, 23, 23, 40}, 88, 1, 1, {1, 0, 1}},
      // copies of four and of two values
      {{2, 9, 9, 116}, 116, 1, 1, {1, 0, 1}},
      {{2, 9, 9, 58}, 58, 1, 1, {1, 0, 1}},
      {{2, 8, 9, 24}, 58, 1, 1, {1, 0, 1}},
      // stores of pairs: two tiles of columns, pixels that are no neighbours
      {{2, 9, 8, 42}, 70, 3, 3, {2, 1, 1}},
      // few channels: odd and even beginnings of what lies under a row of the filter, narrow images
      {{2, 13, 14, 3}, 16, 3, 3, {2, 1, 1}},
      {{2, 21, 20, 3}, 64, 7, 7, {2, 3, 1}},
      {{2, 11, 12, 3}, 24, 5, 5, {2, 2, 1}},
      {{9, 5, 2, 3}, 8, 3, 3, {2, 1, 1}},
      {{3, 9, 9, 2}, 72, 3, 7, {1, 3, 1}},
      {{1, 262, 262, 2}, 8, 3, 3, {1, 1, 1}},
      // first layers: odd rows and whole copies, groups of filters, a last one that is not full, tiles of
      // columns and rows, more of these than blocks
      {{2, 17, 35, 3}, 40, 7, 7, {2, 2, 1}},
      {{1, 9, 72, 3}, 72, 3, 3, {2, 0, 1}},
      {{140, 6, 8, 3}, 8, 3, 3, {2, 1, 1}},
  };
}

struct DepthwiseCase {
  Shape x;                // N H W C
  int64_t height, width;  // of the filter
  Conv2dParams params;

  Shape w() const { return {height, width, x[3]}; }
  Shape y() const { return depthwise_conv2d_shape(x, w(), params); }
  std::string label() const {
    return message("filter {}x{}, stride {}, padding {}, dilation {}", height, width, params.stride,
                   params.padding, params.dilation);
  }
};

inline std::vector<DepthwiseCase> depthwise_cases() {
  std::vector<DepthwiseCase> all{
      // input         R  S  {stride, padding, dilation}
      {{1, 1, 1, 1}, 1, 1, {1, 0, 1}},    {{3, 7, 7, 17}, 1, 1, {2, 0, 1}},  {{1, 7, 31, 3}, 7, 7, {1, 3, 1}},
      {{3, 31, 7, 17}, 7, 7, {2, 3, 1}},  {{1, 7, 7, 64}, 5, 5, {1, 0, 1}},  {{1, 7, 7, 17}, 3, 3, {1, 2, 2}},
      {{3, 7, 7, 3}, 3, 3, {3, 1, 1}},    {{1, 31, 7, 17}, 2, 3, {1, 1, 1}}, {{3, 7, 31, 1}, 5, 2, {2, 1, 1}},
      {{1, 31, 31, 3}, 5, 5, {2, 4, 2}},  {{1, 9, 9, 72}, 3, 3, {1, 0, 1}},  {{1, 8, 8, 24}, 5, 5, {2, 1, 1}},
      {{2, 14, 13, 58}, 3, 3, {2, 1, 1}}, {{1, 12, 14, 9}, 5, 5, {1, 2, 1}},
  };
  // What networks use, on odd images.
  for (const Shape& x : odd_images())
    for (const int kernel : {3, 5})
      for (const int stride : {1, 2}) all.push_back({x, kernel, kernel, {stride, kernel / 2, 1}});
  return all;
}

}  // namespace plume::test
