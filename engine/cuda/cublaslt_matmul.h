// Row-major matrix products through cuBLASLt.
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
  bool bias = false;  // f32 [cols], added to every row
  Activation activation = Activation::identity;
};

struct Operands {
  const void *left, *right;
  const float* bias;  // null unless the product has one
  void* output;
};

// Can cuBLASLt do this product? The answer, and how, is kept per product.
bool can_multiply(const Context& context, const Product& product);
// All pointers 16-byte aligned. Sums are f32; f32 operands keep all digits unless context.allow_tf32.
void multiply(const Context& context, const Product& product, const Operands& operands);

}  // namespace plume::cuda
