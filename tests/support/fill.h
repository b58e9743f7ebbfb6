// How operands are filled.
#pragma once
#include <functional>
#include <vector>

#include "engine/core/dtype.h"
#include "engine/core/random.h"
#include "engine/core/shape.h"
#include "engine/core/tensor.h"

namespace plume::test {

// Values for a shape. `gentle` asks for what finite differences can bear: no outliers, nothing close to zero.
using Fill = std::function<std::vector<double>(const Shape&, RandomSequence&, bool gentle)>;

Fill outliers(double scale = 1);         // normal; one in thirty times 100, one in twenty exactly zero
Fill offset(double mean);                // outliers() around a mean that dwarfs them; gentle: around zero
Fill positive(double low, double high);  // uniform
Fill distinct();                         // outliers(); gentle: neighbours differ by far, in every dtype
Fill labels(int64_t classes);            // whole numbers 0..classes-1
Fill distribution();                     // rows that are positive and sum to one
Fill given(std::vector<double> values);  // exactly these
// The same, each rounded to a number of bf16 and of f16: for f32 operands that a variant may convert.
Fill short_values(Fill fill = outliers());

// `values` on the device, rounded to the dtype.
Tensor to_tensor(const std::vector<double>& values, const Shape& shape, DType dtype, Device device);
std::vector<double> to_doubles(const Tensor& tensor);

}  // namespace plume::test
