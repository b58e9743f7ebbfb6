#include "data/augment/augment.h"

#include <algorithm>
#include <cmath>

#include "engine/core/error.h"
#include "engine/core/random.h"

namespace plume::data {
namespace {

constexpr uint64_t kAugmentStream = 0x61756769ull << 32;  // keeps these random numbers apart from all others

// Random numbers of one image. Every stage draws from counters of its own, so that one that needs more
// numbers, or is switched on, leaves the others' outcomes alone.
class ImageDraws : public Draws {
 public:
  enum Stage : uint64_t { crop_and_flip, resized_crop, policy, erasing };

  ImageDraws(uint64_t seed, int64_t epoch, int64_t index, Stage stage)
      : seed_(seed),
        stream_(kAugmentStream | uint64_t(epoch)),
        counter_(uint64_t(index) | stage << kStageShift) {}
  uint32_t bits() override {
    if (used_ == 4) {
      block_ = philox(seed_, counter_, stream_);
      counter_ += uint64_t(1) << kBlockShift;
      used_ = 0;
    }
    return block_.v[used_++];
  }

 private:
  static constexpr int kBlockShift = 40, kStageShift = 56;  // index: 40 bits, blocks: 16 bits
  uint64_t seed_, stream_, counter_;
  PhiloxBlock block_{};
  int used_ = 4;
};

struct BoxRange {
  double scale_low, scale_high, ratio_low, ratio_high;
};
constexpr BoxRange kErasing{0.02, 0.33, 0.3, 3.3};
constexpr int kAttempts = 10;

struct Extent {
  int height, width;
};
// A box of a share of the image's area and an aspect ratio uniform in its logarithm. `ratio` is width over
// height.
Extent draw_extent(Draws& draws, ImageSize image, const BoxRange& range, bool ratio_is_of_width) {
  const double area = double(image.height * image.width) * draws.uniform(range.scale_low, range.scale_high);
  const double ratio = std::exp(draws.uniform(std::log(range.ratio_low), std::log(range.ratio_high)));
  const int long_side = int(std::nearbyint(std::sqrt(area * ratio)));
  const int short_side = int(std::nearbyint(std::sqrt(area / ratio)));
  return ratio_is_of_width ? Extent{short_side, long_side} : Extent{long_side, short_side};
}

// RandomResizedCrop.get_params.
PixelBox draw_resized_crop(Draws& draws, ImageSize image, const AugmentParams& p) {
  const int height = int(image.height), width = int(image.width);
  for (int i = 0; i < kAttempts; ++i) {
    const Extent e = draw_extent(draws, image, {p.scale_low, p.scale_high, p.ratio_low, p.ratio_high}, true);
    if (e.width < 1 || e.height < 1 || e.width > width || e.height > height) continue;
    const int top = draws.below(height - e.height + 1), left = draws.below(width - e.width + 1);
    return {top, left, e.height, e.width};
  }
  // The middle, as much of it as the ratios allow.
  const double ratio = double(width) / height;
  int box_height = height, box_width = width;
  if (ratio < p.ratio_low)
    box_height = std::min(height, int(std::nearbyint(width / p.ratio_low)));
  else if (ratio > p.ratio_high)
    box_width = std::min(width, int(std::nearbyint(height * p.ratio_high)));
  return {(height - box_height) / 2, (width - box_width) / 2, box_height, box_width};
}

// Exact: every pixel goes to a pixel.
ImageOp half_turn(int height, int width) {
  constexpr int32_t kOne = 1 << 16;
  ImageOp op{.kind = ImageOpKind::affine};
  const int32_t affine[] = {-kOne, 0, (width - 1) * kOne, 0, -kOne, (height - 1) * kOne};
  std::copy(std::begin(affine), std::end(affine), op.affine);
  return op;
}

// RandomErasing.get_params; empty when no box fits.
PixelBox draw_erased(Draws& draws, int height, int width) {
  for (int i = 0; i < kAttempts; ++i) {
    const Extent e = draw_extent(draws, {height, width}, kErasing, false);
    if (e.height >= height || e.width >= width) continue;
    const int top = draws.below(height - e.height + 1), left = draws.below(width - e.width + 1);
    return {top, left, e.height, e.width};
  }
  return {};
}

}  // namespace

int32_t TapTable::add(const ResampleAxis& axis, ResampleFilter filter) {
  for (const Entry& e : entries_)
    if (e.axis == axis && e.filter == filter) return e.offset;
  const auto offset = int32_t(values_.size());
  append_taps(values_, axis, filter);
  entries_.push_back({axis, filter, offset});
  return offset;
}

void TapTable::clear() {
  entries_.clear();
  values_.clear();
}

Augmenter::Augmenter(int height, int width, const AugmentParams& params) : params_(params) {
  AugmentParams& p = params_;
  if (p.output_height == 0) p.output_height = height;
  if (p.output_width == 0) p.output_width = width;
  PLUME_CHECK(p.output_height != 0 && p.output_width != 0,
              "augment: the images differ in size: give the size of the outputs");
  PLUME_CHECK(p.output_height >= 1 && p.output_width >= 1 && p.output_height <= kMostAugmentSide &&
                  p.output_width <= kMostAugmentSide,
              "augment: outputs of {}x{} pixels, expected sides of 1 to {}", p.output_height, p.output_width,
              kMostAugmentSide);
  PLUME_CHECK(p.crop_padding >= 0 && p.crop_padding <= kMostAugmentSide, "augment: crop padding {}",
              p.crop_padding);
  PLUME_CHECK(p.random_crop ? p.resize_shorter > 0 && !p.random_resized_crop
                            : (p.crop_padding > 0) + p.random_resized_crop + (p.resize_shorter > 0) <= 1,
              "augment: padded crop, resized crop and centre crop exclude each other");
  PLUME_CHECK(p.scale_low > 0 && p.scale_low <= p.scale_high && p.scale_high <= 1,
              "augment: scale {} to {} of a resized crop, expected within (0, 1]", p.scale_low, p.scale_high);
  PLUME_CHECK(p.ratio_low > 0 && p.ratio_low <= p.ratio_high && p.ratio_high <= 1000,
              "augment: ratio {} to {} of a resized crop, expected within (0, 1000]", p.ratio_low,
              p.ratio_high);
  PLUME_CHECK(p.resize_shorter >= 0 && p.resize_shorter <= kMostAugmentSide,
              "augment: shorter side {}, expected 0 to {}", p.resize_shorter, kMostAugmentSide);
  PLUME_CHECK(p.erasing >= 0 && p.erasing <= 1, "augment: erasing probability {}", p.erasing);
  check(p.policy);
  PLUME_CHECK(
      !p.rotate180 || p.policy.policy != Policy::randaugment || p.policy.randaugment_ops < kMostImageOps,
      "augment: {} operations of RandAugment, expected at most {} on rotated images",
      p.policy.randaugment_ops, kMostImageOps - 1);
  for (size_t c = 0; c < kChannels; ++c) {
    const double mean = double(p.statistics.mean[c]), std = double(p.statistics.std[c]);
    PLUME_CHECK(std > 0, "augment: std {} of channel {}, expected above 0", std, c);
    normalization_.scale[c] = float(1 / (255 * std));
    normalization_.shift[c] = float(-mean / std);
  }
}

void Augmenter::plan_geometry(AugmentPlan& plan, ImageSize image, int64_t epoch, int64_t index,
                              TapTable& taps) const {
  const AugmentParams& p = params_;
  const int padding = p.crop_padding;
  plan.height = int32_t(image.height);
  plan.width = int32_t(image.width);
  plan.source = {0, 0, plan.height, plan.width};
  // Where the crop may begin: with random_crop in the resized image, otherwise around the image itself.
  const ImageSize shortened = p.resize_shorter > 0 ? resized_to_shorter_side(image, p.resize_shorter) : image;
  int64_t crop_top = 0, crop_left = 0;
  if (padding > 0 || p.random_crop || p.flip) {
    ImageDraws draws(p.seed, epoch, index, ImageDraws::crop_and_flip);
    // A side that is shorter than the crop is centred in it.
    const auto begin = [&](int64_t side, int64_t crop) {
      const int64_t places = std::max<int64_t>(side - crop, 0) + 2 * padding + 1;
      return draws.below(int(std::min<int64_t>(places, INT32_MAX))) - padding -
             std::max<int64_t>(crop - side, 0) / 2;
    };
    crop_top = begin(shortened.height, p.random_crop ? p.output_height : shortened.height);
    crop_left = begin(shortened.width, p.random_crop ? p.output_width : shortened.width);
    plan.flip = p.flip && draws.coin();
  }
  if (!p.random_crop) {
    plan.source.top = int32_t(crop_top);
    plan.source.left = int32_t(crop_left);
  }
  if (p.random_resized_crop) {
    ImageDraws draws(p.seed, epoch, index, ImageDraws::resized_crop);
    plan.source = draw_resized_crop(draws, image, p);
  }
  // The size that the source box is resized to, and the part of that which is wanted.
  ImageSize resized{p.output_height, p.output_width};
  Window window{0, 0, resized};
  if (p.resize_shorter > 0) {
    resized = shortened;
    window = p.random_crop ? Window{crop_top, crop_left, {p.output_height, p.output_width}}
                           : center_window(resized, {p.output_height, p.output_width});
  }
  const auto overlap = [](int64_t start, int64_t length, int64_t size) {
    const int64_t from = std::clamp<int64_t>(start, 0, size);
    return std::pair{from, std::clamp<int64_t>(start + length, from, size)};
  };
  const auto [top, bottom] = overlap(window.top, window.size.height, resized.height);
  const auto [left, right] = overlap(window.left, window.size.width, resized.width);
  plan.target = {int32_t(top - window.top), int32_t(left - window.left), int32_t(bottom - top),
                 int32_t(right - left)};
  if (resized == ImageSize{plan.source.height, plan.source.width}) {
    plan.source = {plan.source.top + int32_t(top), plan.source.left + int32_t(left), plan.target.height,
                   plan.target.width};
    return;
  }
  const ResampleFilter filter = filter_of(p.interpolation);
  plan.column_taps = taps.add({plan.source.width, resized.width, left, right}, filter);
  plan.row_taps = taps.add({plan.source.height, resized.height, top, bottom}, filter);
}

void Augmenter::check_sample(const Sample& sample, int64_t index) const {
  const size_t expected = size_t(sample.height) * size_t(sample.width) * kChannels;
  if (sample.pixels.size() != expected)
    fail(ErrorKind::bad_input, "augment: image {} has {} bytes, expected {} for {}x{} pixels", index,
         sample.pixels.size(), expected, sample.height, sample.width);
}

AugmentPlan Augmenter::plan(ImageSize image, int64_t epoch, int64_t index, TapTable& taps) const {
  const AugmentParams& p = params_;
  if (image.height < 1 || image.width < 1 || image.height > kMostResizeSide || image.width > kMostResizeSide)
    fail(ErrorKind::bad_input, "augment: image {} has {}x{} pixels, expected sides of 1 to {}", index,
         image.height, image.width, kMostResizeSide);
  AugmentPlan plan;
  plan_geometry(plan, image, epoch, index, taps);
  if (p.rotate180) plan.ops[plan.op_count++] = half_turn(height(), width());
  if (p.policy.policy != Policy::none) {
    ImageDraws draws(p.seed, epoch, index, ImageDraws::policy);
    for (const PolicyOp& drawn : draw_policy(p.policy, draws, height(), width())) {
      const ImageOp op = make_image_op(drawn.op, drawn.magnitude, height(), width());
      if (op.kind != ImageOpKind::identity) plan.ops[plan.op_count++] = op;
    }
  }
  if (p.erasing > 0) {
    ImageDraws draws(p.seed, epoch, index, ImageDraws::erasing);
    if (draws.uniform() < p.erasing) plan.erased = draw_erased(draws, height(), width());
  }
  return plan;
}

void Augmenter::operator()(const Sample& sample, int64_t epoch, int64_t index, float* out) const {
  thread_local TapTable taps;
  thread_local AugmentScratch scratch;
  constexpr size_t kMostTaps = 1 << 16;  // those of one size are used again and again; random sizes pile up
  if (taps.values().size() > kMostTaps) taps.clear();
  check_sample(sample, index);
  const AugmentPlan drawn = plan({sample.height, sample.width}, epoch, index, taps);
  augment_image(drawn, sample.pixels.data(), taps.values().data(), {height(), width(), normalization_}, out,
                scratch);
}

Image Augmenter::picture(const Sample& sample, int64_t epoch, int64_t index) const {
  TapTable taps;
  AugmentScratch scratch;
  check_sample(sample, index);
  const AugmentPlan drawn = plan({sample.height, sample.width}, epoch, index, taps);
  augment_bytes(drawn, sample.pixels.data(), taps.values().data(), height(), width(), scratch);
  return {height(), width(), scratch.image};
}

}  // namespace plume::data
