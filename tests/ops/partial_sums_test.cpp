#include "engine/ops/partial_sums.h"

#include <gtest/gtest.h>

#include "tests/support/check_op.h"

namespace plume::test {
namespace {

// More sums than a table of the kernels holds.
constexpr int kManySums = 150;
Shape partial_shape(int i) { return {i == 0 ? 300 : 1 + i % 5, i == 1 ? 1000 : i == 3 ? 3000 : 1 + i % 40}; }

// Some sums are of a part of the columns.
int64_t first_column(int i) { return i % 3 == 2 ? partial_shape(i)[1] / 3 : 0; }
int64_t outputs(int i) { return partial_shape(i)[1] - 2 * first_column(i); }

const char* sum_name(const char* word, int i) {
  static std::map<std::string, std::string> all;
  return all.try_emplace(word + std::to_string(i), word + std::to_string(i)).first->second.c_str();
}

void check_sums(int count) {
  std::vector<Operand> partials, outs;
  for (int i = 0; i < count; ++i) {
    partials.push_back({sum_name("partial", i), partial_shape(i)});
    outs.push_back({sum_name("out", i), {outputs(i)}});
  }
  check_op({.slot = partial_sums,
            .label = message("{} sums", count),
            .inputs = partials,
            .outputs = outs,
            .run =
                [count](Context& context, Tensors& t) {
                  std::vector<PartialSum> sums;
                  for (int i = 0; i < count; ++i)
                    sums.push_back({t[sum_name("partial", i)], t[sum_name("out", i)], first_column(i)});
                  partial_sums(context, sums);
                },
            .reference =
                [count](Arrays& a) {
                  for (int i = 0; i < count; ++i) {
                    const Array& partial = a[sum_name("partial", i)];
                    Array& out = a[sum_name("out", i)];
                    for (int64_t j = 0; j < out.size(); ++j) {
                      Sum sum;
                      for (int64_t row = 0; row < partial.dim(0); ++row)
                        sum += partial.at(row, first_column(i) + j);
                      out[j] = sum;
                    }
                  }
                },
            .dtypes = {DType::f32}});
}

TEST(PartialSumsTest, One) { check_sums(1); }
TEST(PartialSumsTest, Many) { check_sums(kManySums); }

TEST(PartialSumsTest, ArePutOffUntilSettled) {
  for (const Device device : devices_under_test()) {
    const auto of = [&](std::vector<float> values, const Shape& shape) {
      return Tensor::from(values, shape, device);
    };
    Context& context = plume::context(device);
    const Tensor partial = of({1, 2, 3, 4}, {2, 2}), one = of({0, 0}, {2}), two = of({0, 0}, {2});
    const std::vector<float> zero{0, 0}, sum{4, 6};
    finish_sum(context, partial, one);
    EXPECT_EQ(one.to_vector<float>(), sum);
    {
      const SumsPutOff put_off;
      finish_sum(context, partial, two);
      EXPECT_EQ(two.to_vector<float>(), zero);
      settle_sums_of(one);
      EXPECT_EQ(two.to_vector<float>(), zero);
      settle_sums_of(two);
      EXPECT_EQ(two.to_vector<float>(), sum);
    }
    const Tensor three = of({0, 0}, {2});
    {
      const SumsPutOff put_off;
      finish_sum(context, partial, three);
    }
    settle_sums();  // nothing waits any more
    EXPECT_EQ(three.to_vector<float>(), zero);
    // So much that it would leave the cache is not put off.
    const SumsPutOff put_off;
    const Tensor large = Tensor::zeros({9, 1 << 20}, DType::f32, device);
    const Tensor four = Tensor::from(std::vector<float>(size_t{1} << 20, 1.0f), {1 << 20}, device);
    finish_sum(context, large, four);
    EXPECT_EQ(four.to_vector<float>()[12345], 0.0f);
  }
}

}  // namespace
}  // namespace plume::test
