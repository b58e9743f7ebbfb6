// How cuDNN computes a graph. Heuristics propose engines; those that support the graph and obey the rules are
// kept, the first proposed in front, and the fastest stays. README.md says how they are chosen.
#pragma once
#include <initializer_list>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "engine/core/context.h"
#include "engine/cuda/candidates.h"
#include "engine/cuda/cudnn_graph.h"

namespace plume::cuda {

// May cuDNN compile a kernel for the graph, which takes a second?
enum class Compiling { never, where_nothing_else_fits, first };

// Which engines may run.
struct PlanRules {
  // None whose result depends on scheduling; the first that fits, whatever the clock says.
  bool deterministic;
  bool tensor_cores;  // false: f32 products are computed in f32
  Compiling compiling;
};

// Plans that need more scratch memory are only made where no other fits.
inline constexpr size_t kCudnnWorkspace = size_t(128) << 20;

using Pointers = std::initializer_list<std::pair<int64_t, const void*>>;

// Execution of one engine.
struct PlannedEngine {
  Descriptor configuration;  // what the execution was made from lives as long as it
  Descriptor execution;
  size_t workspace;
  bool compiled;  // for this graph, at run time
};

class Plan {
 public:
  explicit Plan(std::vector<PlannedEngine> engines) : engines_(std::move(engines)) {}

  // One pointer for each tensor that is not inner, and always in the same order; null ones are left out. The
  // first runs choose an engine (candidates.h).
  void run(const Context& context, Pointers pointers);

  // Of the engine in use.
  size_t workspace() const { return engines_.in_use().workspace; }
  bool compiled() const { return engines_.in_use().compiled; }
  std::string pattern() const;  // cuDNN's name for the kind of graph: CONV_ADD_BIAS_ACT
  size_t engines() const { return engines_.size(); }

 private:
  void execute(const Context& context, const PlannedEngine& engine, const Scratch& scratch);

  Candidates<PlannedEngine> engines_;
  std::vector<int64_t> ids_;  // of this run
  std::vector<const void*> addresses_;
  Descriptor pack_;  // of the last one, with these addresses; the scratch memory's is the last
  std::vector<const void*> packed_;
};

struct Planned {
  std::unique_ptr<Plan> plan;  // null: no engine that obeys the rules supports the graph
  std::string refusal;         // why, in cuDNN's words
};
// Graphs of one `family` differ in their sizes only: they share what is compiled.
Planned make_plan(const Graph& graph, const Context& context, const PlanRules& rules,
                  const std::string& family);

}  // namespace plume::cuda
