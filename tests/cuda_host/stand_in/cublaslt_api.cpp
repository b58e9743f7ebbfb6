// cuBLASLt on the host: column-major products with f32 sums, an epilogue, transposes. The entry points that
// engine/cuda/cublaslt_matmul.cpp calls, and refusals that the library has.
#include <cublasLt.h>

#include <cmath>
#include <cstring>
#include <mutex>
#include <vector>

#include "engine/core/half.h"
#include "tests/cuda_host/stand_in/machine.h"

namespace plume::stand_in {
namespace {

// What the heuristic proposes, in this order: the first is not the fastest, which wants most memory.
struct Algorithm {
  size_t workspace;
  double microseconds;
};
constexpr Algorithm kAlgorithms[] = {{512, 4}, {1024, 2}, {0, 3}};

struct Matrix {
  cudaDataType_t type;
  int64_t rows, cols, pitch;

  float get(const void* data, int64_t r, int64_t c) const {
    const int64_t i = c * pitch + r;
    return type == CUDA_R_32F   ? static_cast<const float*>(data)[i]
           : type == CUDA_R_16F ? float(static_cast<const f16*>(data)[i])
                                : float(static_cast<const bf16*>(data)[i]);
  }
  void set(void* data, int64_t r, int64_t c, float value) const {
    const int64_t i = c * pitch + r;
    if (type == CUDA_R_32F)
      static_cast<float*>(data)[i] = value;
    else if (type == CUDA_R_16F)
      static_cast<f16*>(data)[i] = f16(value);
    else
      static_cast<bf16*>(data)[i] = bf16(value);
  }
};

struct Operation {
  cublasOperation_t a = CUBLAS_OP_N, b = CUBLAS_OP_N;
  cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_DEFAULT;
  int32_t bias_type = CUDA_R_32F;
  const void* bias = nullptr;  // of the output's type

  bool with_bias() const {
    return epilogue == CUBLASLT_EPILOGUE_BIAS || epilogue == CUBLASLT_EPILOGUE_RELU_BIAS;
  }
  bool with_relu() const {
    return epilogue == CUBLASLT_EPILOGUE_RELU || epilogue == CUBLASLT_EPILOGUE_RELU_BIAS;
  }
};
struct Turn {
  cublasOperation_t a = CUBLAS_OP_N;
};

// All values of op(matrix), column by column.
std::vector<float> values_of(const Matrix& m, cublasOperation_t op, const void* data) {
  std::vector<float> values(size_t(m.rows * m.cols));
  float* next = values.data();
  if (op == CUBLAS_OP_N) {
    for (int64_t c = 0; c < m.cols; ++c)
      for (int64_t r = 0; r < m.rows; ++r) *next++ = m.get(data, r, c);
  } else {
    for (int64_t r = 0; r < m.rows; ++r)
      for (int64_t c = 0; c < m.cols; ++c) *next++ = m.get(data, r, c);
  }
  return values;
}

struct Operands {
  const void *a, *b, *c;
  void* d;
  float alpha, beta;
};

void multiply(const Operation& operation, const Matrix& a, const Matrix& b, const Matrix& d,
              const Operands& in) {
  const std::vector<float> left = values_of(a, operation.a, in.a), right = values_of(b, operation.b, in.b);
  const int64_t rows = d.rows, depth = operation.a == CUBLAS_OP_N ? a.cols : a.rows;
  std::vector<float> sums(static_cast<size_t>(rows));
  for (int64_t c = 0; c < d.cols; ++c) {
    std::fill(sums.begin(), sums.end(), 0.0f);
    for (int64_t k = 0; k < depth; ++k) {
      const float factor = right[size_t(c * depth + k)];
      const float* const column = left.data() + k * rows;
      for (int64_t r = 0; r < rows; ++r) sums[size_t(r)] += column[r] * factor;
    }
    for (int64_t r = 0; r < rows; ++r) {
      float v = in.alpha * sums[size_t(r)] + (in.beta != 0 ? in.beta * d.get(in.c, r, c) : 0.0f);
      if (operation.with_bias()) v += d.get(operation.bias, r, 0);
      if (operation.with_relu()) v = v <= 0 ? 0 : v;
      d.set(in.d, r, c, v);
    }
  }
}

template <class T, class Handle>
const T& of(Handle handle) {
  return *reinterpret_cast<const T*>(handle);
}
template <class T, class Handle>
cublasStatus_t make(Handle* handle, T value) {
  *handle = reinterpret_cast<Handle>(new T(value));
  return CUBLAS_STATUS_SUCCESS;
}
template <class T, class Handle>
cublasStatus_t destroy(Handle handle) {
  delete reinterpret_cast<T*>(handle);
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t give(const char* name, cudaStream_t stream, double microseconds, std::function<void()> run,
                    std::initializer_list<const void*> pointers) {
  Machine& machine = Machine::get();
  const std::lock_guard lock(machine.mutex());
  if (machine.enter(name)) return CUBLAS_STATUS_EXECUTION_FAILED;
  Work work{name, std::move(run), {}};
  work.microseconds = microseconds;
  for (const void* p : pointers) machine.note_use(p, work.uses);
  const Status status = machine.give(reinterpret_cast<Stream*>(stream), std::move(work));
  return status == kSuccess ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_EXECUTION_FAILED;
}

}  // namespace
}  // namespace plume::stand_in

using namespace plume::stand_in;

extern "C" {

size_t cublasLtGetVersion() { return 0; }
const char* cublasLtGetStatusName(cublasStatus_t status) {
  return status == CUBLAS_STATUS_EXECUTION_FAILED  ? "CUBLAS_STATUS_EXECUTION_FAILED"
         : status == CUBLAS_STATUS_NOT_INITIALIZED ? "CUBLAS_STATUS_NOT_INITIALIZED"
                                                   : "CUBLAS_STATUS_NOT_SUPPORTED";
}
cublasStatus_t cublasLtCreate(cublasLtHandle_t* handle) {
  Machine& machine = Machine::get();
  const std::lock_guard lock(machine.mutex());
  if (machine.enter("cublasLtCreate")) return CUBLAS_STATUS_NOT_INITIALIZED;
  return make(handle, 0);
}

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t* d, cublasComputeType_t, cudaDataType_t) {
  return make(d, Operation());
}
cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t d) { return destroy<Operation>(d); }
cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t d, cublasLtMatmulDescAttributes_t name,
                                              const void* value, size_t bytes) {
  auto& operation = const_cast<Operation&>(of<Operation>(d));
  const auto put = [&](auto& field) {
    if (bytes != sizeof field) return CUBLAS_STATUS_INVALID_VALUE;
    std::memcpy(&field, value, bytes);
    return CUBLAS_STATUS_SUCCESS;
  };
  switch (name) {
    case CUBLASLT_MATMUL_DESC_TRANSA:
      return put(operation.a);
    case CUBLASLT_MATMUL_DESC_TRANSB:
      return put(operation.b);
    case CUBLASLT_MATMUL_DESC_EPILOGUE:
      return put(operation.epilogue);
    case CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE:
      return put(operation.bias_type);
    case CUBLASLT_MATMUL_DESC_BIAS_POINTER:
      return put(operation.bias);
    default:
      return CUBLAS_STATUS_INVALID_VALUE;
  }
}

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t* m, cudaDataType type, uint64_t rows,
                                          uint64_t cols, int64_t pitch) {
  return make(m, Matrix{type, int64_t(rows), int64_t(cols), pitch});
}
cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t m) { return destroy<Matrix>(m); }

// Of the preferences only how much scratch memory there is.
cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t* p) { return make(p, uint64_t{0}); }
cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t p) { return destroy<uint64_t>(p); }
cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t p,
                                                    cublasLtMatmulPreferenceAttributes_t name,
                                                    const void* value, size_t bytes) {
  if (name == CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES)
    std::memcpy(&const_cast<uint64_t&>(of<uint64_t>(p)), value, bytes);
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t, cublasLtMatmulDesc_t d,
                                              cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t,
                                              cublasLtMatrixLayout_t, cublasLtMatrixLayout_t to,
                                              cublasLtMatmulPreference_t p, int most,
                                              cublasLtMatmulHeuristicResult_t* results, int* found) {
  *found = 0;
  const auto& operation = of<Operation>(d);
  // The bias must be of the output's type.
  if (operation.with_bias() && operation.bias_type != of<Matrix>(to).type) return CUBLAS_STATUS_NOT_SUPPORTED;
  if (of<Matrix>(a).rows == 0) return CUBLAS_STATUS_INVALID_VALUE;
  for (size_t i = 0; i < std::size(kAlgorithms) && *found < most; ++i) {
    if (kAlgorithms[i].workspace > of<uint64_t>(p)) continue;
    cublasLtMatmulHeuristicResult_t& result = results[(*found)++];
    result = {};
    result.algo.data[0] = i;
    result.workspaceSize = kAlgorithms[i].workspace;
    result.state = CUBLAS_STATUS_SUCCESS;
  }
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t, cublasLtMatmulDesc_t d, const void* alpha, const void* a,
                              cublasLtMatrixLayout_t a_layout, const void* b, cublasLtMatrixLayout_t b_layout,
                              const void* beta, const void* c, cublasLtMatrixLayout_t, void* to,
                              cublasLtMatrixLayout_t to_layout, const cublasLtMatmulAlgo_t* algorithm,
                              void* workspace, size_t workspace_bytes, cudaStream_t stream) {
  const Algorithm& chosen = kAlgorithms[algorithm->data[0]];
  if (workspace_bytes < chosen.workspace || (chosen.workspace && !workspace))
    return CUBLAS_STATUS_NOT_SUPPORTED;
  ++Machine::get().counts.products[algorithm->data[0]];
  const auto operation = of<Operation>(d);
  const Operands in{a, b, c, to, *static_cast<const float*>(alpha), *static_cast<const float*>(beta)};
  return give("cublasLtMatmul", stream, chosen.microseconds,
              [=, left = of<Matrix>(a_layout), right = of<Matrix>(b_layout), output = of<Matrix>(to_layout)] {
                if (workspace) std::memset(workspace, 0xFB, workspace_bytes);
                multiply(operation, left, right, output, in);
              },
              {a, b, c, to, operation.bias, workspace});
}

cublasStatus_t cublasLtMatrixTransformDescCreate(cublasLtMatrixTransformDesc_t* d, cudaDataType) {
  return make(d, Turn());
}
cublasStatus_t cublasLtMatrixTransformDescDestroy(cublasLtMatrixTransformDesc_t d) {
  return destroy<Turn>(d);
}
cublasStatus_t cublasLtMatrixTransformDescSetAttribute(cublasLtMatrixTransformDesc_t d,
                                                       cublasLtMatrixTransformDescAttributes_t name,
                                                       const void* value, size_t bytes) {
  auto& turn = const_cast<Turn&>(of<Turn>(d));
  if (name != CUBLASLT_MATRIX_TRANSFORM_DESC_TRANSA || bytes != sizeof turn.a)
    return CUBLAS_STATUS_INVALID_VALUE;
  std::memcpy(&turn.a, value, bytes);
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatrixTransform(cublasLtHandle_t, cublasLtMatrixTransformDesc_t d, const void*,
                                       const void* from, cublasLtMatrixLayout_t from_layout, const void*,
                                       const void*, cublasLtMatrixLayout_t, void* to,
                                       cublasLtMatrixLayout_t to_layout, cudaStream_t stream) {
  const auto op = of<Turn>(d).a;
  return give("cublasLtMatrixTransform", stream, 1,
              [=, in = of<Matrix>(from_layout), out = of<Matrix>(to_layout)] {
                const std::vector<float> values = values_of(in, op, from);
                for (int64_t c = 0, i = 0; c < out.cols; ++c)
                  for (int64_t r = 0; r < out.rows; ++r) out.set(to, r, c, values[size_t(i++)]);
              },
              {from, to});
}

}  // extern "C"
