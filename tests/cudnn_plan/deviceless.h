// cuDNN and a cuda device without a GPU.
//
// cuDNN >= 9.8 plans from a description of a device where it otherwise takes a handle: the linker's --wrap
// puts deviceless.cpp between the engine's own objects and the library, and graphs, heuristics and plans are
// then really made for that device. Executions are kept but not run. The cuda device beside it
// (dry_device.cpp) has memory that nobody touches and kernels that do nothing.
#pragma once
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "engine/core/shape.h"
#include "engine/cuda/cudnn_graph.h"
#include "engine/math/activation.h"

namespace plume::test {

// `json`: what cuDNN wants to know of a device, the text of sm_90.json. Once, before the first plan.
void describe_device(const std::string& json);

struct Execution {
  std::vector<int64_t> tensors;
  std::vector<const void*> pointers;
  const void* workspace;
  cudnnBackendDescriptor_t plan, pack;
};
std::vector<Execution>& executions();

struct StandIn {
  float clock = 0;                                       // milliseconds
  std::function<float(const Execution&)> duration = {};  // none: nothing takes any time
  cudnnStatus_t plans = CUDNN_STATUS_SUCCESS;            // what becomes of those that are made
  size_t largest_block = SIZE_MAX;                       // of memory
  int relus_that_carry_nan = 0;                          // in the graphs so far
};
StandIn& stand_in_device();

// A convolution as a network calls it.
struct ConvolutionCall {
  cuda::Convolution pass;
  bool depthwise;
  Shape x, w;  // or their gradients
  Conv2dParams params;
  bool scale = false, shift = false, residual = false;
  Activation activation = Activation::identity;
  bool wide_gradient = false;  // of the filter: in f32, whatever the images' type
};
// While alive, convolutions are written down, here, and go no further.
class Recorder {
 public:
  explicit Recorder(std::vector<ConvolutionCall>& calls);
  ~Recorder();
  Recorder(const Recorder&) = delete;
  Recorder& operator=(const Recorder&) = delete;
};

}  // namespace plume::test
