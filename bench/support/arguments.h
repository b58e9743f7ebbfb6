// What the benchmarks must know about the arguments of a slot beyond their tensors
// (engine/core/kernel_call.h): how to name them, and where packed filters are.
//
// An operation whose parameters are not known here adds overloads of describe() and for_each_packed() in its
// own benchmark, in namespace plume: they are found by argument.
#pragma once
#include <string>

#include "engine/core/tensor.h"
#include "engine/math/epilogue.h"
#include "engine/ops/conv2d.h"
#include "engine/ops/dropout.h"

namespace plume {

// Calls f(PackedFilter*&) for every place of a constant filter's packed form in an argument.
template <class T, class F>
void for_each_packed(T&, F&&) {}
template <class F>
void for_each_packed(Conv2dParams& p, F&& f) {
  f(p.packed);
}
template <class F>
void for_each_packed(PackedFilter*& packed, F&& f) {
  f(packed);
}

// Short, without spaces: part of a benchmark's name.
std::string describe(const Tensor& tensor);  // "f32[64,8,8,64]", "-" when undefined
std::string describe(const Epilogue& epilogue);
std::string describe(const Conv2dParams& params);
inline std::string describe(const PackedFilter* packed) { return packed ? "constant" : "-"; }
inline std::string describe(const DropoutParams& params) { return message("p{}", params.p); }
inline std::string describe(Activation activation) { return name(activation); }

}  // namespace plume

namespace plume::bench {

// A handle that only has a shape, a dtype and a device: what is recorded of a large tensor. Its elements must
// not be touched.
Tensor outline(const Tensor& like);
bool is_outline(const Tensor& tensor);

// A tensor of the same kind with fresh memory on the device: standard normal numbers for outlines, which
// differ from seed to seed, and a copy of everything else.
Tensor materialise(const Tensor& recorded, uint64_t seed);

// [N, parts, C] of f32 to [N, 1, C], on the cpu: variants may leave sums in some parts.
void add_parts(Tensor& parts);

// ||got - want|| / ||want|| over (at most) the first and last million elements; NaN when either has one.
double relative_error(const Tensor& got, const Tensor& want);

}  // namespace plume::bench
