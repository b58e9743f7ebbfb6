#include "engine/ops/softmax_cross_entropy.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/ops/reference/elementwise.h"
#include "tests/ops/reference/loss.h"
#include "tests/support/check_op.h"

namespace plume::test {
namespace {

constexpr float kSmoothing[] = {0.0f, 0.1f};

std::vector<Shape> logits_shapes() { return {{1, 1}, {3, 3}, {1, 17}, {3, 64}, {31, 10}, {7, 1000}}; }

Operand target_operand(const Shape& logits, bool soft) {
  if (soft) return {"soft", logits, distribution(), DType::f32, false};
  return {"labels", {logits[0]}, labels(logits[1]), DType::i32, false};
}

std::string label(bool soft, float smoothing) {
  return message("{} targets, smoothing {}", soft ? "soft" : "hard", smoothing);
}

TEST(SoftmaxCrossEntropyTest, Forward) {
  for (const bool soft : {false, true})
    for (const float smoothing : kSmoothing)
      for (const Shape& shape : logits_shapes())
        check_op({.slot = softmax_cross_entropy_forward,
                  .label = label(soft, smoothing),
                  .inputs = {{"logits", shape}, target_operand(shape, soft)},
                  .outputs = {{.name = "loss", .shape = {shape[0]}, .dtype = DType::f32},
                              {.name = "probabilities", .shape = shape, .dtype = DType::f32}},
                  .run =
                      [=](Context& c, Tensors& t) {
                        softmax_cross_entropy_forward(c, t["logits"], {t["labels"], t["soft"]}, {smoothing},
                                                      t["loss"], t["probabilities"]);
                      },
                  .reference =
                      [=](Arrays& a) {
                        reference::cross_entropy(a["logits"], a["labels"], a["soft"], double(smoothing),
                                                 a["loss"], a["probabilities"]);
                      }});
}

TEST(SoftmaxCrossEntropyTest, Backward) {
  for (const bool soft : {false, true})
    for (const float smoothing : kSmoothing)
      for (const Shape& shape : logits_shapes())
        check_op({.slot = softmax_cross_entropy_backward,
                  .label = label(soft, smoothing),
                  .inputs = {{"probabilities", shape, distribution(), DType::f32},
                             target_operand(shape, soft),
                             {"dloss", {1}, positive(0.5, 2), DType::f32}},
                  .outputs = {{"dlogits", shape}},
                  .run =
                      [=](Context& c, Tensors& t) {
                        softmax_cross_entropy_backward(c, t["probabilities"], {t["labels"], t["soft"]},
                                                       {smoothing}, t["dloss"], t["dlogits"]);
                      },
                  .reference =
                      [=](Arrays& a) {
                        reference::cross_entropy_backward(a["probabilities"], a["labels"], a["soft"],
                                                          double(smoothing), a["dloss"], a["dlogits"]);
                      }});
}

// The operation as networks use it: the mean of the losses, by way of the mean's slot.
TEST(SoftmaxCrossEntropyTest, MeanAndItsGradient) {
  for (const bool soft : {false, true})
    for (const float smoothing : kSmoothing)
      for (const Shape& shape : logits_shapes())
        check_op({.slot = mean_forward,
                  .label = "mean loss, " + label(soft, smoothing),
                  .inputs = {{"logits", shape}, target_operand(shape, soft)},
                  .outputs = {{.name = "mean", .shape = {1}, .dtype = DType::f32}},
                  .run =
                      [=](Context&, Tensors& t) {
                        const Variable mean =
                            softmax_cross_entropy(t["logits"], {t["labels"], t["soft"]}, {smoothing});
                        t["mean"].copy_from(mean.value());
                      },
                  .reference =
                      [=](Arrays& a) {
                        Array losses({shape[0]}), probabilities(shape);
                        reference::cross_entropy(a["logits"], a["labels"], a["soft"], double(smoothing),
                                                 losses, probabilities);
                        reference::mean(losses, a["mean"]);
                      },
                  .op =
                      [=](Variables& v) {
                        Targets targets;
                        (soft ? targets.soft : targets.labels) = v[soft ? "soft" : "labels"].value();
                        return softmax_cross_entropy(v["logits"], targets, {smoothing});
                      }});
}

// A shift that exp() could not bear changes nothing.
TEST(SoftmaxCrossEntropyTest, LargeLogits) {
  check_op({.slot = softmax_cross_entropy_forward,
            .inputs = {{"logits", {3, 17}, offset(30000)}, target_operand({3, 17}, false)},
            .outputs = {{.name = "loss", .shape = {3}, .dtype = DType::f32},
                        {.name = "probabilities", .shape = {3, 17}, .dtype = DType::f32}},
            .run =
                [](Context& c, Tensors& t) {
                  softmax_cross_entropy_forward(c, t["logits"], {t["labels"], {}}, {}, t["loss"],
                                                t["probabilities"]);
                },
            .reference =
                [](Arrays& a) {
                  reference::cross_entropy(a["logits"], a["labels"], {}, 0, a["loss"], a["probabilities"]);
                }});
}

TEST(SoftmaxCrossEntropyTest, RefusesBadTargets) {
  const Tensor logits = Tensor::zeros({2, 3}, DType::f32, Device::cpu);
  const Tensor good = Tensor::from<int32_t>({0, 2}, {2}), bad = Tensor::from<int32_t>({0, 3}, {2});
  EXPECT_NO_THROW(softmax_cross_entropy(logits, {good, {}}));
  EXPECT_THROW(softmax_cross_entropy(logits, {}), Error);
  EXPECT_THROW(softmax_cross_entropy(logits, {good, logits}), Error);
  try {
    softmax_cross_entropy(logits, {bad, {}});
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), testing::HasSubstr("label 3 of sample 1"));
  }
}

}  // namespace
}  // namespace plume::test
