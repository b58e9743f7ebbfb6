// expand_depthwise for a batch: every thread takes whole images, so that an image's expanded channels are
// still in its second-level cache when the depthwise convolution and the pooling read them.
//
// Of the bytes that the operations one by one move, x + 4 E + d per image (E written with its lines fetched
// first, and read), memory sees x + d. The arithmetic stays the same.
#include <algorithm>

#include "engine/cpu/conv/own_conv2d.h"
#include "engine/cpu/mean_of_pixels.h"
#include "engine/ops/mbconv.h"

namespace plume::cpu {
namespace {

// Image n alone, sharing its memory.
Tensor image(const Tensor& batch, int64_t n) {
  const int64_t size = batch.size() / batch.dim(0);
  float* first = const_cast<float*>(batch.data<float>()) + n * size;
  return Tensor::adopt(std::shared_ptr<void>(std::make_shared<Tensor>(batch), first),
                       batch.shape().with(0, 1), batch.dtype(), batch.device());
}

Conv2dParams depthwise_params(const ExpandDepthwiseParams& p) { return {p.stride, p.padding, 1, nullptr}; }

void run(Context&, const Tensor& x, const Tensor& w1, const Tensor& b1, const Tensor& w2, const Tensor& b2,
         const ExpandDepthwiseParams& p, Tensor& d, Tensor& pooled) {
  pack_for_indirect_gemm(w1, *p.packed);
  const Shape expanded_shape = x.shape().with(0, 1).with(-1, w1.dim(0));
  parallel_for(x.dim(0), 1, [&](int64_t begin, int64_t end) {
    Tensor expanded = Tensor::empty(expanded_shape, DType::f32, x.device(), "workspace");
    std::vector<double> sums;
    for (int64_t n = begin; n < end; ++n) {
      Tensor out = image(d, n);
      indirect_gemm(image(x, n), w1, {.packed = p.packed}, {.shift = b1, .activation = p.expanded}, expanded,
                    0);
      depthwise_rows(expanded, w2, depthwise_params(p), {.shift = b2, .activation = p.out}, out);
      if (pooled.defined())
        mean_of_pixels(out.data<float>(), d.dim(1) * d.dim(2), d.dim(3), sums,
                       pooled.data<float>() + n * d.dim(3));
    }
  });
}

// Images enough to share out evenly.
bool fits(const Context&, const Tensor& x, const Tensor& w1, const Tensor&, const Tensor& w2, const Tensor&,
          const ExpandDepthwiseParams& p, Tensor& d, Tensor&) {
  if (!p.packed || x.dtype() != DType::f32 || x.size() == 0 || d.size() == 0) return false;
  const int64_t images = x.dim(0), threads = max_threads();
  if (images % threads != 0 && images < 4 * threads) return false;
  return fits_depthwise_rows(x.shape().with(-1, w1.dim(0)), w2.shape(), depthwise_params(p));
}

const bool registered = expand_depthwise_forward.add(Device::cpu, {{"image_per_thread", fits, run}});

}  // namespace
}  // namespace plume::cpu
