// sgd_step: all parameters in one launch. A block updates 4096 neighbouring values of one parameter, four
// 16-byte vectors per thread. Which parameter, and which part of it, it finds by bisection in a table that
// travels in the kernel's arguments: nothing is copied to the device first, so a captured graph replays the
// step as it is. A table holds 90 parameters (4 KiB of arguments); longer lists take a launch per 90.
//
// Bytes: reads parameter, gradient and velocity, writes parameter and velocity (5 values per element, 3
// without momentum). 4 to 6 FLOPs each: the bound is memory bandwidth.
#include "engine/ops/sgd_step.h"

#include "kernels/common/kernel.h"
#include "kernels/common/vector.h"

namespace plume::PLUME_KERNELS {
namespace {

constexpr int kThreads = 256;
constexpr int kValuesPerBlock = 4096;
constexpr int kTableSize = 90;

struct Entry {
  float* parameter;
  const float* gradient;
  float* velocity;  // null without momentum
  int64_t size;
  float weight_decay;
  unsigned first_block;
};

struct Table {
  SgdParams params;
  int count;
  Entry entries[kTableSize];
};
static_assert(sizeof(Table) <= 4096, "kernel arguments");

struct Update {
  float rate, momentum, decay, of_gradient, of_velocity;

  __device__ void operator()(float& parameter, float gradient, float& velocity) const {
    const float g = gradient + decay * parameter;
    velocity = momentum * velocity + g;
    parameter -= rate * (of_gradient * g + of_velocity * velocity);
  }
};

__global__ void __launch_bounds__(kThreads) sgd_step_table(const Table table) {
  int low = 0, high = table.count;  // the last entry whose first block is at most this one
  while (high - low > 1) {
    const int middle = (low + high) / 2;
    (table.entries[middle].first_block <= blockIdx.x ? low : high) = middle;
  }
  const Entry& entry = table.entries[low];
  const SgdParams& p = table.params;
  // g + momentum * v for Nesterov's look-ahead, else v; without momentum v is g.
  const Update update{p.learning_rate, entry.velocity ? p.momentum : 0.0f, entry.weight_decay,
                      p.nesterov ? 1.0f : 0.0f, p.nesterov ? p.momentum : 1.0f};

  const int64_t begin = int64_t(blockIdx.x - entry.first_block) * kValuesPerBlock;
  const int64_t end = min(begin + kValuesPerBlock, entry.size);
  constexpr int kWidth = 4;
  using Vector = Pack<float, kWidth>;
  const int64_t vector_end = begin + (end - begin) / kWidth * kWidth;
  for (int64_t i = begin + int64_t(threadIdx.x) * kWidth; i < vector_end; i += kThreads * kWidth) {
    Vector parameter = Vector::load(entry.parameter + i);
    const Vector gradient = Vector::load(entry.gradient + i);
    Vector velocity = entry.velocity ? Vector::load(entry.velocity + i) : Vector::filled(0.0f);
#pragma unroll
    for (int j = 0; j < kWidth; ++j) update(parameter[j], gradient[j], velocity[j]);
    parameter.store(entry.parameter + i);
    if (entry.velocity) velocity.store(entry.velocity + i);
  }
  const int64_t i = vector_end + threadIdx.x;
  if (i < end) {
    float velocity = entry.velocity ? entry.velocity[i] : 0.0f;
    update(entry.parameter[i], entry.gradient[i], velocity);
    if (entry.velocity) entry.velocity[i] = velocity;
  }
}

void run(Context& context, std::vector<SgdTensor>& tensors, const SgdParams& params) {
  Table table{};
  table.params = params;
  unsigned blocks = 0;
  const auto flush = [&] {
    if (blocks == 0) return;
    simt::launch<sgd_step_table>({dim3(blocks), dim3(kThreads), 0, stream_of(context)}, table);
    table.count = 0;
    blocks = 0;
  };
  for (SgdTensor& t : tensors) {
    const int64_t size = t.parameter.size();
    if (size == 0) continue;
    if (table.count == kTableSize) flush();
    table.entries[table.count++] = {t.parameter.data<float>(),
                                    t.gradient.data<float>(),
                                    t.velocity.defined() ? t.velocity.data<float>() : nullptr,
                                    size,
                                    t.weight_decay,
                                    blocks};
    blocks += unsigned(ceil_div(size, kValuesPerBlock));
  }
  flush();
}

const bool registered = sgd_step.add(kThisDevice, {{"one_launch", always, run}});

}  // namespace
}  // namespace plume::PLUME_KERNELS
