#include "engine/cuda/cudnn_plan.h"

#include <algorithm>

#include "engine/cuda/handles.h"

namespace plume::cuda {
namespace {

constexpr auto kDescriptor = CUDNN_TYPE_BACKEND_DESCRIPTOR;
constexpr cudnnDataType_t kAccumulator = CUDNN_DATA_FLOAT;

// May this engine configuration run? The notes belong to its engine.
bool allowed(const Descriptor& configuration, const PlanRules& rules) {
  Descriptor engine(CUDNN_BACKEND_ENGINE_DESCRIPTOR);
  cudnnBackendDescriptor_t raw = engine.raw();
  configuration.get(CUDNN_ATTR_ENGINECFG_ENGINE, kDescriptor, 1, &raw);
  cudnnBackendNumericalNote_t notes[CUDNN_NUMERICAL_NOTE_TYPE_COUNT] = {};
  const int64_t count = engine.get(CUDNN_ATTR_ENGINE_NUMERICAL_NOTE, CUDNN_TYPE_NUMERICAL_NOTE,
                                   CUDNN_NUMERICAL_NOTE_TYPE_COUNT, notes);
  for (int64_t i = 0; i < count; ++i) {
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
  cudnnBackendBehaviorNote_t behavior[CUDNN_BEHAVIOR_NOTE_TYPE_COUNT] = {};
  const int64_t behaviors = engine.get(CUDNN_ATTR_ENGINE_BEHAVIOR_NOTE, CUDNN_TYPE_BEHAVIOR_NOTE,
                                       CUDNN_BEHAVIOR_NOTE_TYPE_COUNT, behavior);
  for (int64_t i = 0; i < behaviors; ++i)
    if (behavior[i] == CUDNN_BEHAVIOR_NOTE_RUNTIME_COMPILATION && !rules.compiled) return false;
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

Descriptor::Descriptor(cudnnBackendDescriptorType_t type) {
  PLUME_CUDA(cudnnBackendCreateDescriptor, type, &raw_);
}

Descriptor::~Descriptor() {
  if (raw_) cudnnBackendDestroyDescriptor(raw_);
}

void Descriptor::set(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, int64_t count,
                     const void* values) {
  PLUME_CUDA(cudnnBackendSetAttribute, raw_, name, type, count, values);
}

void Descriptor::finalize() { PLUME_CUDA(cudnnBackendFinalize, raw_); }

int64_t Descriptor::get(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, int64_t count,
                        void* values) const {
  int64_t returned = 0;
  PLUME_CUDA(cudnnBackendGetAttribute, raw_, name, type, count, &returned, values);
  return returned;
}

Layout channels_last(const Shape& s) {
  return {{s[0], s[3], s[1], s[2]}, {s[1] * s[2] * s[3], 1, s[2] * s[3], s[3]}};
}

Layout per_channel(int64_t channels) { return {{1, channels, 1, 1}, {channels, 1, channels, channels}}; }

void Graph::tensor(int64_t id, const Layout& layout, cudnnDataType_t type, bool inner) {
  constexpr int64_t kAlignment = 16;
  Descriptor d(CUDNN_BACKEND_TENSOR_DESCRIPTOR);
  d.set(CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, 1, &id);
  d.set(CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &type);
  d.set(CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, CUDNN_TYPE_INT64, 1, &kAlignment);
  d.set(CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, 4, layout.dims.data());
  d.set(CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, 4, layout.strides.data());
  d.set(CUDNN_ATTR_TENSOR_IS_VIRTUAL, CUDNN_TYPE_BOOLEAN, 1, &inner);
  d.finalize();
  tensors_.emplace(id, std::move(d));
}

void Graph::convolution(Convolution pass, const Conv2dParams& params, int64_t input, int64_t filter,
                        int64_t output) {
  Descriptor& c = parameters_.emplace_back(CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR);
  const cudnnConvolutionMode_t mode = CUDNN_CROSS_CORRELATION;
  const int64_t spatial = 2;
  const int64_t strides[] = {params.stride, params.stride}, pads[] = {params.padding, params.padding},
                dilations[] = {params.dilation, params.dilation};
  c.set(CUDNN_ATTR_CONVOLUTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &kAccumulator);
  c.set(CUDNN_ATTR_CONVOLUTION_CONV_MODE, CUDNN_TYPE_CONVOLUTION_MODE, 1, &mode);
  c.set(CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, CUDNN_TYPE_INT64, 1, &spatial);
  c.set(CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, CUDNN_TYPE_INT64, 2, strides);
  c.set(CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, CUDNN_TYPE_INT64, 2, pads);
  c.set(CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, CUDNN_TYPE_INT64, 2, pads);
  c.set(CUDNN_ATTR_CONVOLUTION_DILATIONS, CUDNN_TYPE_INT64, 2, dilations);
  c.finalize();

  struct Names {
    cudnnBackendDescriptorType_t type;
    cudnnBackendAttributeName_t convolution, input, filter, output, alpha, beta;
  };
  static constexpr Names kNames[] = {
      {CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR,
       CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X,
       CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y,
       CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA},
      {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR,
       CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX,
       CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY,
       CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_ALPHA, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_BETA},
      {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR,
       CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_X,
       CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DW, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DY,
       CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_ALPHA, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_BETA},
  };
  const Names& names = kNames[size_t(pass)];
  const float alpha = 1, beta = 0;
  Descriptor operation(names.type);
  operation.set(names.convolution, c);
  operation.set(names.input, tensors_.at(input));
  operation.set(names.filter, tensors_.at(filter));
  operation.set(names.output, tensors_.at(output));
  operation.set(names.alpha, CUDNN_TYPE_FLOAT, 1, &alpha);
  operation.set(names.beta, CUDNN_TYPE_FLOAT, 1, &beta);
  operation.finalize();
  operations_.push_back(std::move(operation));
}

Descriptor& Graph::add_pointwise(cudnnPointwiseMode_t mode, int64_t x, int64_t y) {
  Descriptor& p = parameters_.emplace_back(CUDNN_BACKEND_POINTWISE_DESCRIPTOR);
  p.set(CUDNN_ATTR_POINTWISE_MODE, CUDNN_TYPE_POINTWISE_MODE, 1, &mode);
  p.set(CUDNN_ATTR_POINTWISE_MATH_PREC, CUDNN_TYPE_DATA_TYPE, 1, &kAccumulator);
  p.finalize();
  Descriptor& operation = operations_.emplace_back(CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR);
  operation.set(CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, p);
  operation.set(CUDNN_ATTR_OPERATION_POINTWISE_XDESC, tensors_.at(x));
  operation.set(CUDNN_ATTR_OPERATION_POINTWISE_YDESC, tensors_.at(y));
  return operation;
}

void Graph::pointwise(cudnnPointwiseMode_t mode, int64_t x, int64_t y) {
  add_pointwise(mode, x, y).finalize();
}

void Graph::pointwise(cudnnPointwiseMode_t mode, int64_t a, int64_t b, int64_t y) {
  Descriptor& operation = add_pointwise(mode, a, y);
  operation.set(CUDNN_ATTR_OPERATION_POINTWISE_BDESC, tensors_.at(b));
  operation.finalize();
}

std::unique_ptr<Plan> Graph::plan(cudnnHandle_t handle, const PlanRules& rules) {
  Descriptor graph(CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR);
  std::vector<cudnnBackendDescriptor_t> operations;
  for (const Descriptor& o : operations_) operations.push_back(o.raw());
  graph.set(CUDNN_ATTR_OPERATIONGRAPH_OPS, kDescriptor, int64_t(operations.size()), operations.data());
  graph.set(CUDNN_ATTR_OPERATIONGRAPH_HANDLE, CUDNN_TYPE_HANDLE, 1, &handle);
  // From here on a refusal means "not supported", which is an answer.
  if (cudnnBackendFinalize(graph.raw()) != CUDNN_STATUS_SUCCESS) return nullptr;

  for (const cudnnBackendHeurMode_t mode : {CUDNN_HEUR_MODE_A, CUDNN_HEUR_MODE_FALLBACK})
    for (Descriptor& configuration : configurations(graph, mode)) {
      if (!allowed(configuration, rules)) continue;
      Descriptor execution(CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR);
      execution.set(CUDNN_ATTR_EXECUTION_PLAN_HANDLE, CUDNN_TYPE_HANDLE, 1, &handle);
      execution.set(CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, configuration);
      if (cudnnBackendFinalize(execution.raw()) != CUDNN_STATUS_SUCCESS) continue;
      int64_t workspace = 0;
      execution.get(CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, CUDNN_TYPE_INT64, 1, &workspace);
      return std::make_unique<Plan>(std::move(execution), std::move(configuration), size_t(workspace));
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
