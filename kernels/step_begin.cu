// gradient_norm: the blocks of one launch per table (common/tensor_table.h) each leave one sum of squares, a
// block of its own adds those up. No atomics: the order of the additions, in double, depends on the sizes
// alone. step_begin: one thread, for a step needs a dozen numbers.
//
// Bytes: gradient_norm reads every gradient once and writes 8 bytes per 4096 values. One double multiply-add
// per value: on GPUs that are made for double precision the bound is memory bandwidth.
#include "engine/ops/step_begin.h"

#include "kernels/common/tensor_table.h"
#include "kernels/common/warp_reduce.h"

namespace plume::PLUME_KERNELS {
namespace {

using NormTable =
    TensorTable<double*, TableEntry<1>>;  // params: where the table's first block leaves its sum

__global__ void __launch_bounds__(kTableThreads) sum_of_squares_table(const NormTable table) {
  static_assert(sizeof(table) <= 4096, "kernel arguments");
  double sum = 0.0;
  for_each_value<0>(table.entry_of_block(), [&](float(&v)[1]) { sum += double(v[0]) * double(v[0]); });
  sum = block_sum<kTableThreads>(sum);
  if (threadIdx.x == 0) table.params[blockIdx.x] = sum;
}

__global__ void __launch_bounds__(kTableThreads)
    root_of_sum(const double* __restrict__ partial, int64_t count, float* __restrict__ norm) {
  double sum = 0.0;
  for (int64_t i = threadIdx.x; i < count; i += kTableThreads) sum += partial[i];
  sum = block_sum<kTableThreads>(sum);
  if (threadIdx.x == 0) *norm = float(sqrt(sum));
}

void run_norm(Context& context, const std::vector<Tensor>& gradients, Tensor& norm) {
  int64_t blocks = 0;
  for (const Tensor& gradient : gradients) blocks += ceil_div(gradient.size(), kTableValues);
  // Two floats hold a double.
  Tensor partial = Tensor::empty({std::max<int64_t>(2 * blocks, 2)}, DType::f32, norm.device(), "workspace");
  auto* const sums = static_cast<double*>(partial.raw());
  double* next = sums;
  for_each_table<NormTable>(
      context, nullptr, gradients.size(),
      [&](size_t i) -> TableEntry<1> {
        return {{array_of(gradients[i])}, table_size(gradients[i])};
      },
      [&](NormTable& table, const simt::Launch& launch) {
        table.params = next;
        simt::launch<sum_of_squares_table>(launch, table);
        next += table.blocks;
      });
  simt::launch<root_of_sum>({dim3(1), dim3(kTableThreads), 0, stream_of(context)}, sums, blocks,
                            norm.data<float>());
}

__global__ void begin_step_thread(StepControl* control, const float* input, const float* norm,
                                  StepRules rules) {
  begin_step(*control, input[0], input[1], norm ? *norm : 0.0f, rules);
}

void run_begin(Context& context, const Tensor& input, const Tensor& norm, const StepRules& rules,
               Tensor& control) {
  simt::launch<begin_step_thread>({dim3(1), dim3(1), 0, stream_of(context)}, control_of(control),
                                  input.data<float>(), norm.defined() ? norm.data<float>() : nullptr, rules);
}

const bool step_begin_registered = gradient_norm.add(kThisDevice, {{"two_pass", always, run_norm}}) &&
                                   step_begin.add(kThisDevice, {{"one_thread", always, run_begin}});

}  // namespace
}  // namespace plume::PLUME_KERNELS
