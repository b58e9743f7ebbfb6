// What cuDNN is asked for: tensors by number, a convolution, and what follows it.
//
//   Graph graph;
//   graph.tensor(kX, channels_last(x.shape()), type); ...
//   graph.convolution(Convolution::forward, params, kX, kW, kY);
//   Descriptor described = graph.described(handle, false);
#pragma once
#include <cudnn_graph.h>

#include <array>
#include <cstdint>
#include <deque>
#include <map>
#include <vector>

#include "engine/core/shape.h"
#include "engine/cuda/cudnn_descriptor.h"
#include "engine/ops/conv2d.h"

namespace plume::cuda {

// Dimensions in cuDNN's order (N C H W, K C R S), strides as they lie in memory (channels innermost).
struct Layout {
  std::array<int64_t, 4> dims, strides;
};
Layout channels_last(const Shape& shape);  // NHWC or KRSC
Layout per_channel(int64_t channels);      // [K], broadcast over images and positions

enum class Convolution { forward, backward_input, backward_weight };

class Graph {
 public:
  // `inner` tensors exist only between two operations of the graph.
  void tensor(int64_t id, const Layout& layout, cudnnDataType_t type, bool inner = false);
  // One f32 number. Its pointer, when the plan runs, is one into host memory.
  void number(int64_t id);
  // Always with f32 accumulators. `input`, `filter`, `output` name x, w and y or their gradients.
  void convolution(Convolution pass, const Conv2dParams& params, int64_t input, int64_t filter,
                   int64_t output);
  void pointwise(cudnnPointwiseMode_t mode, int64_t x, int64_t y);
  void clipped_relu(double upper, int64_t x, int64_t y);
  void pointwise(cudnnPointwiseMode_t mode, int64_t a, int64_t b, int64_t y);

  // cuDNN's descriptor of the whole, not finalized. The graph must outlive what is made from it.
  // With `any_size`, which wants cuDNN 9.8, for kernels that another size of the images may use again.
  Descriptor described(cudnnHandle_t handle, bool any_size) const;

 private:
  void add_tensor(int64_t id, const Layout& layout, cudnnDataType_t type, cudnnBackendAttributeName_t flag,
                  bool flagged);
  Descriptor& add_pointwise(cudnnPointwiseMode_t mode, int64_t x, int64_t y, double upper = 0);

  std::map<int64_t, Descriptor> tensors_;
  std::deque<Descriptor> parameters_;  // referred to by operations
  std::vector<Descriptor> operations_;
};

}  // namespace plume::cuda
