// What tests of operations with a batch norm and a max pooling behind it have in common.
#pragma once
#include <cmath>

#include "engine/ops/batch_norm_max_pool.h"
#include "tests/ops/reference/pooling.h"
#include "tests/support/fill.h"
#include "tests/support/test_support.h"

namespace plume::test {

// Which pixel of each window has the largest gamma * x, and x there.
inline void find_winners(const Array& x, const Array& gamma, const MaxPool2dParams& pool, Array& values,
                         Array& argmax) {
  Array turned = x;
  const auto turn = [&gamma](Array& a) {
    for (int64_t i = 0; i < a.size(); ++i)
      if (gamma[i % gamma.size()].value < 0) a[i] = -a[i];
  };
  turn(turned);
  reference::max_pool2d(turned, pool, values, argmax);
  turn(values);
}

inline WindowWinners winners_of(const Tensor& x, const Tensor& gamma, const MaxPool2dParams& pool) {
  const auto array = [](const Tensor& t) {
    Array a(t.shape());
    const std::vector<double> values = to_doubles(t);
    a.values.assign(values.begin(), values.end());
    return a;
  };
  const auto doubles = [](const Array& a) {
    std::vector<double> values;
    for (const Real& v : a.values) values.push_back(v.value);
    return values;
  };
  const Shape y = max_pool2d_shape(x.shape(), pool);
  Array values(y), argmax(y);
  find_winners(array(x), array(gamma), pool, values, argmax);
  return {to_tensor(doubles(values), y, x.dtype(), x.device()),
          to_tensor(doubles(argmax), y, DType::u8, x.device()), pool};
}

// In steps of 1/16, none of them 0: what x becomes are the same numbers in 16 bits only where x is the same.
inline Tensor some_numbers(const Shape& shape, DType dtype, Device device, uint64_t seed) {
  RandomSequence random(seed);
  std::vector<double> values(size_t(shape.elements()));
  for (double& v : values) v = (std::floor(random.uniform(-16, 16)) + 0.5) / 16;
  return to_tensor(values, shape, dtype, device);
}

}  // namespace plume::test
