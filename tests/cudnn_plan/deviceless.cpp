#include "tests/cudnn_plan/deviceless.h"

#include <map>
#include <set>

namespace {

using plume::test::Execution;

cudnnBackendDescriptor_t device = nullptr;
std::map<cudnnBackendDescriptor_t, Execution> packs;
std::set<cudnnBackendDescriptor_t> plans;
plume::test::StandIn stand_in;

template <class T>
std::vector<T> copied(const void* values, int64_t count) {
  const T* first = static_cast<const T*>(values);
  return std::vector<T>(first, first + count);
}

}  // namespace

extern "C" {

cudnnStatus_t __real_cudnnBackendSetAttribute(cudnnBackendDescriptor_t, cudnnBackendAttributeName_t,
                                              cudnnBackendAttributeType_t, int64_t, const void*);

cudnnStatus_t __real_cudnnBackendFinalize(cudnnBackendDescriptor_t);

cudnnStatus_t __wrap_cudnnCreate(cudnnHandle_t* handle) {
  static int token;
  return *handle = reinterpret_cast<cudnnHandle_t>(&token), CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t __wrap_cudnnSetStream(cudnnHandle_t, cudaStream_t) { return CUDNN_STATUS_SUCCESS; }

cudnnStatus_t __wrap_cudnnBackendSetAttribute(cudnnBackendDescriptor_t d, cudnnBackendAttributeName_t name,
                                              cudnnBackendAttributeType_t type, int64_t count,
                                              const void* values) {
  const auto set_device = [&](cudnnBackendAttributeName_t place) {
    return __real_cudnnBackendSetAttribute(d, place, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &device);
  };
  switch (name) {
    case CUDNN_ATTR_OPERATIONGRAPH_HANDLE:
      return CUDNN_STATUS_SUCCESS;
    case CUDNN_ATTR_EXECUTION_PLAN_HANDLE:
      plans.insert(d);
      return set_device(CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP);
    case CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH:  // whose handle is asked otherwise
      if (const cudnnStatus_t status = set_device(CUDNN_ATTR_ENGINEHEUR_DEVICEPROP)) return status;
      break;
    case cudnnBackendAttributeName_t(2):  // CUDNN_ATTR_POINTWISE_NAN_PROPAGATION, a name that is deprecated
      stand_in.relus_that_carry_nan += *static_cast<const int*>(values) == 1;
      break;
    case CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS:
      packs[d].tensors = copied<int64_t>(values, count);
      break;
    case CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS:
      packs[d].pointers = copied<const void*>(values, count);
      break;
    case CUDNN_ATTR_VARIANT_PACK_WORKSPACE:
      packs[d].workspace = *static_cast<void* const*>(values);
      break;
    default:
      break;
  }
  return __real_cudnnBackendSetAttribute(d, name, type, count, values);
}

cudnnStatus_t __wrap_cudnnBackendExecute(cudnnHandle_t, cudnnBackendDescriptor_t plan,
                                         cudnnBackendDescriptor_t pack) {
  Execution& execution = plume::test::executions().emplace_back(packs[pack]);
  execution.plan = plan;
  execution.pack = pack;
  stand_in.clock += stand_in.duration ? stand_in.duration(execution) : 0;
  return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t __wrap_cudnnBackendFinalize(cudnnBackendDescriptor_t d) {
  // Another description may later lie where this one did.
  return plans.erase(d) && stand_in.plans ? stand_in.plans : __real_cudnnBackendFinalize(d);
}

// The device's clock. An event is the time at which it was recorded.
cudaError_t __wrap_cudaEventCreate(cudaEvent_t* event) {
  return *event = reinterpret_cast<cudaEvent_t>(new float), cudaSuccess;
}
cudaError_t __wrap_cudaEventDestroy(cudaEvent_t event) {
  return delete reinterpret_cast<float*>(event), cudaSuccess;
}
cudaError_t __wrap_cudaEventRecord(cudaEvent_t event, cudaStream_t) {
  return *reinterpret_cast<float*>(event) = stand_in.clock, cudaSuccess;
}
cudaError_t __wrap_cudaEventSynchronize(cudaEvent_t) { return cudaSuccess; }
cudaError_t __wrap_cudaEventElapsedTime(float* time, cudaEvent_t begin, cudaEvent_t end) {
  return *time = *reinterpret_cast<float*>(end) - *reinterpret_cast<float*>(begin), cudaSuccess;
}

}  // extern "C"

namespace plume::test {

void describe_device(const std::string& json) {
  cuda::Descriptor described(CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR);
  described.set(CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION, CUDNN_TYPE_CHAR, std::ssize(json), json.data());
  described.finalize();
  static auto* kept = new cuda::Descriptor;
  *kept = std::move(described);
  device = kept->raw();
}

StandIn& stand_in_device() { return stand_in; }

std::vector<Execution>& executions() {
  static std::vector<Execution> all;
  return all;
}

}  // namespace plume::test
