#include "engine/math/augment_image.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

#include "engine/math/resample.h"

namespace plume {
namespace {

constexpr int kChannels = 3;
using Histogram = std::array<std::array<int, 256>, kChannels>;
using Table = std::array<std::array<uint8_t, 256>, kChannels>;

Histogram histogram_of(const std::vector<uint8_t>& image) {
  Histogram counts{};
  for (size_t i = 0; i < image.size(); i += kChannels)
    for (size_t c = 0; c < kChannels; ++c) ++counts[c][image[i + c]];
  return counts;
}

uint32_t luminance_sum(const std::vector<uint8_t>& image) {
  uint32_t sum = 0;
  for (size_t i = 0; i < image.size(); i += kChannels)
    sum += uint32_t(luminance(image[i], image[i + 1], image[i + 2]));
  return sum;
}

Table table_of(const ImageOp& op, const std::vector<uint8_t>& image) {
  const int pixels = int(image.size() / kChannels);
  const int mean = op.kind == ImageOpKind::contrast ? rounded_mean(luminance_sum(image), pixels) : 0;
  const bool counted = needs_histogram(op.kind);
  const Histogram counts = counted ? histogram_of(image) : Histogram{};
  Table table;
  for (size_t c = 0; c < kChannels; ++c) {
    ChannelSummary summary;
    for (int v = 0; counted && v < 256; ++v)
      if (counts[c][size_t(v)] > 0) {
        summary.darkest = std::min(summary.darkest, v);
        summary.brightest = v;
      }
    summary.step = equalize_step(pixels, counts[c][size_t(summary.brightest)]);
    int darker = 0;
    for (int v = 0; v < 256; ++v) {
      table[c][size_t(v)] = table_entry(op, v, summary, darker, mean);
      darker += counts[c][size_t(v)];
    }
  }
  return table;
}

void apply_affine(const ImageOp& op, int height, int width, const std::vector<uint8_t>& image,
                  std::vector<uint8_t>& out) {
  out.resize(image.size());
  uint8_t* to = out.data();
  for (int y = 0; y < height; ++y)
    for (int x = 0; x < width; ++x, to += kChannels) {
      const int from = affine_source(op, y, x, height, width);
      for (int c = 0; c < kChannels; ++c) to[c] = from < 0 ? 0 : image[size_t(from * kChannels + c)];
    }
}

void apply_sharpness(const ImageOp& op, int height, int width, const std::vector<uint8_t>& image,
                     std::vector<uint8_t>& out) {
  out = image;
  for (int y = 1; y < height - 1; ++y)
    for (int i = kChannels; i < (width - 1) * kChannels; ++i) {
      const size_t at = size_t(y * width * kChannels + i);
      out[at] = blend(smoothed(&image[at], width * kChannels), image[at], op.factor);
    }
}

// Row y of a box of the image, black beyond its edges.
void copy_row(const AugmentPlan& plan, const uint8_t* pixels, int y, uint8_t* to) {
  const PixelBox& box = plan.source;
  const int source_y = box.top + y;
  const int from = std::clamp(box.left, 0, plan.width);
  const int end = std::clamp(box.left + box.width, from, plan.width);
  if (source_y < 0 || source_y >= plan.height || from >= end) {
    std::memset(to, 0, size_t(box.width) * kChannels);
    return;
  }
  const size_t before = size_t(from - box.left) * kChannels, kept = size_t(end - from) * kChannels;
  std::memset(to, 0, before);
  std::memcpy(to + before, pixels + (int64_t(source_y) * plan.width + from) * kChannels, kept);
  std::memset(to + before + kept, 0, size_t(box.width) * kChannels - before - kept);
}

void mirror_row(uint8_t* row, int width) {
  for (int left = 0, right = width - 1; left < right; ++left, --right)
    std::swap_ranges(row + left * kChannels, row + (left + 1) * kChannels, row + right * kChannels);
}

bool within_image(const AugmentPlan& plan) {
  const PixelBox& box = plan.source;
  return box.top >= 0 && box.left >= 0 && box.top + box.height <= plan.height &&
         box.left + box.width <= plan.width;
}

bool fills(const PixelBox& target, int height, int width) { return target == PixelBox{0, 0, height, width}; }

// Cut, resampled and mirrored.
void place(const AugmentPlan& plan, const uint8_t* pixels, const int32_t* taps, int height, int width,
           AugmentScratch& scratch) {
  const int64_t row = int64_t(width) * kChannels;
  if (fills(plan.target, height, width))
    scratch.image.resize(size_t(height * row));
  else
    scratch.image.assign(size_t(height * row), 0);
  uint8_t* to = scratch.image.data() + plan.target.top * row + plan.target.left * kChannels;
  if (!plan.resampled()) {
    for (int y = 0; y < plan.target.height; ++y) copy_row(plan, pixels, y, to + y * row);
  } else {
    const uint8_t* from = pixels + (int64_t(plan.source.top) * plan.width + plan.source.left) * kChannels;
    int64_t stride = int64_t(plan.width) * kChannels;
    if (!within_image(plan)) {
      stride = int64_t(plan.source.width) * kChannels;
      scratch.window.resize(size_t(plan.source.height * stride));
      for (int y = 0; y < plan.source.height; ++y)
        copy_row(plan, pixels, y, scratch.window.data() + y * stride);
      from = scratch.window.data();
    }
    resample({from,
              stride,
              {taps + plan.column_taps},
              {taps + plan.row_taps},
              plan.target.width,
              plan.target.height},
             to, row, scratch.lines);
  }
  if (plan.flip)
    for (int y = 0; y < height; ++y) mirror_row(scratch.image.data() + y * row, width);
}

// One line of pixels. Three vectors of eight values make eight whole pixels, so that the compiler may use
// them.
template <class T>
void normalize_row(const uint8_t* row, int width, const PixelNormalization& n, T* out) {
  constexpr int kValues = 8 * kChannels;
  float scale[kValues], shift[kValues];
  for (int i = 0; i < kValues; ++i) {
    scale[i] = n.scale[size_t(i % kChannels)];
    shift[i] = n.shift[size_t(i % kChannels)];
  }
  const int values = width * kChannels;
  int begin = 0;
  for (; begin + kValues <= values; begin += kValues)
    for (int i = 0; i < kValues; ++i) out[begin + i] = T(std::fma(float(row[begin + i]), scale[i], shift[i]));
  for (int i = 0; begin + i < values; ++i)
    out[begin + i] = T(std::fma(float(row[begin + i]), scale[i], shift[i]));
}

}  // namespace

void apply_image_op(const ImageOp& op, int height, int width, std::vector<uint8_t>& image,
                    AugmentScratch& scratch) {
  if (has_table(op.kind)) {
    const Table table = table_of(op, image);
    for (size_t i = 0; i < image.size(); i += kChannels)
      for (size_t c = 0; c < kChannels; ++c) image[i + c] = table[c][image[i + c]];
  } else if (op.kind == ImageOpKind::color) {
    for (size_t i = 0; i < image.size(); i += kChannels) {
      const int grey = luminance(image[i], image[i + 1], image[i + 2]);
      for (size_t c = 0; c < kChannels; ++c) image[i + c] = blend(grey, image[i + c], op.factor);
    }
  } else if (op.kind == ImageOpKind::affine) {
    apply_affine(op, height, width, image, scratch.other);
    image.swap(scratch.other);
  } else if (op.kind == ImageOpKind::sharpness) {
    apply_sharpness(op, height, width, image, scratch.other);
    image.swap(scratch.other);
  }
}

void augment_bytes(const AugmentPlan& plan, const uint8_t* pixels, const int32_t* taps, int height, int width,
                   AugmentScratch& scratch) {
  place(plan, pixels, taps, height, width, scratch);
  for (int i = 0; i < plan.op_count; ++i) apply_image_op(plan.ops[i], height, width, scratch.image, scratch);
}

template <class T>
void augment_image(const AugmentPlan& plan, const uint8_t* pixels, const int32_t* taps,
                   const AugmentOutput& output, T* out, AugmentScratch& scratch) {
  const int width = output.width;
  const int64_t row = int64_t(width) * kChannels;
  const bool by_rows =
      plan.op_count == 0 && !plan.resampled() && fills(plan.target, output.height, output.width);
  if (by_rows)
    scratch.image.resize(size_t(row));
  else
    augment_bytes(plan, pixels, taps, output.height, width, scratch);
  for (int y = 0; y < output.height; ++y) {
    uint8_t* bytes = scratch.image.data() + (by_rows ? 0 : y * row);
    if (by_rows) {
      copy_row(plan, pixels, y, bytes);
      if (plan.flip) mirror_row(bytes, width);
    }
    normalize_row(bytes, width, output.normalization, out + y * row);
  }
  const PixelBox& erased = plan.erased;
  for (int y = erased.top; y < erased.top + erased.height; ++y)
    std::fill_n(out + y * row + erased.left * kChannels, erased.width * kChannels, T(0.0f));
}

template void augment_image(const AugmentPlan&, const uint8_t*, const int32_t*, const AugmentOutput&, float*,
                            AugmentScratch&);
template void augment_image(const AugmentPlan&, const uint8_t*, const int32_t*, const AugmentOutput&, bf16*,
                            AugmentScratch&);
template void augment_image(const AugmentPlan&, const uint8_t*, const int32_t*, const AugmentOutput&, f16*,
                            AugmentScratch&);

}  // namespace plume
