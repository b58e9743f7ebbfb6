// mix_batch: MixUp (Zhang et al. 2018) and CutMix (Yun et al. 2019) of a batch with itself: image n meets
// image n - 1, the first the last. As torchvision's references/classification/transforms.py:
//
//   MixUp   y[n] = l x[n] + (1 - l) x[n - 1],  l ~ Beta(a, a)
//   CutMix  y[n] = x[n - 1] inside a box, x[n] outside; the box has the share 1 - l of the image, l ~ Beta(a,
//           a), a uniform centre, and is cut off at the borders; then l becomes the share that was left
//   t[n] = l s[n] + (1 - l) s[n - 1],  s = 1 - e + e / K for the label's class and e / K for the others
//
// There is one l, and one box, per batch. With both switched on each batch is mixed by one of them, with
// equal probability. The numbers are a pure function of (seed, step), and lie in device memory, so that a
// recorded step (engine/core/graph.h) that is replayed mixes anew. Nothing is recorded on the tape: images
// and targets are data.
#pragma once
#include <cmath>

#include "engine/core/kernel_slot.h"
#include "engine/core/random.h"
#include "engine/core/tensor.h"
#include "engine/memory/staging.h"

namespace plume {

struct MixParams {
  float mixup_alpha = 0, cutmix_alpha = 0;  // of Beta(a, a); 0: off
  bool any() const { return mixup_alpha > 0 || cutmix_alpha > 0; }
};

// One batch's numbers. Inside the box, [top, bottom) x [left, right), a pixel keeps `inside` of itself,
// outside all.
struct Mix {
  float lambda = 1;  // what the targets keep of themselves
  float inside = 1;
  int32_t top = 0, bottom = 0, left = 0, right = 0;

  static Mix mixup(float lambda, int height, int width) { return {lambda, lambda, 0, height, 0, width}; }
  // A box of half the sides int(sqrt(1 - lambda) / 2 * side) around (y, x).
  static Mix cutmix(float lambda, int y, int x, int height, int width);
  friend bool operator==(const Mix&, const Mix&) = default;
};

// Throws usage on a negative alpha.
Mix draw_mix(const MixParams& params, uint64_t seed, int64_t step, int height, int width);
// Beta(a, a) from the sequence, by Joehnk's method for a <= 1 and Cheng's BB for larger.
double draw_beta(RandomSequence& random, double a);

// The numbers of the present step, in device memory that stays in place.
class BatchMixer {
 public:
  BatchMixer(const MixParams& params, uint64_t seed);
  // Before each step, replayed ones too.
  void begin_step(int64_t step, int height, int width);
  void set(const Mix& mix);
  const Mix& mix() const { return mix_; }
  // f32 [6]: the fields of Mix in their order.
  const Tensor& state(Device device) { return numbers_.on(device); }

 private:
  MixParams params_;
  uint64_t seed_;
  Mix mix_;
  StepNumbers<float, 6> numbers_;
};

// images [N, H, W, C] floating; the result has the same shape and dtype.
Tensor mix_images(const Tensor& images, const Tensor& state);
// labels i32 [N] -> soft targets f32 [N, classes], smoothed before they are mixed. 0 <= smoothing < 1.
Tensor mix_targets(const Tensor& labels, int classes, float smoothing, const Tensor& state);

struct MixTargetsParams {
  int classes = 0;
  float smoothing = 0;
};
using MixImagesForward = void(Context&, const Tensor& x, const Tensor& state, Tensor& y);
using MixTargetsForward = void(Context&, const Tensor& labels, const Tensor& state, const MixTargetsParams&,
                               Tensor& targets);
extern KernelSlot<MixImagesForward> mix_images_forward;
extern KernelSlot<MixTargetsForward> mix_targets_forward;

// What both columns compute. `state` as above.
struct MixView {
  float lambda, inside, top, bottom, left, right;

  PLUME_HD explicit MixView(const float* state)
      : lambda(state[0]),
        inside(state[1]),
        top(state[2]),
        bottom(state[3]),
        left(state[4]),
        right(state[5]) {}
  PLUME_HD float weight(int64_t h, int64_t w) const {
    return float(h) >= top && float(h) < bottom && float(w) >= left && float(w) < right ? inside : 1.0f;
  }
  // One rounding for the second product and one for the rest, on every device.
  PLUME_HD static float blend(float weight, float own, float other) {
    return fmaf(weight, own, (1.0f - weight) * other);
  }
  PLUME_HD static float smoothed(const MixTargetsParams& p, int label, int64_t k) {
    const float rest = p.smoothing / float(p.classes);
    return label == k ? 1.0f - p.smoothing + rest : rest;
  }
};

}  // namespace plume
