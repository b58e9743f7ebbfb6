#include "tests/cudnn_plan/deviceless.h"

#include <map>

namespace {

using plume::test::Execution;

cudnnBackendDescriptor_t device = nullptr;
std::map<cudnnBackendDescriptor_t, Execution> packs;

template <class T>
std::vector<T> copied(const void* values, int64_t count) {
  return {static_cast<const T*>(values), static_cast<const T*>(values) + count};
}

}  // namespace

extern "C" {

cudnnStatus_t __real_cudnnBackendSetAttribute(cudnnBackendDescriptor_t, cudnnBackendAttributeName_t,
                                              cudnnBackendAttributeType_t, int64_t, const void*);

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
      return set_device(CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP);
    case CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH:  // whose handle is asked otherwise
      if (const cudnnStatus_t status = set_device(CUDNN_ATTR_ENGINEHEUR_DEVICEPROP)) return status;
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

cudnnStatus_t __wrap_cudnnBackendExecute(cudnnHandle_t, cudnnBackendDescriptor_t,
                                         cudnnBackendDescriptor_t pack) {
  plume::test::executions().push_back(packs[pack]);
  return CUDNN_STATUS_SUCCESS;
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

std::vector<Execution>& executions() {
  static std::vector<Execution> all;
  return all;
}

}  // namespace plume::test
