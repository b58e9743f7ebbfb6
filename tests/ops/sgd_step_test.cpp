#include "engine/ops/sgd_step.h"

#include <gtest/gtest.h>

#include "tests/ops/reference.h"
#include "tests/support/check_op.h"

namespace plume::test {
namespace {

// Many tensors of odd sizes in one call, with and without weight decay.
constexpr int64_t kSizes[] = {1, 3, 17, 64, 31, 1025, 7, 4096, 5000};
std::string numbered(const char* word, size_t i) { return word + std::to_string(i); }
float weight_decay(size_t i) { return i % 2 == 0 ? 0.01f : 0.0f; }

// Names live as long as the operands that point to them.
const std::vector<std::string>& names(const char* word) {
  static std::map<std::string, std::vector<std::string>> all;
  auto& list = all[word];
  for (size_t i = list.size(); i < std::size(kSizes); ++i) list.push_back(numbered(word, i));
  return list;
}

void check(const SgdParams& params, size_t count) {
  std::vector<Operand> gradients, updated;
  for (size_t i = 0; i < count; ++i) {
    gradients.push_back({names("gradient")[i].c_str(), {kSizes[i]}});
    updated.push_back({names("parameter")[i].c_str(), {kSizes[i]}});
    if (params.momentum != 0) updated.push_back({names("velocity")[i].c_str(), {kSizes[i]}});
  }
  check_op({.slot = sgd_step,
            .label = message("{} tensors, momentum {}, nesterov {}", count, params.momentum, params.nesterov),
            .inputs = gradients,
            .updated = updated,
            .outputs = {},
            .run =
                [=](Context& c, Tensors& t) {
                  std::vector<SgdTensor> tensors;
                  for (size_t i = 0; i < count; ++i)
                    tensors.push_back({t[names("parameter")[i]], t[names("gradient")[i]],
                                       t[names("velocity")[i]], weight_decay(i)});
                  sgd_step(c, tensors, params);
                },
            .reference =
                [=](Arrays& a) {
                  for (size_t i = 0; i < count; ++i)
                    reference::sgd_step(params, double(weight_decay(i)), a[names("gradient")[i]],
                                        a[names("parameter")[i]], a[names("velocity")[i]]);
                },
            .dtypes = {DType::f32}});
}

TEST(SgdStepTest, Plain) { check({.learning_rate = 0.1f}, std::size(kSizes)); }
TEST(SgdStepTest, Momentum) { check({.learning_rate = 0.1f, .momentum = 0.9f}, std::size(kSizes)); }
TEST(SgdStepTest, Nesterov) {
  check({.learning_rate = 0.1f, .momentum = 0.9f, .nesterov = true}, std::size(kSizes));
}
TEST(SgdStepTest, OneTensor) { check({.learning_rate = 0.1f, .momentum = 0.9f}, 1); }

}  // namespace
}  // namespace plume::test
