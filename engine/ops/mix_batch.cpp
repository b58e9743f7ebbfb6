#include "engine/ops/mix_batch.h"

#include <algorithm>
#include <cmath>

namespace plume {
namespace {
constexpr uint64_t kStream = 0x6D697862ull << 32;  // keeps these random numbers apart from all others
}

constinit KernelSlot<MixImagesForward> mix_images_forward{"mix_images.forward"};
constinit KernelSlot<MixTargetsForward> mix_targets_forward{"mix_targets.forward"};

Mix Mix::cutmix(float lambda, int y, int x, int height, int width) {
  const double half = 0.5 * std::sqrt(1.0 - double(lambda));
  const int half_height = int(half * height), half_width = int(half * width);
  Mix mix;
  mix.inside = 0;
  mix.top = std::max(y - half_height, 0);
  mix.bottom = std::min(y + half_height, height);
  mix.left = std::max(x - half_width, 0);
  mix.right = std::min(x + half_width, width);
  const double box = double(mix.bottom - mix.top) * double(mix.right - mix.left);
  mix.lambda = float(1.0 - box / (double(height) * width));
  return mix;
}

double draw_beta(RandomSequence& random, double a) {
  // Never 0, whose logarithm there is not.
  const auto uniform = [&] { return double(random.bits() + 0.5) / 4294967296.0; };
  if (a <= 1) {
    // Joehnk 1964: (u^(1/a)) / (u^(1/a) + v^(1/a)) where the sum is at most 1; in logarithms, for small a
    // underflows.
    for (;;) {
      const double u = std::log(uniform()) / a, v = std::log(uniform()) / a;
      const double most = std::max(u, v), sum = most + std::log(std::exp(u - most) + std::exp(v - most));
      if (sum <= 0) return std::exp(u - sum);
    }
  }
  // Cheng 1978, algorithm BB, for equal parameters.
  const double alpha = 2 * a, beta = std::sqrt((alpha - 2) / (2 * a * a - alpha)), gamma = a + 1 / beta;
  for (;;) {
    const double u = uniform(), v = uniform();
    const double x = beta * std::log(u / (1 - u)), w = a * std::exp(x), z = u * u * v;
    const double r = gamma * x - std::log(4.0), s = a + r - w;
    if (s + 1 + std::log(5.0) >= 5 * z || s >= std::log(z) ||
        r + alpha * std::log(alpha / (a + w)) >= std::log(z))
      return w / (a + w);
  }
}

Mix draw_mix(const MixParams& params, uint64_t seed, int64_t step, int height, int width) {
  PLUME_CHECK(params.mixup_alpha >= 0 && params.cutmix_alpha >= 0,
              "mix_batch: alpha {} of MixUp, {} of CutMix, expected at least 0", params.mixup_alpha,
              params.cutmix_alpha);
  if (!params.any()) return {};
  RandomSequence random(seed, kStream | uint64_t(step));
  const bool first = random.uniform() < 0.5f;
  const bool cut = params.mixup_alpha == 0 || (params.cutmix_alpha > 0 && !first);
  const float lambda = float(draw_beta(random, double(cut ? params.cutmix_alpha : params.mixup_alpha)));
  if (!cut) return Mix::mixup(lambda, height, width);
  const int y = int(random.below(uint64_t(height))), x = int(random.below(uint64_t(width)));
  return Mix::cutmix(lambda, y, x, height, width);
}

BatchMixer::BatchMixer(const MixParams& params, uint64_t seed) : params_(params), seed_(seed) {
  draw_mix(params, seed, 0, 1, 1);  // complains
  set({});
}

void BatchMixer::begin_step(int64_t step, int height, int width) {
  set(draw_mix(params_, seed_, step, height, width));
}

void BatchMixer::set(const Mix& mix) {
  mix_ = mix;
  numbers_.set(
      {mix.lambda, mix.inside, float(mix.top), float(mix.bottom), float(mix.left), float(mix.right)});
}

Tensor mix_images(const Tensor& images, const Tensor& state) {
  PLUME_CHECK(images.rank() == 4 && is_floating(images.dtype()), "mix_images: {} is not a batch of images",
              images);
  PLUME_CHECK(state.dtype() == DType::f32 && state.size() == 6, "mix_images: state {}", state);
  Tensor y = empty_like(images);
  mix_images_forward(context(images.device()), images, state, y);
  return y;
}

Tensor mix_targets(const Tensor& labels, int classes, float smoothing, const Tensor& state) {
  PLUME_CHECK(labels.rank() == 1 && labels.dtype() == DType::i32, "mix_targets: labels {}", labels);
  PLUME_CHECK(classes > 0 && smoothing >= 0 && smoothing < 1, "mix_targets: {} classes, smoothing {}",
              classes, smoothing);
  Tensor targets = Tensor::empty({labels.dim(0), classes}, DType::f32, labels.device());
  mix_targets_forward(context(labels.device()), labels, state, {classes, smoothing}, targets);
  return targets;
}

}  // namespace plume
