#include "engine/cuda/cudnn_plan.h"

#include <algorithm>

#include "engine/cuda/handles.h"

namespace plume::cuda {
namespace {

constexpr auto kDescriptor = CUDNN_TYPE_BACKEND_DESCRIPTOR;

// The notes of a configuration belong to its engine.
Descriptor engine_of(const Descriptor& configuration) {
  Descriptor engine(CUDNN_BACKEND_ENGINE_DESCRIPTOR);
  cudnnBackendDescriptor_t raw = engine.raw();
  configuration.get(CUDNN_ATTR_ENGINECFG_ENGINE, kDescriptor, 1, &raw);
  return engine;
}

bool is_compiled(const Descriptor& engine) {
  cudnnBackendBehaviorNote_t notes[CUDNN_BEHAVIOR_NOTE_TYPE_COUNT] = {};
  const int64_t count =
      engine.get(CUDNN_ATTR_ENGINE_BEHAVIOR_NOTE, CUDNN_TYPE_BEHAVIOR_NOTE, std::ssize(notes), notes);
  const auto end = notes + std::min(count, std::ssize(notes));  // a newer library may know more
  return std::find(notes, end, CUDNN_BEHAVIOR_NOTE_RUNTIME_COMPILATION) != end;
}

bool allowed(const Descriptor& engine, const PlanRules& rules) {
  if (is_compiled(engine) && !rules.compiled) return false;
  cudnnBackendNumericalNote_t notes[CUDNN_NUMERICAL_NOTE_TYPE_COUNT] = {};
  const int64_t count =
      engine.get(CUDNN_ATTR_ENGINE_NUMERICAL_NOTE, CUDNN_TYPE_NUMERICAL_NOTE, std::ssize(notes), notes);
  for (int64_t i = 0; i < std::min(count, std::ssize(notes)); ++i) {
    switch (notes[i]) {
      // Sums are f32 and operands keep their type, whatever is asked.
      case CUDNN_NUMERICAL_NOTE_DOWN_CONVERT_INPUTS:
      case CUDNN_NUMERICAL_NOTE_REDUCED_PRECISION_REDUCTION:
      // Transformed convolutions lose digits that the direct ones keep.
      case CUDNN_NUMERICAL_NOTE_FFT:
      case CUDNN_NUMERICAL_NOTE_WINOGRAD:
        return false;
      case CUDNN_NUMERICAL_NOTE_TENSOR_CORE:
        if (!rules.tensor_cores) return false;
        break;
      case CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC:
        if (rules.deterministic) return false;
        break;
      default:
        break;
    }
  }
  return true;
}

// The configurations that a heuristic proposes, best first; none when it does not know the graph.
std::vector<Descriptor> configurations(const Descriptor& graph, cudnnBackendHeurMode_t mode) {
  Descriptor heuristic(CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR);
  heuristic.set(CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, graph);
  heuristic.set(CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, 1, &mode);
  if (cudnnBackendFinalize(heuristic.raw()) != CUDNN_STATUS_SUCCESS) return {};
  const int64_t count = heuristic.get(CUDNN_ATTR_ENGINEHEUR_RESULTS, kDescriptor, 0, nullptr);
  std::vector<Descriptor> results;
  std::vector<cudnnBackendDescriptor_t> raw;
  for (int64_t i = 0; i < count; ++i) {
    results.emplace_back(CUDNN_BACKEND_ENGINECFG_DESCRIPTOR);
    raw.push_back(results.back().raw());
  }
  const int64_t filled = heuristic.get(CUDNN_ATTR_ENGINEHEUR_RESULTS, kDescriptor, count, raw.data());
  results.resize(size_t(std::min(filled, count)));
  return results;
}

}  // namespace

Plan::Plan(Descriptor execution, Descriptor configuration, bool compiled)
    : configuration_(std::move(configuration)), execution_(std::move(execution)), compiled_(compiled) {
  int64_t bytes = 0;
  execution_.get(CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, CUDNN_TYPE_INT64, 1, &bytes);
  workspace_ = size_t(bytes);
}

std::string Plan::pattern() const {
  constexpr auto kName = CUDNN_ATTR_EXECUTION_PLAN_JSON_REPRESENTATION;
  std::string json(size_t(execution_.get(kName, CUDNN_TYPE_CHAR, 0, nullptr)), ' ');
  execution_.get(kName, CUDNN_TYPE_CHAR, std::ssize(json), json.data());
  const std::string key = "\"finalizeMode\":\"";
  const size_t at = json.find(key);
  if (at == std::string::npos) return "";
  const size_t begin = at + key.size();
  return json.substr(begin, json.find('"', begin) - begin);
}

std::unique_ptr<Plan> make_plan(const Graph& graph, cudnnHandle_t handle, const PlanRules& rules) {
  const Descriptor described = graph.described(handle);
  // From here on a refusal means "not supported", which is an answer.
  if (cudnnBackendFinalize(described.raw()) != CUDNN_STATUS_SUCCESS) return nullptr;

  for (const cudnnBackendHeurMode_t mode : {CUDNN_HEUR_MODE_A, CUDNN_HEUR_MODE_FALLBACK})
    for (Descriptor& configuration : configurations(described, mode)) {
      const Descriptor engine = engine_of(configuration);
      if (!allowed(engine, rules)) continue;
      Descriptor execution(CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR);
      execution.set(CUDNN_ATTR_EXECUTION_PLAN_HANDLE, CUDNN_TYPE_HANDLE, 1, &handle);
      execution.set(CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, configuration);
      if (cudnnBackendFinalize(execution.raw()) != CUDNN_STATUS_SUCCESS) continue;
      return std::make_unique<Plan>(std::move(execution), std::move(configuration), is_compiled(engine));
    }
  return nullptr;
}

void Plan::run(cudnnHandle_t handle, Pointers pointers) const {
  std::vector<int64_t> ids;
  std::vector<const void*> addresses;
  for (const auto& [id, address] : pointers) {
    if (!address) continue;
    ids.push_back(id);
    addresses.push_back(address);
  }
  const Scratch workspace(workspace_);
  const void* scratch = workspace.data();
  const auto count = int64_t(ids.size());
  Descriptor pack(CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR);
  pack.set(CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64, count, ids.data());
  pack.set(CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, count, addresses.data());
  pack.set(CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, 1, &scratch);
  pack.finalize();
  PLUME_CUDA(cudnnBackendExecute, handle, execution_.raw(), pack.raw());
}

}  // namespace plume::cuda
