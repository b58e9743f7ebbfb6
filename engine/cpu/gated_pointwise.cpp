// gated_pointwise for filters that are not constant, and for 16 bits: the image is scaled by its gates, then
// convolved. (conv/indirect.cpp has the variant for constant ones.)
#include "engine/cpu/parallel.h"
#include "engine/ops/mbconv.h"

namespace plume::cpu {
namespace {

Tensor scaled_image(const Tensor& x, const Tensor& gate) {
  Tensor scaled = Tensor::empty(x.shape(), x.dtype(), x.device(), "workspace");
  const int64_t channels = x.dim(3), plane = x.dim(1) * x.dim(2);
  const float* gates = gate.data<float>();
  dispatch_floating(x.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const T* in = x.data<T>();
    T* out = scaled.data<T>();
    parallel_for(x.dim(0) * plane, row_grain(channels), [=](int64_t begin, int64_t end) {
      for (int64_t pixel = begin; pixel < end; ++pixel) {
        const float* g = gates + pixel / plane * channels;
        const T* from = in + pixel * channels;
        T* to = out + pixel * channels;
        PLUME_SIMD
        for (int64_t c = 0; c < channels; ++c) to[c] = T(float(from[c]) * g[c]);
      }
    });
  });
  return scaled;
}

void run(Context& context, const Tensor& x, const Tensor& gate, const Tensor& w, PackedFilter* packed,
         const Epilogue& epilogue, Tensor& y) {
  conv2d_forward(context, scaled_image(x, gate), w, {.packed = packed}, epilogue, y);
}

void run_backward_weight(Context& context, const Tensor& x, const Tensor& gate, const Tensor& dy,
                         Tensor& dw) {
  conv2d_backward_weight(context, scaled_image(x, gate), dy, {}, dw);
}

const bool registered =
    gated_pointwise_forward.add(Device::cpu, {{"scale_first", always, run}}) &&
    gated_pointwise_backward_weight.add(Device::cpu, {{"scale_first", always, run_backward_weight}});

}  // namespace
}  // namespace plume::cpu
