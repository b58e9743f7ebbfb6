// Row-major matrix products and transposes through cuBLASLt.
#pragma once
#include "engine/core/tensor.h"
#include "engine/cuda/handles.h"
#include "engine/math/activation.h"

namespace plume::cuda {

// output[rows, cols] = left [rows, depth] x right [depth, cols]. A transposed operand is stored the other way
// round: left as [depth, rows], right as [cols, depth].
struct Product {
  int64_t rows, cols, depth;
  bool left_transposed, right_transposed;
  DType type, output_type;
  bool bias = false;      // [cols] of the output's type, added to every row
  bool residual = false;  // of the output's shape and type, added before the activation
  Activation activation = Activation::identity;
};

struct Operands {
  const void *left, *right;
  const void* bias;  // null unless the product has one, like the residual
  void* output;
  const void* residual = nullptr;
};

// Can cuBLASLt do this product? The answer, and how (candidates.h), is kept per product.
bool can_multiply(const Context& context, const Product& product);
// All pointers 16-byte aligned, the residual not in the output's place. Sums are f32; f32 operands keep all
// digits unless context.allow_tf32.
void multiply(const Context& context, const Product& product, const Operands& operands);

// to[cols, rows] = from[rows, cols], transposed.
void transpose(const Context& context, DType type, int64_t rows, int64_t cols, const void* from, void* to);

}  // namespace plume::cuda
