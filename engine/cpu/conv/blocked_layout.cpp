#include "engine/cpu/conv/blocked_layout.h"

#include "engine/cpu/parallel.h"

namespace plume::cpu {
namespace {

// One image row at a time, so that both sides of the transposition stay in the first cache. Calls
// f(pixel in NHWC, position in the blocked tensor, first channel) for each group of eight channels.
template <class F>
void for_each_group(const Shape& shape, const F& f) {
  const int64_t height = shape[1], width = shape[2], blocks = shape[3] / kChannelBlock;
  parallel_for(shape[0] * height, row_grain(width * shape[3]), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const int64_t n = row / height, h = row % height;
      for (int64_t b = 0; b < blocks; ++b) {
        const int64_t first = ((n * blocks + b) * height + h) * width * kChannelBlock;
        for (int64_t w = 0; w < width; ++w)
          f((row * width + w) * shape[3] + b * kChannelBlock, first + w * kChannelBlock, b * kChannelBlock);
      }
    }
  });
}

template <bool kAffine, bool kResidual, bool kRelu, bool kAddsLast = false>
void unblock(const float* blocked, const float* scale, const float* shift, const float* residual,
             const Shape& shape, float* y) {
  for_each_group(shape, [=](int64_t place, int64_t from, int64_t channel) {
    PLUME_SIMD
    for (int64_t i = 0; i < kChannelBlock; ++i) {
      float v = blocked[from + i];
      if constexpr (kAffine) v = v * scale[channel + i] + shift[channel + i];
      if constexpr (kResidual && !kAddsLast) v += residual[place + i];
      if constexpr (kRelu) v = activate(Activation::relu, v);
      if constexpr (kAddsLast) v += residual[place + i];
      y[place + i] = v;
    }
  });
}

}  // namespace

void to_blocked(const Tensor& x, float* blocked) {
  const float* in = x.data<float>();
  for_each_group(x.shape(), [=](int64_t place, int64_t to, int64_t) {
    PLUME_SIMD
    for (int64_t i = 0; i < kChannelBlock; ++i) blocked[to + i] = in[place + i];
  });
}

void from_blocked(const float* blocked, const Epilogue& epilogue, Tensor& y) {
  const size_t channels = size_t(y.dim(3));
  const bool affine = epilogue.scale.defined() || epilogue.shift.defined();
  std::vector<float> ones, zeros;
  if (affine && !epilogue.scale.defined()) ones.assign(channels, 1.0f);
  if (affine && !epilogue.shift.defined()) zeros.assign(channels, 0.0f);
  const EpilogueView<float> view(epilogue);
  const float* scale = view.scale ? view.scale : ones.data();
  const float* shift = view.shift ? view.shift : zeros.data();
  const bool with_relu = epilogue.activation == Activation::relu;
  const auto choose = [&]<bool kAffine>() {
    if (view.adds_last) return unblock<kAffine, true, true, true>;
    return view.residual ? (with_relu ? unblock<kAffine, true, true> : unblock<kAffine, true, false>)
                         : (with_relu ? unblock<kAffine, false, true> : unblock<kAffine, false, false>);
  };
  const auto run = affine ? choose.template operator()<true>() : choose.template operator()<false>();
  run(blocked, scale, shift, view.residual, y.shape(), y.data<float>());
}

}  // namespace plume::cpu
