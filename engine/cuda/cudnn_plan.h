// cuDNN's graph interface: tensors and operations are described, a heuristic proposes engines, and the first
// one that supports the graph becomes a plan.
//
//   Graph graph;
//   graph.tensor(kX, images(x.shape()), type); ...
//   graph.convolution(Convolution::forward, params, kX, kW, kY);
//   std::unique_ptr<Plan> plan = graph.plan(handle, rules);   // null: cuDNN cannot do it
//   plan->run(handle, {{kX, x.raw()}, ...});
#pragma once
#include <cudnn_graph.h>

#include <array>
#include <cstdint>
#include <deque>
#include <initializer_list>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "engine/core/shape.h"
#include "engine/cuda/check.h"
#include "engine/ops/conv2d.h"

namespace plume::cuda {

// Owns a backend descriptor. Attributes are set, then finalize() makes it usable.
class Descriptor {
 public:
  Descriptor() = default;
  explicit Descriptor(cudnnBackendDescriptorType_t type);
  ~Descriptor();
  Descriptor(Descriptor&& other) noexcept : raw_(std::exchange(other.raw_, nullptr)) {}
  Descriptor& operator=(Descriptor&& other) noexcept {
    std::swap(raw_, other.raw_);
    return *this;
  }

  cudnnBackendDescriptor_t raw() const { return raw_; }
  void set(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, int64_t count,
           const void* values);
  void set(cudnnBackendAttributeName_t name, const Descriptor& value) {
    set(name, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &value.raw_);
  }
  void finalize();
  // Reads up to `count` values; returns how many there are.
  int64_t get(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, int64_t count,
              void* values) const;

 private:
  cudnnBackendDescriptor_t raw_ = nullptr;
};

// Dimensions in cuDNN's order (N C H W, K C R S), strides as they lie in memory (channels innermost).
struct Layout {
  std::array<int64_t, 4> dims, strides;
};
Layout channels_last(const Shape& shape);  // NHWC or KRSC
Layout per_channel(int64_t channels);      // [K], broadcast over images and positions

enum class Convolution { forward, backward_input, backward_weight };

// Which engines may run.
struct PlanRules {
  bool deterministic;  // none whose result depends on scheduling
  bool tensor_cores;   // false: f32 products are computed in f32
  bool compiled;       // also engines that cuDNN compiles for this graph, about a second each
};

using Pointers = std::initializer_list<std::pair<int64_t, const void*>>;

class Plan {
 public:
  Plan(Descriptor execution, Descriptor configuration, size_t workspace)
      : configuration_(std::move(configuration)), execution_(std::move(execution)), workspace_(workspace) {}
  size_t workspace() const { return workspace_; }
  // One pointer for each tensor that is not inner; null pointers are left out.
  void run(cudnnHandle_t handle, Pointers pointers) const;

 private:
  Descriptor configuration_;  // what execution_ was made from lives as long as it
  Descriptor execution_;
  size_t workspace_;
};

class Graph {
 public:
  // `inner` tensors exist only between two operations of the graph.
  void tensor(int64_t id, const Layout& layout, cudnnDataType_t type, bool inner = false);
  // Always with f32 accumulators. `input`, `filter`, `output` name x, w and y or their gradients.
  void convolution(Convolution pass, const Conv2dParams& params, int64_t input, int64_t filter,
                   int64_t output);
  void pointwise(cudnnPointwiseMode_t mode, int64_t x, int64_t y);
  void pointwise(cudnnPointwiseMode_t mode, int64_t a, int64_t b, int64_t y);

  // Null when no engine that obeys the rules supports the graph.
  std::unique_ptr<Plan> plan(cudnnHandle_t handle, const PlanRules& rules);

 private:
  Descriptor& add_pointwise(cudnnPointwiseMode_t mode, int64_t x, int64_t y);

  std::map<int64_t, Descriptor> tensors_;
  std::deque<Descriptor> parameters_;  // referred to by operations
  std::vector<Descriptor> operations_;
};

}  // namespace plume::cuda
