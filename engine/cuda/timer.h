// How long the device works.
#pragma once
#include <cuda_runtime.h>

#include <memory>

#include "engine/cuda/check.h"
#include "engine/cuda/handles.h"

namespace plume::cuda {

class Timer {
 public:
  Timer() : begin_(made()), end_(made()) {}

  // Of what `work` sends to the context's stream; waits for it.
  template <class F>
  float milliseconds(const Context& context, F&& work) const {
    PLUME_CUDA(cudaEventRecord, begin_.get(), stream_of(context));
    work();
    PLUME_CUDA(cudaEventRecord, end_.get(), stream_of(context));
    PLUME_CUDA(cudaEventSynchronize, end_.get());
    float time = 0;
    PLUME_CUDA(cudaEventElapsedTime, &time, begin_.get(), end_.get());
    return time;
  }

 private:
  struct Destroy {
    void operator()(cudaEvent_t event) const { cudaEventDestroy(event); }
  };
  using Event = std::unique_ptr<CUevent_st, Destroy>;
  static Event made() {
    cudaEvent_t event = nullptr;
    PLUME_CUDA(cudaEventCreate, &event);
    return Event(event);
  }
  Event begin_, end_;
};

}  // namespace plume::cuda
