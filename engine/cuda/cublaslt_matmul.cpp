#include "engine/cuda/cublaslt_matmul.h"

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "engine/core/recording.h"
#include "engine/cuda/candidates.h"
#include "engine/cuda/check.h"

namespace plume::cuda {
namespace {

// How many of the algorithms that the heuristic proposes are worth the clock.
constexpr int kProposals = 4;

// Owns a cuBLASLt description made by `create`.
template <class T, cublasStatus_t (*kDestroy)(T)>
class Owned {
 public:
  Owned() = default;
  ~Owned() {
    if (raw) kDestroy(raw);
  }
  Owned(const Owned&) = delete;
  Owned& operator=(const Owned&) = delete;
  T raw = nullptr;
};
using Operation = Owned<cublasLtMatmulDesc_t, cublasLtMatmulDescDestroy>;
using Matrix = Owned<cublasLtMatrixLayout_t, cublasLtMatrixLayoutDestroy>;
using Preference = Owned<cublasLtMatmulPreference_t, cublasLtMatmulPreferenceDestroy>;
using Transform = Owned<cublasLtMatrixTransformDesc_t, cublasLtMatrixTransformDescDestroy>;

template <class T>
void set(const Operation& operation, cublasLtMatmulDescAttributes_t name, const T& value) {
  PLUME_CUDA(cublasLtMatmulDescSetAttribute, operation.raw, name, &value, sizeof value);
}
template <class T>
void set(const Preference& preference, cublasLtMatmulPreferenceAttributes_t name, const T& value) {
  PLUME_CUDA(cublasLtMatmulPreferenceSetAttribute, preference.raw, name, &value, sizeof value);
}

// cuBLASLt thinks in columns: a row-major matrix is its transpose. So output^T = right^T left^T, with `right`
// as the library's A and `left` as its B; nothing is moved.
struct Description {
  Operation operation;
  Matrix a, b, output;
};
struct Algorithm {
  cublasLtMatmulAlgo_t algorithm;
  size_t workspace;
};
struct Recipe {
  std::unique_ptr<Description> described;
  Candidates<Algorithm> algorithms;
};

using Key = std::array<int64_t, 12>;

// A row-major [rows, cols] matrix in the library's words: cols x rows, `cols` apart.
void describe(Matrix& matrix, DType type, int64_t rows, int64_t cols) {
  PLUME_CUDA(cublasLtMatrixLayoutCreate, &matrix.raw, cublas_type(type), uint64_t(cols), uint64_t(rows),
             cols);
}

Key key_of(const Context& context, const Product& p) {
  return {p.rows,
          p.cols,
          p.depth,
          p.left_transposed,
          p.right_transposed,
          int64_t(p.type),
          int64_t(p.output_type),
          p.bias,
          p.residual,
          int64_t(p.activation),
          context.deterministic,
          context.allow_tf32};
}

// Null when cuBLASLt cannot do it.
std::unique_ptr<Recipe> make_recipe(const Context& context, const Product& p) {
  cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_DEFAULT;
  if (p.activation == Activation::identity)
    epilogue = p.bias ? CUBLASLT_EPILOGUE_BIAS : CUBLASLT_EPILOGUE_DEFAULT;
  else if (p.activation == Activation::relu)
    epilogue = p.bias ? CUBLASLT_EPILOGUE_RELU_BIAS : CUBLASLT_EPILOGUE_RELU;
  else
    return nullptr;

  auto described = std::make_unique<Description>();
  const bool tf32 = p.type == DType::f32 && context.allow_tf32;
  PLUME_CUDA(cublasLtMatmulDescCreate, &described->operation.raw,
             tf32 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F, CUDA_R_32F);
  const cublasOperation_t a = p.right_transposed ? CUBLAS_OP_T : CUBLAS_OP_N;
  const cublasOperation_t b = p.left_transposed ? CUBLAS_OP_T : CUBLAS_OP_N;
  set(described->operation, CUBLASLT_MATMUL_DESC_TRANSA, a);
  set(described->operation, CUBLASLT_MATMUL_DESC_TRANSB, b);
  set(described->operation, CUBLASLT_MATMUL_DESC_EPILOGUE, epilogue);
  if (p.bias) {
    const int32_t type = cublas_type(p.output_type);
    set(described->operation, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, type);
    // The heuristic looks at the alignment of the address only; multiply() puts the real one.
    const auto aligned = reinterpret_cast<const void*>(uintptr_t(16));
    set(described->operation, CUBLASLT_MATMUL_DESC_BIAS_POINTER, aligned);
  }

  if (p.right_transposed)
    describe(described->a, p.type, p.cols, p.depth);
  else
    describe(described->a, p.type, p.depth, p.cols);
  if (p.left_transposed)
    describe(described->b, p.type, p.depth, p.rows);
  else
    describe(described->b, p.type, p.rows, p.depth);
  describe(described->output, p.output_type, p.rows, p.cols);

  Preference preference;
  PLUME_CUDA(cublasLtMatmulPreferenceCreate, &preference.raw);
  set(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, uint64_t(kCublasltWorkspace));
  // Partial sums are added in f32 and in a fixed order, never in the output's type.
  set(preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
      uint32_t(CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE));
  for (const auto name :
       {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES})
    set(preference, name, uint32_t(16));

  // With --deterministic what is proposed first is what runs, whatever the clock says.
  std::array<cublasLtMatmulHeuristicResult_t, kProposals> proposed{};
  int found = 0;
  const cublasStatus_t status = cublasLtMatmulAlgoGetHeuristic(
      cublaslt_handle(), described->operation.raw, described->a.raw, described->b.raw, described->output.raw,
      described->output.raw, preference.raw, context.deterministic ? 1 : kProposals, proposed.data(), &found);
  if (status == CUBLAS_STATUS_NOT_SUPPORTED || status == CUBLAS_STATUS_INVALID_VALUE) return nullptr;
  check("cublasLtMatmulAlgoGetHeuristic", status);
  std::vector<Algorithm> algorithms;
  for (int i = 0; i < found; ++i)
    if (const auto& one = proposed[size_t(i)]; one.state == CUBLAS_STATUS_SUCCESS)
      algorithms.push_back({one.algo, one.workspaceSize});
  if (algorithms.empty()) return nullptr;
  return std::unique_ptr<Recipe>(
      new Recipe{std::move(described), Candidates<Algorithm>(std::move(algorithms))});
}

// Kept as long as the process, like the handle.
Recipe* find_recipe(const Context& context, const Product& product) {
  static auto* recipes = new std::map<Key, std::unique_ptr<Recipe>>;
  const Key key = key_of(context, product);
  if (const auto it = recipes->find(key); it != recipes->end()) return it->second.get();
  refuse_while_recording("make a plan: run it once before");
  return recipes->emplace(key, make_recipe(context, product)).first->second.get();
}

}  // namespace

bool can_multiply(const Context& context, const Product& product) {
  return find_recipe(context, product) != nullptr;
}

void multiply(const Context& context, const Product& product, const Operands& operands) {
  Recipe& recipe = *find_recipe(context, product);
  const Description& d = *recipe.described;
  // The bias is an attribute of the kept description; set anew for each call.
  if (product.bias) set(d.operation, CUBLASLT_MATMUL_DESC_BIAS_POINTER, operands.bias);
  const float alpha = 1, beta = product.residual ? 1 : 0;
  recipe.algorithms.run(context, [&](const Algorithm& chosen, const Scratch& scratch) {
    PLUME_CUDA(cublasLtMatmul, cublaslt_handle(), d.operation.raw, &alpha, operands.right, d.a.raw,
               operands.left, d.b.raw, &beta, product.residual ? operands.residual : operands.output,
               d.output.raw, operands.output, d.output.raw, &chosen.algorithm, scratch.data(),
               chosen.workspace, stream_of(context));
  });
}

void transpose(const Context& context, DType type, int64_t rows, int64_t cols, const void* from, void* to) {
  Transform transform;
  PLUME_CUDA(cublasLtMatrixTransformDescCreate, &transform.raw, CUDA_R_32F);
  const cublasOperation_t turned = CUBLAS_OP_T;
  PLUME_CUDA(cublasLtMatrixTransformDescSetAttribute, transform.raw, CUBLASLT_MATRIX_TRANSFORM_DESC_TRANSA,
             &turned, sizeof turned);
  Matrix in, out;
  describe(in, type, rows, cols);
  describe(out, type, cols, rows);
  const float one = 1, zero = 0;
  PLUME_CUDA(cublasLtMatrixTransform, cublaslt_handle(), transform.raw, &one, from, in.raw, &zero, nullptr,
             nullptr, to, out.raw, stream_of(context));
}

}  // namespace plume::cuda
