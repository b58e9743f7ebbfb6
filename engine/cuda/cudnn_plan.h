// How cuDNN computes a graph: a heuristic proposes engines, and the first one that supports the graph becomes
// a plan.
#pragma once
#include <initializer_list>
#include <memory>
#include <string>
#include <utility>

#include "engine/cuda/cudnn_graph.h"

namespace plume::cuda {

// Which engines may run.
struct PlanRules {
  bool deterministic;  // none whose result depends on scheduling
  bool tensor_cores;   // false: f32 products are computed in f32
  bool compiled;       // also engines that cuDNN compiles for this graph, about a second each
};

using Pointers = std::initializer_list<std::pair<int64_t, const void*>>;

class Plan {
 public:
  Plan(Descriptor execution, Descriptor configuration, bool compiled);
  size_t workspace() const { return workspace_; }
  bool compiled() const { return compiled_; }  // for this graph, at run time
  std::string pattern() const;                 // cuDNN's name for the kind of graph: CONV_ADD_BIAS_ACT
  // One pointer for each tensor that is not inner; null pointers are left out.
  void run(cudnnHandle_t handle, Pointers pointers) const;

 private:
  Descriptor configuration_;  // what execution_ was made from lives as long as it
  Descriptor execution_;
  size_t workspace_;
  bool compiled_;
};

// Null when no engine that obeys the rules supports the graph.
std::unique_ptr<Plan> make_plan(const Graph& graph, cudnnHandle_t handle, const PlanRules& rules);

}  // namespace plume::cuda
