#include "engine/ops/batch_metrics.h"

#include <limits>

namespace plume::cpu {
namespace {

void run(Context&, const Tensor& loss, const Tensor& logits, const Tensor& labels, Tensor& sums) {
  const int64_t rows = logits.dim(0), classes = logits.dim(1);
  int64_t correct = 0;
  dispatch_floating(logits.dtype(), [&](auto zero) {
    using T = decltype(zero);
    for (int64_t n = 0; labels.defined() && n < rows; ++n) {
      const T* const row = logits.data<T>() + n * classes;
      float largest = -std::numeric_limits<float>::infinity();
      int64_t place = -1;
      for (int64_t k = 0; k < classes; ++k)
        if (const float v = float(row[k]); v > largest) largest = v, place = k;
      correct += place == labels.data<int32_t>()[n];
    }
  });
  auto* const out = static_cast<double*>(sums.raw());
  out[0] += double(*loss.data<float>()) * double(rows);
  out[1] += double(correct);
  out[2] += double(rows);
}

const bool registered = batch_metrics_forward.add(Device::cpu, {{"loop", always, run}});

}  // namespace
}  // namespace plume::cpu
