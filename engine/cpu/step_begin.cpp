#include "engine/ops/step_begin.h"

#include "engine/cpu/parallel.h"

namespace plume::cpu {
namespace {

// Blocks of a fixed size, added up in order: the same sum for any number of threads.
double sum_of_squares(const Tensor& tensor) {
  constexpr int64_t kBlock = 4096;
  const float* x = tensor.data<float>();
  const int64_t size = tensor.size(), blocks = (size + kBlock - 1) / kBlock;
  std::vector<double> partial(static_cast<size_t>(blocks));
  parallel_for(blocks, kElementGrain / kBlock, [&](int64_t first, int64_t last) {
    for (int64_t block = first; block < last; ++block) {
      const int64_t end = std::min(size, (block + 1) * kBlock);
      double sum = 0;
      PLUME_SIMD_SUM(sum)
      for (int64_t i = block * kBlock; i < end; ++i) sum += double(x[i]) * double(x[i]);
      partial[size_t(block)] = sum;
    }
  });
  double sum = 0;
  for (const double p : partial) sum += p;
  return sum;
}

void run_norm(Context&, const std::vector<Tensor>& gradients, Tensor& norm) {
  double sum = 0;
  for (const Tensor& gradient : gradients) sum += sum_of_squares(gradient);
  norm.data<float>()[0] = float(std::sqrt(sum));
}

void run_begin(Context&, const Tensor& input, const Tensor& norm, const StepRules& rules, Tensor& control) {
  const float* in = input.data<float>();
  begin_step(*control_of(control), in[0], in[1], norm.defined() ? norm.data<float>()[0] : 0.0f, rules);
}

const bool registered = gradient_norm.add(Device::cpu, {{"loop", always, run_norm}}) &&
                        step_begin.add(Device::cpu, {{"plain", always, run_begin}});

}  // namespace
}  // namespace plume::cpu
