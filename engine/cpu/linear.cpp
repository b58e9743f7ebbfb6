#include "engine/ops/linear.h"

#include "engine/cpu/parallel.h"

namespace plume::cpu {
namespace {

void run_forward(Context&, const Tensor& x, const Tensor& w, const Epilogue& epilogue, Tensor& y) {
  const int64_t inputs = x.dim(1), outputs = w.dim(0);
  dispatch_floating(x.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const T *in = x.data<T>(), *weight = w.data<T>();
    T* out = y.data<T>();
    const EpilogueView<T> finish(epilogue);
    parallel_for(y.size(), row_grain(inputs), [=](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const int64_t n = i / outputs, k = i % outputs;
        const T *a = in + n * inputs, *b = weight + k * inputs;
        float sum = 0.0f;
        PLUME_SIMD_SUM(sum)
        for (int64_t c = 0; c < inputs; ++c) sum += float(a[c]) * float(b[c]);
        out[i] = T(finish(sum, int(k), i));
      }
    });
  });
}

// out[row, :] = sum over i of factor[row * row_step + i * term_step] * terms[i, :]
template <class T, class Out>
void weighted_sums(const T* factor, int64_t row_step, int64_t term_step, const T* terms, int64_t count,
                   int64_t rows, int64_t columns, Out* out) {
  parallel_for(rows, row_grain(count * columns), [=](int64_t begin, int64_t end) {
    std::vector<float> sums(static_cast<size_t>(columns));
    float* sum = sums.data();
    for (int64_t row = begin; row < end; ++row) {
      std::fill(sums.begin(), sums.end(), 0.0f);
      for (int64_t i = 0; i < count; ++i) {
        const float f = float(factor[row * row_step + i * term_step]);
        const T* term = terms + i * columns;
        PLUME_SIMD
        for (int64_t c = 0; c < columns; ++c) sum[c] += f * float(term[c]);
      }
      for (int64_t c = 0; c < columns; ++c) out[row * columns + c] = Out(sum[c]);
    }
  });
}

void run_backward_input(Context&, const Tensor& dy, const Tensor& w, Tensor& dx) {
  const int64_t outputs = w.dim(0), inputs = w.dim(1);
  dispatch_floating(dy.dtype(), [&](auto zero) {
    using T = decltype(zero);
    weighted_sums(dy.data<T>(), outputs, 1, w.data<T>(), outputs, dy.dim(0), inputs, dx.data<T>());
  });
}

void run_backward_weight(Context&, const Tensor& x, const Tensor& dy, Tensor& dw) {
  const int64_t outputs = dw.dim(0), inputs = dw.dim(1);
  dispatch_floating(dy.dtype(), [&](auto zero) {
    using T = decltype(zero);
    dispatch_result<T>(dw.dtype(), [&](auto result) {
      weighted_sums(dy.data<T>(), 1, outputs, x.data<T>(), x.dim(0), outputs, inputs,
                    dw.data<decltype(result)>());
    });
  });
}

const bool registered = linear_forward.add(Device::cpu, {{"loop", always, run_forward}}) &&
                        linear_backward_input.add(Device::cpu, {{"loop", always, run_backward_input}}) &&
                        linear_backward_weight.add(Device::cpu, {{"loop", always, run_backward_weight}});

}  // namespace
}  // namespace plume::cpu
