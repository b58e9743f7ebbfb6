#include "engine/ops/interleave.h"

#include "engine/cpu/parallel.h"
#include "engine/ops/add.h"

namespace plume::cpu {
namespace {

// Calls f(row, a and b's channels) for unsigned integers as wide as the elements.
template <class F>
void dispatch_width(DType dtype, const F& f) {
  if (size_of(dtype) == 4)
    f(uint32_t{});
  else
    f(uint16_t{});
}

void run_forward(Context&, const Tensor& a, const Tensor& b, Tensor& y0, Tensor& y1) {
  if (a.size() == 0) return;
  const int64_t channels = a.dim(a.rank() - 1);
  const bool split = y1.defined();
  dispatch_width(a.dtype(), [&](auto word) {
    using Word = decltype(word);
    const auto *in_a = static_cast<const Word*>(a.raw()), *in_b = static_cast<const Word*>(b.raw());
    auto* out0 = static_cast<Word*>(y0.raw());
    auto* out1 = split ? static_cast<Word*>(y1.raw()) : out0 + channels;
    const int64_t stride = split ? channels : 2 * channels;
    // With an odd number of channels a pair lies on both sides of the border.
    const int64_t pairs = channels / 2, rest = channels % 2;
    parallel_for(a.size() / channels, row_grain(2 * channels), [=](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) {
        const Word *from_a = in_a + row * channels, *from_b = in_b + row * channels;
        Word *to0 = out0 + row * stride, *to1 = out1 + row * stride;
        PLUME_SIMD
        for (int64_t i = 0; i < pairs; ++i) to0[2 * i] = from_a[i], to0[2 * i + 1] = from_b[i];
        if (rest) to0[2 * pairs] = from_a[pairs], to1[0] = from_b[pairs];
        from_a += pairs + rest, from_b += pairs + rest, to1 += rest;
        PLUME_SIMD
        for (int64_t i = 0; i < pairs; ++i) to1[2 * i] = from_a[i], to1[2 * i + 1] = from_b[i];
      }
    });
  });
}

void run_backward(Context& context, const Tensor& dy0, const Tensor& dy1, const Tensor& more, Tensor& da,
                  Tensor& db) {
  if (da.size() == 0) return;
  if (more.defined()) {
    Tensor sum = empty_like(dy0);
    add_forward(context, dy0, more, sum);
    return run_backward(context, sum, dy1, {}, da, db);
  }
  const int64_t channels = da.dim(da.rank() - 1);
  const bool split = dy1.defined();
  dispatch_width(da.dtype(), [&](auto word) {
    using Word = decltype(word);
    const auto* in0 = static_cast<const Word*>(dy0.raw());
    const auto* in1 = split ? static_cast<const Word*>(dy1.raw()) : in0 + channels;
    auto *out_a = static_cast<Word*>(da.raw()), *out_b = static_cast<Word*>(db.raw());
    const int64_t stride = split ? channels : 2 * channels;
    const int64_t pairs = channels / 2, rest = channels % 2;
    parallel_for(da.size() / channels, row_grain(2 * channels), [=](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) {
        const Word *from0 = in0 + row * stride, *from1 = in1 + row * stride;
        Word *to_a = out_a + row * channels, *to_b = out_b + row * channels;
        PLUME_SIMD
        for (int64_t i = 0; i < pairs; ++i) to_a[i] = from0[2 * i], to_b[i] = from0[2 * i + 1];
        if (rest) to_a[pairs] = from0[2 * pairs], to_b[pairs] = from1[0];
        from1 += rest, to_a += pairs + rest, to_b += pairs + rest;
        PLUME_SIMD
        for (int64_t i = 0; i < pairs; ++i) to_a[i] = from1[2 * i], to_b[i] = from1[2 * i + 1];
      }
    });
  });
}

const bool registered = interleave_forward.add(Device::cpu, {{"loop", always, run_forward}}) &&
                        interleave_backward.add(Device::cpu, {{"loop", always, run_backward}});

}  // namespace
}  // namespace plume::cpu
