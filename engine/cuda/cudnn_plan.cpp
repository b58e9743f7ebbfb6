#include "engine/cuda/cudnn_plan.h"

#include <algorithm>
#include <map>

namespace plume::cuda {
namespace {

constexpr auto kDescriptor = CUDNN_TYPE_BACKEND_DESCRIPTOR;
// How many engines of a heuristic are worth the clock. The fallback list ends with what always works.
constexpr size_t kFromHeuristic = 3, kFromFallback = 2;

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

bool obeys(const Descriptor& engine, const PlanRules& rules) {
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

// Kernels for any size and the caches that keep them, in the headers and in the library.
bool has_kernel_caches() { return CUDNN_VERSION >= 90800 && cudnnGetVersion() >= 90800; }

#if CUDNN_VERSION >= 90800
// One for each family of graphs, for the life of the process like the plans.
const Descriptor& kernel_cache(const std::string& family, const Descriptor& graph) {
  static auto* caches = new std::map<std::string, Descriptor>;
  if (const auto it = caches->find(family); it != caches->end()) return it->second;
  Descriptor cache(CUDNN_BACKEND_KERNEL_CACHE_DESCRIPTOR);
  cache.set(CUDNN_ATTR_KERNEL_CACHE_OPERATION_GRAPH, graph);
  cache.finalize();
  return caches->emplace(family, std::move(cache)).first->second;
}
void use_cache(Descriptor& execution, const Descriptor& cache) {
  execution.set(CUDNN_ATTR_EXECUTION_PLAN_KERNEL_CACHE, cache);
}
#else
const Descriptor& kernel_cache(const std::string&, const Descriptor& graph) { return graph; }
void use_cache(Descriptor&, const Descriptor&) {}
#endif

enum class Kind { ready, compiled };  // kernels that cuDNN brings along, or compiles

// Goes through what cuDNN has for a graph and keeps what fits.
class Search {
 public:
  Search(const Context& context, const PlanRules& rules) : handle_(cudnn_handle(context)), rules_(rules) {}

  // `cache` of the finished graph, when it is for any size: where compiled kernels are looked for and kept.
  template <class F>
  void run(Descriptor& graph, Kind kind, F&& cache) {
    if (refused(graph)) return;
    const Descriptor* kernels = cache();
    collect(graph, kind, CUDNN_HEUR_MODE_A, kFromHeuristic, kernels);
    if (!done() && (kind == Kind::ready || empty()))
      collect(graph, kind, CUDNN_HEUR_MODE_FALLBACK, kFromFallback, kernels);
  }
  // Where results must repeat, what is found first is what runs.
  bool done() const {
    return rules_.deterministic && !found_.empty() && found_[0].workspace <= kCudnnWorkspace;
  }
  bool empty() const { return found_.empty(); }
  // What to choose from: where one fits, none that wants too much scratch memory.
  std::vector<PlannedEngine> take() {
    const auto too_large = std::find_if(found_.begin() + 1, found_.end(),
                                        [](const auto& e) { return e.workspace > kCudnnWorkspace; });
    found_.erase(rules_.deterministic ? found_.begin() + 1 : too_large, found_.end());
    return std::move(found_);
  }
  std::string refusal() const {
    if (!refusal_.empty()) return refusal_;
    return message("none of the {} engines it proposes obeys the rules", proposed_);
  }

 private:
  void collect(const Descriptor& graph, Kind kind, cudnnBackendHeurMode_t mode, size_t most,
               const Descriptor* cache) {
    Descriptor heuristic(CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR);
    heuristic.set(CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, graph);
    heuristic.set(CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, 1, &mode);
    if (refused(heuristic)) return;
    for (Descriptor& configuration : proposals(heuristic)) {
      ++proposed_;
      const Descriptor engine = engine_of(configuration);
      const bool compiled = is_compiled(engine);
      if (compiled != (kind == Kind::compiled) || !obeys(engine, rules_)) continue;
      if (!add(std::move(configuration), compiled, cache)) continue;
      // Compiling takes a second: one is enough.
      if (compiled || done() || --most == 0) return;
    }
  }

  // The configurations that a heuristic proposes, best first.
  static std::vector<Descriptor> proposals(const Descriptor& heuristic) {
    const int64_t count = heuristic.get(CUDNN_ATTR_ENGINEHEUR_RESULTS, kDescriptor, 0, nullptr);
    std::vector<Descriptor> results;
    std::vector<cudnnBackendDescriptor_t> raw;
    for (int64_t i = 0; i < count; ++i)
      raw.push_back(results.emplace_back(CUDNN_BACKEND_ENGINECFG_DESCRIPTOR).raw());
    const int64_t filled = heuristic.get(CUDNN_ATTR_ENGINEHEUR_RESULTS, kDescriptor, count, raw.data());
    results.resize(size_t(std::min(filled, count)));
    return results;
  }

  // False when cuDNN cannot do it after all.
  bool add(Descriptor configuration, bool compiled, const Descriptor* cache) {
    Descriptor execution(CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR);
    execution.set(CUDNN_ATTR_EXECUTION_PLAN_HANDLE, CUDNN_TYPE_HANDLE, 1, &handle_);
    execution.set(CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, configuration);
    if (cache) use_cache(execution, *cache);
    if (refused(execution)) return false;
    int64_t workspace = 0;
    execution.get(CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, CUDNN_TYPE_INT64, 1, &workspace);
    // In the order proposed, but what wants too much scratch memory behind all others.
    const auto fits = [](const PlannedEngine& e) { return e.workspace <= kCudnnWorkspace; };
    PlannedEngine engine{std::move(configuration), std::move(execution), size_t(workspace), compiled};
    const auto place = fits(engine) ? std::find_if_not(found_.begin(), found_.end(), fits) : found_.end();
    found_.insert(place, std::move(engine));
    return true;
  }

  bool refused(Descriptor& descriptor) {
    const std::string why = descriptor.refusal_to_finalize();
    if (refusal_.empty()) refusal_ = why;
    return !why.empty();
  }

  cudnnHandle_t handle_;
  const PlanRules& rules_;
  std::vector<PlannedEngine> found_;
  std::string refusal_;
  int64_t proposed_ = 0;
};

}  // namespace

Planned make_plan(const Graph& graph, const Context& context, const PlanRules& rules,
                  const std::string& family) {
  const cudnnHandle_t handle = cudnn_handle(context);
  Search search(context, rules);
  const auto look_for_compiled = [&] {
    if (has_kernel_caches()) {
      Descriptor of_any_size = graph.described(handle, true);
      search.run(of_any_size, Kind::compiled, [&] { return &kernel_cache(family, of_any_size); });
    }
    Descriptor described = graph.described(handle, false);
    if (search.empty()) search.run(described, Kind::compiled, [] { return nullptr; });
  };
  if (rules.compiling == Compiling::first) look_for_compiled();
  if (!search.done()) {
    Descriptor described = graph.described(handle, false);
    search.run(described, Kind::ready, [] { return nullptr; });
  }
  if (search.empty() && rules.compiling == Compiling::where_nothing_else_fits) look_for_compiled();
  if (search.empty()) return {nullptr, search.refusal()};
  return {std::make_unique<Plan>(search.take()), {}};
}

std::string Plan::pattern() const {
  constexpr auto kName = CUDNN_ATTR_EXECUTION_PLAN_JSON_REPRESENTATION;
  const Descriptor& execution = engines_.in_use().execution;
  std::string json(size_t(execution.get(kName, CUDNN_TYPE_CHAR, 0, nullptr)), ' ');
  execution.get(kName, CUDNN_TYPE_CHAR, std::ssize(json), json.data());
  const std::string key = "\"finalizeMode\":\"";
  const size_t at = json.find(key);
  if (at == std::string::npos) return "";
  const size_t begin = at + key.size();
  return json.substr(begin, json.find('"', begin) - begin);
}

// ---- execution -----------------------------------------------------------------------------------------

void Plan::run(const Context& context, Pointers pointers) {
  ids_.clear();
  addresses_.clear();
  for (const auto& [id, address] : pointers) {
    if (!address) continue;
    ids_.push_back(id);
    addresses_.push_back(address);
  }
  engines_.run(context, [&](const PlannedEngine& engine, const Scratch& scratch) {
    execute(context, engine, scratch);
  });
}

// What was packed for the last run is packed still where it has the same addresses.
void Plan::execute(const Context& context, const PlannedEngine& engine, const Scratch& scratch) {
  const void* data = scratch.data();
  addresses_.push_back(data);
  if (addresses_ != packed_) {
    const int64_t count = std::ssize(ids_);
    packed_.clear();
    pack_ = Descriptor(CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR);
    pack_.set(CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64, count, ids_.data());
    pack_.set(CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, count, addresses_.data());
    pack_.set(CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, 1, &data);
    pack_.finalize();
    packed_ = addresses_;
  }
  addresses_.pop_back();
  PLUME_CUDA(cudnnBackendExecute, cudnn_handle(context), engine.execution.raw(), pack_.raw());
}

}  // namespace plume::cuda
