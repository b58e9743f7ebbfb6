#include "engine/ops/optimizer_step.h"

#include <gtest/gtest.h>

#include "tests/ops/reference/optimizer.h"
#include "tests/support/check_op.h"

namespace plume::test {
namespace {

// More tensors than a table of the kernels holds, of odd sizes, with and without weight decay.
constexpr int64_t kSizes[] = {1, 3, 17, 64, 31, 1025, 7, 4096, 5000};
constexpr size_t kMany = 130;
int64_t size_of_tensor(size_t i) { return i < std::size(kSizes) ? kSizes[i] : int64_t(1 + i % 7); }
float weight_decay(size_t i) { return i % 2 == 0 ? 0.01f : 0.0f; }
bool has_rounded(size_t i) { return i % 4 != 1; }
float rate_factor(size_t i) { return i % 3 == 0 ? 0.5f : 1.0f; }

// Names live as long as the operands that point to them.
const char* name_of(const char* word, size_t i) {
  static std::map<std::string, std::string> all;
  return all.try_emplace(word + std::to_string(i), word + std::to_string(i)).first->second.c_str();
}

struct Kept {
  bool first, second;
};

// reference_step(rate, weight decay, gradient, parameter, first, second)
using ReferenceStep = std::function<void(double, double, Real, Real&, Real*, Real*)>;

template <class Slot, class Params>
void check(Slot& slot, const Params& params, const StepControl& control, Kept kept, size_t count,
           const std::string& label, const ReferenceStep& reference_step, DType rounded = DType::bf16) {
  std::vector<Operand> gradients, updated;
  for (size_t i = 0; i < count; ++i) {
    const Shape shape{size_of_tensor(i)};
    gradients.push_back({name_of("gradient", i), shape});
    updated.push_back({name_of("parameter", i), shape});
    if (kept.first) updated.push_back({name_of("first", i), shape});
    if (kept.second) updated.push_back({name_of("second", i), shape, positive(1e-4, 2)});
    if (has_rounded(i)) updated.push_back({name_of("rounded", i), shape, outliers(), rounded});
  }
  check_op(
      {.slot = slot,
       .label = message("{} tensors, {}", count, label),
       .inputs = gradients,
       .updated = updated,
       .outputs = {},
       .run =
           [&](Context& c, Tensors& t) {
             std::vector<StepTensor> tensors;
             for (size_t i = 0; i < count; ++i)
               tensors.push_back({t[name_of("parameter", i)], t[name_of("gradient", i)],
                                  t[name_of("first", i)], t[name_of("second", i)], t[name_of("rounded", i)],
                                  rate_factor(i), weight_decay(i)});
             slot(c, tensors, Tensor::from_bytes(&control, {kStepNumbers}, DType::f32, c.device()), params);
           },
       .reference =
           [&](Arrays& a) {
             if (control.skip != 0) return;
             for (size_t i = 0; i < count; ++i) {
               Array &parameter = a[name_of("parameter", i)], &first = a[name_of("first", i)],
                     &second = a[name_of("second", i)];
               const double rate = double(control.learning_rate * rate_factor(i));
               for (int64_t j = 0; j < parameter.size(); ++j)
                 reference_step(rate, double(weight_decay(i)),
                                reference::transformed(control, a[name_of("gradient", i)][j]), parameter[j],
                                kept.first ? &first[j] : nullptr, kept.second ? &second[j] : nullptr);
               if (has_rounded(i))
                 for (int64_t j = 0; j < parameter.size(); ++j) a[name_of("rounded", i)][j] = parameter[j];
             }
           },
       .dtypes = {DType::f32}});
}

constexpr StepControl kPlain{.learning_rate = 0.1f};
// Unscaled and clipped both ways.
constexpr StepControl kClipped{.learning_rate = 0.1f, .gradient_factor = 0.37f, .gradient_limit = 0.5f};
constexpr StepControl kSkipped{.learning_rate = 0.1f, .skip = 1};

void check_sgd(const SgdParams& p, const StepControl& control = kPlain, size_t count = std::size(kSizes),
               DType rounded = DType::bf16) {
  check(
      sgd_step, p, control, {p.momentum != 0, false}, count,
      message("momentum {}, nesterov {}, factor {}, skip {}", p.momentum, p.nesterov, control.gradient_factor,
              control.skip),
      [&](double rate, double decay, Real g, Real& parameter, Real* first, Real*) {
        reference::sgd_step(p, rate, decay, g, parameter, first);
      },
      rounded);
}

void check_adam(const AdamParams& p, StepControl control, size_t count = std::size(kSizes)) {
  control.first_correction = 3.7f;
  control.second_correction = 11.3f;
  check(adam_step, p, control, {true, true}, count,
        message("decoupled {}, factor {}, skip {}", p.decoupled, control.gradient_factor, control.skip),
        [&](double rate, double decay, Real g, Real& parameter, Real* first, Real* second) {
          reference::adam_step(p, control, rate, decay, g, parameter, *first, *second);
        });
}

void check_rmsprop(const RmspropParams& p, const StepControl& control = kPlain,
                   size_t count = std::size(kSizes)) {
  check(rmsprop_step, p, control, {p.momentum != 0, true}, count,
        message("tensorflow {}, momentum {}, factor {}, skip {}", p.tensorflow, p.momentum,
                control.gradient_factor, control.skip),
        [&](double rate, double decay, Real g, Real& parameter, Real* first, Real* second) {
          reference::rmsprop_step(p, rate, decay, g, parameter, first, *second);
        });
}

TEST(SgdStepTest, Plain) { check_sgd({}); }
TEST(SgdStepTest, Momentum) { check_sgd({.momentum = 0.9}); }
TEST(SgdStepTest, Nesterov) { check_sgd({.momentum = 0.9, .nesterov = true}); }
TEST(SgdStepTest, OneTensor) { check_sgd({.momentum = 0.9}, kPlain, 1); }
TEST(SgdStepTest, ManyTensors) { check_sgd({.momentum = 0.9}, kClipped, kMany); }
TEST(SgdStepTest, Clipped) { check_sgd({.momentum = 0.9}, kClipped); }
TEST(SgdStepTest, CopiesInF16) { check_sgd({.momentum = 0.9}, kPlain, std::size(kSizes), DType::f16); }
TEST(SgdStepTest, Skipped) { check_sgd({.momentum = 0.9}, kSkipped); }

TEST(AdamStepTest, Coupled) { check_adam({}, kPlain); }
TEST(AdamStepTest, Decoupled) { check_adam({.decoupled = true}, kPlain); }
TEST(AdamStepTest, ManyTensors) { check_adam({.beta1 = 0.8, .epsilon = 1e-3}, kClipped, kMany); }
TEST(AdamStepTest, Skipped) { check_adam({}, kSkipped); }

TEST(RmspropStepTest, PyTorch) { check_rmsprop({}); }
TEST(RmspropStepTest, PyTorchMomentum) { check_rmsprop({.momentum = 0.9}); }
TEST(RmspropStepTest, TensorFlow) { check_rmsprop({.alpha = 0.9, .epsilon = 1e-3, .tensorflow = true}); }
TEST(RmspropStepTest, ManyTensors) {
  check_rmsprop({.alpha = 0.9, .epsilon = 1e-3, .momentum = 0.9, .tensorflow = true}, kClipped, kMany);
}
TEST(RmspropStepTest, Skipped) { check_rmsprop({.momentum = 0.9}, kSkipped); }

}  // namespace
}  // namespace plume::test
