// A cuda device that does nothing. Of its convolutions only cuDNN's do something: they make their plans.
#include <sys/mman.h>

#include <cstring>

#include "engine/core/context.h"
#include "engine/memory/allocator.h"
#include "engine/ops/activation.h"
#include "engine/ops/adaptive_avg_pool2d.h"
#include "engine/ops/add.h"
#include "engine/ops/batch_norm.h"
#include "engine/ops/cast.h"
#include "engine/ops/concat.h"
#include "engine/ops/depthwise_conv2d.h"
#include "engine/ops/dropout.h"
#include "engine/ops/epilogue.h"
#include "engine/ops/global_avg_pool.h"
#include "engine/ops/interleave.h"
#include "engine/ops/linear.h"
#include "engine/ops/max_pool2d.h"
#include "engine/ops/mbconv.h"
#include "engine/ops/partial_sums.h"
#include "engine/ops/relu.h"
#include "engine/ops/relu_bias.h"
#include "engine/ops/squeeze_excitation.h"
#include "engine/ops/stochastic_depth.h"
#include "engine/ops/sum_rows.h"
#include "tests/cudnn_plan/deviceless.h"

namespace plume::test {
namespace {

std::vector<ConvolutionCall>* recorded = nullptr;

// Pages are there once they are touched, and only weights are. The page before a block holds its size.
constexpr size_t kPage = 4096;
void* map_memory(size_t bytes) {
  if (bytes > stand_in_device().largest_block) return nullptr;
  void* p = mmap(nullptr, bytes + kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                 -1, 0);
  if (p == MAP_FAILED) return nullptr;
  *static_cast<size_t*>(p) = bytes + kPage;
  return static_cast<char*>(p) + kPage;
}
void unmap_memory(void* pointer) {
  void* p = static_cast<char*>(pointer) - kPage;
  munmap(p, *static_cast<size_t*>(p));
}
CachingAllocator& dry_memory() {
  static auto* memory = new CachingAllocator({map_memory, unmap_memory, "dry device"});
  return *memory;
}

constexpr DeviceBackend kDry = {
    .allocate = [](size_t bytes, const char* tag) { return dry_memory().allocate(bytes, tag); },
    .release = [](void* pointer) { dry_memory().release(pointer); },
    .copy = [](void* to, const void* from, size_t bytes, void*) { std::memcpy(to, from, bytes); },
    .fill = [](void*, int, size_t, void*) {},
    .synchronize = [](void*) {},
    .describe = [] { return std::string("a device that is only described"); },
};

void record(ConvolutionCall call) {
  call.params.packed = nullptr;  // the network's, which will be gone
  recorded->push_back(std::move(call));
}

// Behind everything else.
template <class... Args>
void skip(KernelSlot<void(Context&, Args...)>& slot) {
  slot.add(Device::cuda, {{"nothing", always<Args...>, [](Context&, Args...) {}}}, -100);
}
// Before everything else, while there is a Recorder.
template <class... Args>
void record_calls(KernelSlot<void(Context&, Args...)>& slot, void (*run)(Context&, Args...)) {
  slot.add(Device::cuda, {{"recorded", [](const Context&, Args...) { return recorded != nullptr; }, run}},
           100);
  skip(slot);
}

template <bool kDepthwise>
void record_forward(Context&, const Tensor& x, const Tensor& w, const Conv2dParams& params, const Epilogue& e,
                    Tensor&) {
  record({cuda::Convolution::forward, kDepthwise, x.shape(), w.shape(), params, e.scale.defined(),
          e.shift.defined(), e.residual.defined(), e.activation});
}
template <bool kDepthwise>
void record_backward_input(Context&, const Tensor&, const Tensor& w, const Conv2dParams& params, Tensor& dx) {
  record({cuda::Convolution::backward_input, kDepthwise, dx.shape(), w.shape(), params});
}
template <bool kDepthwise>
void record_backward_weight(Context&, const Tensor& x, const Tensor&, const Conv2dParams& params,
                            Tensor& dw) {
  record({cuda::Convolution::backward_weight, kDepthwise, x.shape(), dw.shape(), params});
}

}  // namespace

Recorder::Recorder(std::vector<ConvolutionCall>& calls) { recorded = &calls; }
Recorder::~Recorder() { recorded = nullptr; }

}  // namespace plume::test

extern "C" const char* plume_cuda_start() {
  using namespace plume;
  using namespace plume::test;
  register_backend(Device::cuda, kDry);
  register_device_allocator(Device::cuda, dry_memory());
  skip(activation_forward), skip(activation_backward);
  skip(adaptive_avg_pool2d_forward), skip(adaptive_avg_pool2d_backward);
  skip(add_forward), skip(cast_forward), skip(epilogue_apply), skip(sum_rows_forward);
  skip(batch_norm_forward_train), skip(batch_norm_forward_eval), skip(batch_norm_backward);
  skip(concat_forward), skip(concat_backward), skip(interleave_forward), skip(interleave_backward);
  skip(dropout_forward), skip(stochastic_depth_forward);
  skip(global_avg_pool_forward), skip(global_avg_pool_backward);
  skip(linear_forward), skip(linear_backward_input), skip(linear_backward_weight);
  skip(max_pool2d_forward), skip(max_pool2d_backward);
  skip(squeeze_gate_forward), skip(gated_pointwise_forward);
  skip(relu_forward), skip(relu_backward), skip(relu_bias_backward), skip(partial_sums);
  skip(squeeze_excitation_forward), skip(squeeze_excitation_backward);
  record_calls(conv2d_forward, record_forward<false>);
  record_calls(conv2d_backward_input, record_backward_input<false>);
  record_calls(conv2d_backward_weight, record_backward_weight<false>);
  record_calls(depthwise_conv2d_forward, record_forward<true>);
  record_calls(depthwise_conv2d_backward_input, record_backward_input<true>);
  record_calls(depthwise_conv2d_backward_weight, record_backward_weight<true>);
  return nullptr;
}

namespace plume::cuda {
void transpose(const Context&, DType, int64_t, int64_t, const void*, void*) {}  // cublaslt_matmul.cpp's
}  // namespace plume::cuda
