#include "engine/ops/conv2d_interleave.h"

#include "engine/ops/concat.h"
#include "engine/ops/interleave.h"
#include "engine/ops/separate.h"
#include "engine/profiler/cost.h"

namespace plume {

namespace {

CallCost cost(const Tensor& x, const Tensor& w, const Conv2dParams& p, const Epilogue&, const Tensor&,
              const Tensor&, const Tensor&) {
  return {CallClass::pointwise, double(conv2d_macs(x.shape(), w.shape(), p))};
}

}  // namespace

constinit KernelSlot<Conv2dInterleaveForward> conv2d_interleave_forward{"conv2d_interleave.forward", cost};

namespace {

// padded = zeros around `channels`, `begin` of them in front. Nothing where both are the same tensor.
void pad(Context& context, const Tensor& channels, int64_t begin, Tensor& padded) {
  if (channels.same_storage(padded)) return;
  const auto zeros = [&](int64_t count) {
    return Tensor::zeros(padded.shape().with(-1, count), padded.dtype(), padded.device());
  };
  const int64_t filled = begin + channels.dim(-1), rest = padded.dim(-1) - filled;
  Tensor front = rest == 0 ? padded : empty(padded.shape().with(-1, filled), padded);
  if (begin > 0) concat_forward(context, zeros(begin), channels, front);
  if (rest > 0) concat_forward(context, begin > 0 ? front : channels, zeros(rest), padded);
}

// On any device, for what no other variant takes: the convolution, then the shuffle, and rows are padded.
void run_separate(Context& context, const Tensor& x, const Tensor& w, const Conv2dParams& params,
                  const Epilogue& epilogue, const Tensor& a, Tensor& y0, Tensor& y1) {
  Tensor b = empty(conv2d_shape(x.shape(), w.shape(), params), x);
  conv2d_forward(context, x, w, params, epilogue, b);
  const int64_t k = b.dim(3);
  const auto plain = [&](Tensor& y, int64_t channels) {
    return y.dim(-1) == channels ? y : empty(b.shape().with(-1, channels), b);
  };
  const bool split = y1.defined();
  Tensor channels0 = plain(y0, split ? k : 2 * k), channels1, channels_of_a = a;
  if (split) channels1 = plain(y1, k);
  if (a.dim(-1) > k) {
    Tensor padding = empty(b.shape().with(-1, a.dim(-1) - k), b);
    channels_of_a = empty_like(b);
    concat_backward(context, a, channels_of_a, padding);
  }
  interleave_forward(context, channels_of_a, b, channels0, channels1);
  pad(context, channels0, 0, y0);
  if (split) pad(context, channels1, second_half_begin(k), y1);
}

const bool registered = add_separate(conv2d_interleave_forward, run_separate);

}  // namespace

std::pair<Tensor, Tensor> conv2d_interleave(const Tensor& x, const Tensor& w, const Conv2dParams& params,
                                            const Epilogue& epilogue, const Tensor& a, bool split,
                                            bool padded) {
  const Shape b = conv2d_shape(x.shape(), w.shape(), params);
  PLUME_CHECK(b.with(-1, 0) == a.shape().with(-1, 0) && a.dim(-1) >= b[3] && a.dtype() == x.dtype(),
              "conv2d_interleave: {} beside a convolution's {}", a, b);
  PLUME_CHECK(w.dim(1) == 1 && w.dim(2) == 1 && params.stride == 1 && !epilogue.residual.defined(),
              "conv2d_interleave: weight {}, stride {}: not a 1x1 convolution", w.shape(), params.stride);
  const auto rows = [&](int64_t channels) {
    return empty(b.with(-1, padded ? chunked_channels(channels) : channels), x);
  };
  Tensor y0 = rows(split ? b[3] : 2 * b[3]), y1;
  if (split) y1 = rows(padded ? b[3] + second_half_begin(b[3]) : b[3]);
  count_macs(Work::pointwise, conv2d_macs(x.shape(), w.shape(), params));
  conv2d_interleave_forward(context(x.device()), x, w, params, epilogue, a, y0, y1);
  return {y0, y1};
}

}  // namespace plume
