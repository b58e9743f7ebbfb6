#include "engine/ops/ema_update.h"

#include <gtest/gtest.h>

#include "tests/support/check_op.h"

namespace plume::test {
namespace {

void check(const std::vector<int64_t>& sizes, float weight) {
  static std::map<size_t, std::pair<std::string, std::string>> names;  // outlive the operands
  std::vector<Operand> values, averages;
  for (size_t i = 0; i < sizes.size(); ++i) {
    const auto& [value, average] =
        names.try_emplace(i, "value" + std::to_string(i), "average" + std::to_string(i)).first->second;
    values.push_back({value.c_str(), {sizes[i]}});
    averages.push_back({average.c_str(), {sizes[i]}});
  }
  check_op({.slot = ema_update,
            .label = message("{} tensors, weight {}", sizes.size(), weight),
            .inputs = values,
            .updated = averages,
            .outputs = {},
            .run =
                [&](Context& c, Tensors& t) {
                  std::vector<AveragedTensor> tensors;
                  for (size_t i = 0; i < sizes.size(); ++i)
                    tensors.push_back({t[averages[i].name], t[values[i].name]});
                  ema_update(c, tensors, Tensor::from(std::vector<float>{weight}, {1}, c.device()));
                },
            .reference =
                [&](Arrays& a) {
                  for (size_t i = 0; i < sizes.size(); ++i) {
                    Array &average = a[averages[i].name], &value = a[values[i].name];
                    for (int64_t j = 0; j < average.size(); ++j)
                      average[j] = average[j] + double(weight) * (value[j] - average[j]);
                  }
                },
            .dtypes = {DType::f32}});
}

TEST(EmaUpdateTest, OddSizes) { check({1, 3, 17, 64, 31, 1025, 7, 4096, 5000}, 0.1f); }
TEST(EmaUpdateTest, ManyTensors) {
  std::vector<int64_t> sizes;
  for (int64_t i = 0; i < 250; ++i) sizes.push_back(1 + i % 11);
  check(sizes, 2e-4f);
}
TEST(EmaUpdateTest, NothingNew) { check({4099}, 0.0f); }

}  // namespace
}  // namespace plume::test
