#include "engine/autograd/tape.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <thread>

#include "engine/memory/allocator.h"
#include "engine/ops/add.h"
#include "engine/ops/partial_sums.h"
#include "engine/ops/relu.h"

namespace plume::tape_test {
namespace {

using testing::Each;
using testing::ElementsAre;

Tensor values(const std::vector<float>& v) { return Tensor::from(v, {int64_t(v.size())}); }
Variable leaf(const std::vector<float>& v) { return Variable(values(v), true); }
std::vector<float> gradient(const Variable& v) {
  return v.grad().defined() ? v.grad().to_vector<float>() : std::vector<float>{};
}

// y = x * factor, on the host: a rule of the test's own, which can also watch and count.
Variable scale(const Variable& x, float factor, const std::function<void()>& on_backward = {}) {
  std::vector<float> v = x.value().to_vector<float>();
  for (float& one : v) one *= factor;
  return record("test_scale", Tensor::from(v, x.shape()), {x}, [=](const Tensor& dy, Gradients& g) {
    if (on_backward) on_backward();
    std::vector<float> dx = dy.to_vector<float>();
    for (float& one : dx) one *= factor;
    g.add(0, Tensor::from(dx, dy.shape()));
  });
}

// The sum of all elements, so that backward() needs no dy.
Variable sum(const Variable& x) {
  float total = 0;
  for (const float v : x.value().to_vector<float>()) total += v;
  const Shape shape = x.shape();
  return record("test_sum", values({total}), {x}, [=](const Tensor& dy, Gradients& g) {
    g.add(0, Tensor::from(std::vector<float>(size_t(shape.elements()), dy.item()), shape));
  });
}

template <class F>
std::string refusal(F&& action) {
  try {
    action();
    return "";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::usage);
    return error.what();
  }
}

TEST(Tape, GradientsReachTheLeavesThatWantThem) {
  const Variable wanted = leaf({1, -2, 3}), constant = Variable(values({1, 1, 1}));
  backward(sum(relu(add(wanted, constant))));
  EXPECT_THAT(gradient(wanted), ElementsAre(1, 0, 1));
  EXPECT_FALSE(constant.grad().defined());
}

// A rule that takes two gradients is given what two readers bring, and with a third one their sum.
TEST(Tape, JoiningRulesAreGivenTwoGradients) {
  for (int readers = 1; readers <= 4; ++readers) {
    const Variable x = leaf({1, 2});
    std::vector<std::vector<float>> seen;
    const Variable y = record_joining("test_join", x.value().clone(), {x},
                                      [&](const Tensor& dy, const Tensor& more, Gradients& g) {
                                        seen = {dy.to_vector<float>()};
                                        if (more.defined()) seen.push_back(more.to_vector<float>());
                                        g.add(0, dy);
                                      });
    Variable all = scale(y, 10);
    for (int i = 1; i < readers; ++i) all = add(scale(y, 10.0f * float(i + 1)), all);
    backward(sum(all));
    ASSERT_EQ(seen.size(), readers > 1 ? 2u : 1u);
    float total = 0;
    for (const auto& one : seen) total += one[1];
    EXPECT_EQ(total, 10.0f * float(readers * (readers + 1) / 2));
  }
}

// y = x, and its gradient is a sum that a kernel puts off.
Variable late(const Variable& x) {
  return record("test_late", x.value().clone(), {x}, [](const Tensor& dy, Gradients& g) {
    const std::vector<float> one = dy.to_vector<float>();
    std::vector<float> twice = one;
    twice.insert(twice.end(), one.begin(), one.end());
    const Tensor dx = Tensor::zeros(dy.shape(), DType::f32, Device::cpu);
    finish_sum(context(Device::cpu), Tensor::from(twice, {2, dy.size()}), dx);
    g.add(0, dx);
  });
}

TEST(Tape, SumsArePutOffUntilSomebodyReads) {
  const Variable x = leaf({1, 2});
  backward(sum(late(late(x))));  // the first one's rule reads what the second one's put off
  EXPECT_THAT(gradient(x), ElementsAre(4, 4));
  backward(sum(add(late(x), late(x))));  // both into a gradient that is there
  EXPECT_THAT(gradient(x), ElementsAre(8, 8));

  const Variable z = leaf({1});
  std::vector<float> at_hook;
  backward(sum(late(z)), {}, [&](Variable& v) { at_hook = gradient(v); });
  EXPECT_THAT(at_hook, ElementsAre(2));
}

TEST(Tape, RulesAreToldWhatIsWanted) {
  const Variable wanted = leaf({1}), constant = Variable(values({2}));
  std::vector<bool> told;
  const Variable y =
      record("test_watch", values({3}), {wanted, constant, {}}, [&](const Tensor& dy, Gradients& g) {
        for (const int i : {0, 1, 2}) told.push_back(g.wants(i));
        for (const int i : {0, 1, 2}) g.add(i, dy);  // unwanted ones are dropped
      });
  backward(y);
  EXPECT_THAT(told, ElementsAre(true, false, false));
  EXPECT_THAT(gradient(wanted), ElementsAre(1));
  EXPECT_FALSE(constant.grad().defined());
}

TEST(Tape, ConstantsRecordNothing) {
  const Variable a = Variable(values({1})), b = Variable(values({2}));
  const auto kept = std::make_shared<int>(0);
  const Variable y = record("test_keep", values({3}), {a, b}, [kept](const Tensor&, Gradients&) {});
  EXPECT_FALSE(y.requires_grad());
  EXPECT_EQ(kept.use_count(), 1);  // the rule, and with it what it saved, is gone
  EXPECT_EQ(refusal([&] { backward(y); }),
            "backward: the output does not depend on any variable that wants a gradient");
  EXPECT_EQ(refusal([] { backward(Variable()); }),
            "backward: the output does not depend on any variable that wants a gradient");
}

TEST(Tape, NoGradRecordsNothingOnThisThreadWhileAlive) {
  const Variable x = leaf({1, 2});
  EXPECT_TRUE(grad_enabled());
  {
    const NoGrad outer;
    {
      const NoGrad inner;
      EXPECT_FALSE(grad_enabled());
    }
    EXPECT_FALSE(grad_enabled());  // the inner one must not switch recording on
    EXPECT_FALSE(relu(x).requires_grad());
    EXPECT_FALSE(needs_grad({x}));
    bool elsewhere = false;
    std::thread([&] { elsewhere = grad_enabled(); }).join();
    EXPECT_TRUE(elsewhere);
  }
  EXPECT_TRUE(grad_enabled());
  EXPECT_TRUE(relu(x).requires_grad());
  EXPECT_TRUE(needs_grad({Variable(), Variable(values({1})), x}));
  EXPECT_FALSE(needs_grad({Variable(), Variable(values({1}))}));
}

TEST(Tape, BackwardItselfRecordsNothing) {
  const Variable x = leaf({1, 2});
  bool recording = true;
  backward(sum(scale(x, 2, [&] { recording = grad_enabled(); })));
  EXPECT_FALSE(recording);
  EXPECT_FALSE(Variable(x.grad()).requires_grad());
  EXPECT_TRUE(grad_enabled());
}

TEST(Tape, ADiamondAddsUpBothPathsAndRunsEveryRuleOnce) {
  const Variable x = leaf({1, 2});
  int top_runs = 0;
  const Variable top = scale(x, 3, [&] { ++top_runs; });
  const Variable left = scale(top, 5), right = scale(scale(top, 7), 11);
  backward(sum(add(left, right)));
  EXPECT_EQ(top_runs, 1);
  EXPECT_THAT(gradient(x), Each(3 * (5 + 7 * 11)));
}

TEST(Tape, OneVariableMayBeSeveralInputs) {
  const Variable x = leaf({1, 2});
  backward(sum(add(x, x)));
  EXPECT_THAT(gradient(x), ElementsAre(2, 2));
  const Variable z = leaf({1, 2});
  Variable y = z;
  for (int i = 0; i < 10; ++i) y = add(y, y);
  backward(sum(y));
  EXPECT_THAT(gradient(z), ElementsAre(1024, 1024));
}

// add() hands one dy to both of its inputs: what is added to one gradient must not appear in the other.
TEST(Tape, GradientsThatShareMemoryStayApart) {
  const Variable a = leaf({1, 2}), b = leaf({3, 4});
  const Tensor dy = values({1, 10});
  backward(add(a, b), dy);
  backward(scale(a, 100), values({1, 1}));
  EXPECT_THAT(gradient(a), ElementsAre(101, 110));
  EXPECT_THAT(gradient(b), ElementsAre(1, 10));
  EXPECT_THAT(dy.to_vector<float>(), ElementsAre(1, 10));
}

TEST(Tape, GradientsAddUpOverSeveralTapesUntilCleared) {
  Variable x = leaf({1, 2});
  backward(sum(scale(x, 3)));
  backward(sum(scale(x, 4)));
  EXPECT_THAT(gradient(x), ElementsAre(7, 7));
  x.clear_grad();
  EXPECT_FALSE(x.grad().defined());
  backward(sum(scale(x, 4)));
  EXPECT_THAT(gradient(x), ElementsAre(4, 4));
}

TEST(Tape, ALeafIsItsOwnOutput) {
  const Variable x = leaf({5});
  backward(x);
  EXPECT_THAT(gradient(x), ElementsAre(1));
}

TEST(Tape, AGivenGradientWeighsTheOutput) {
  const Variable x = leaf({1, -1, 2});
  backward(relu(x), values({10, 20, 30}));
  EXPECT_THAT(gradient(x), ElementsAre(10, 0, 30));
}

TEST(Tape, OnlyOneElementOutputsDefaultToOne) {
  const Variable x = leaf({1, 2, 3});
  EXPECT_EQ(refusal([&] { backward(relu(x)); }),
            "backward: f32 [3] on cpu needs an explicit gradient; only one-element f32 outputs default to 1");
  EXPECT_FALSE(x.grad().defined());
}

TEST(Tape, AGradientOfTheWrongShapeIsRefused) {
  const Variable x = leaf({1, 2, 3});
  const Variable y = record("test_wrong", values({1}), {x}, [](const Tensor&, Gradients& g) {
    g.add(0, values({1, 2}));
  });
  EXPECT_EQ(refusal([&] { backward(y); }), "backward: gradient [2] for a value of shape [3]");
}

TEST(Tape, ASecondUseOfAFreedTapeIsRefused) {
  const Variable x = leaf({1, 2});
  const Variable hidden = scale(x, 2), y = sum(hidden);
  backward(y);
  EXPECT_EQ(refusal([&] { backward(y); }),
            "backward: the tape through 'test_sum' was already used and freed; run the forward pass again");
  // A new operation on top of a used part does not make it fresh.
  EXPECT_EQ(refusal([&] { backward(sum(relu(hidden))); }),
            "backward: the tape through 'test_scale' was already used and freed; run the forward pass again");
  EXPECT_THAT(gradient(x), ElementsAre(2, 2));
}

TEST(Tape, ARuleThatThrowsLeavesAUsedTape) {
  const Variable x = leaf({1, 2});
  const Variable y = sum(scale(x, 2, [] { fail(ErrorKind::numeric, "test: no gradient today"); }));
  EXPECT_THROW(backward(y), Error);
  EXPECT_TRUE(grad_enabled());
  EXPECT_THAT(refusal([&] { backward(y); }), testing::HasSubstr("already used and freed"));
}

TEST(Tape, RulesAreDestroyedOnTheWay) {
  const Variable x = leaf({1});
  const auto late = std::make_shared<int>(0), early = std::make_shared<int>(0);
  long late_uses_when_early_runs = -1;
  const Variable first = scale(x, 2, [&, early] { late_uses_when_early_runs = late.use_count(); });
  const Variable second = scale(first, 3, [late] {});
  EXPECT_GT(late.use_count(), 1);
  backward(sum(second));
  EXPECT_EQ(late_uses_when_early_runs, 1);
  EXPECT_EQ(early.use_count(), 1);
}

size_t bytes_in_use() { return host_allocator().statistics().current; }

// A chain of values nobody holds: while backward walks down, what lies above must already be free.
TEST(Tape, ValuesAndGradientsAreFreedAsTheyAreConsumed) {
  constexpr int kDepth = 16, kElements = 1 << 16;
  constexpr size_t kBytes = kElements * sizeof(float);
  const Variable x = Variable(Tensor::zeros({kElements}, DType::f32, Device::cpu), true);
  const size_t before = bytes_in_use();
  std::vector<size_t> in_use;  // in the order backward runs: from the end of the chain
  {
    Variable y = x;
    for (int i = 0; i < kDepth; ++i) {
      y = scale(y, 1, [&] { in_use.push_back(bytes_in_use() - before); });
      y = relu(y);
    }
    const Variable loss = sum(y);
    y = Variable();
    // scale keeps nothing, but the values are inputs of recorded operations: two per step.
    EXPECT_GE(bytes_in_use() - before, 2 * kDepth * kBytes);
    backward(loss);
  }
  ASSERT_EQ(in_use.size(), size_t(kDepth));
  // When scale number i runs, the i pairs of values before it, its own output and at most three gradients
  // (one consumed, one produced, one on its way) are alive.
  for (int i = 0; i < kDepth; ++i)
    EXPECT_LE(in_use[size_t(kDepth - 1 - i)], (2 * size_t(i) + 4) * kBytes) << i;
  EXPECT_LE(bytes_in_use() - before, kBytes + 1024);  // the gradient of x is all that is left
  EXPECT_THAT(gradient(x), Each(0.0f));
}

TEST(Tape, AHeldVariableHoldsItsValueButNoGradient) {
  const Variable x = Variable(Tensor::zeros({1 << 16}, DType::f32, Device::cpu), true);
  const size_t before = bytes_in_use();
  const Variable held = scale(x, 1);
  const Variable loss = sum(relu(held));
  backward(loss);
  constexpr size_t kBytes = sizeof(float) << 16;
  EXPECT_LE(bytes_in_use() - before, 2 * kBytes + 1024);  // its value, and the gradient of x
}

TEST(Tape, AForwardPassThatIsDroppedFreesEverything) {
  const Variable x = Variable(Tensor::zeros({1 << 16}, DType::f32, Device::cpu), true);
  const size_t before = bytes_in_use();
  {
    Variable y = x;
    for (int i = 0; i < 10; ++i) y = relu(add(y, y));
    EXPECT_GT(bytes_in_use(), before);
  }
  EXPECT_EQ(bytes_in_use(), before);
}

TEST(Tape, TellsOnceWhenALeafsGradientIsComplete) {
  const Variable early = leaf({1, 2}), late = leaf({3, 4}),
                 constant(Tensor::from(std::vector<float>{5, 6}, {2}));
  const Variable y = scale(add(early, add(early, constant)), 2);  // early: used twice
  const Variable loss = sum(add(y, add(late, early)));
  std::vector<std::pair<std::string, std::vector<float>>> told;
  backward(loss, {}, [&](Variable& v) {
    told.emplace_back(&v.value() == &late.value() ? "late" : "early", v.grad().to_vector<float>());
  });
  ASSERT_EQ(told.size(), 2u);  // not the constant
  EXPECT_EQ(told[0].first, "late");
  EXPECT_THAT(told[0].second, ElementsAre(1, 1));
  EXPECT_EQ(told[1].first, "early");
  EXPECT_THAT(told[1].second, ElementsAre(5, 5));
}

TEST(Tape, TellsOfALeafThatGotNoGradientAndOfAnOutputThatIsALeaf) {
  const Variable x = leaf({1, 2});
  const Variable y = record("ignores", x.value().clone(), {x}, [](const Tensor&, Gradients&) {});
  std::vector<std::vector<float>> told;
  const LeafHook note = [&](Variable& v) { told.push_back(gradient(v)); };
  backward(sum(y), {}, note);
  backward(leaf({7}), {}, note);
  ASSERT_EQ(told.size(), 2u);
  EXPECT_TRUE(told[0].empty());
  EXPECT_THAT(told[1], ElementsAre(1));
}

constexpr int kDeep = 10'000;

TEST(Tape, DeepChainsDoNotOverflowTheStackInBackward) {
  const Variable x = leaf({1, -1});
  int runs = 0;
  Variable y = x;
  for (int i = 0; i < kDeep; ++i) y = scale(y, 1, [&] { ++runs; });
  backward(sum(y));
  EXPECT_EQ(runs, kDeep);
  EXPECT_THAT(gradient(x), ElementsAre(1, 1));
}

TEST(Tape, DeepChainsDoNotOverflowTheStackWhenDropped) {
  const Variable x = leaf({1});
  const size_t before = bytes_in_use();
  {
    Variable y = x;
    for (int i = 0; i < kDeep; ++i) y = relu(y);
  }
  EXPECT_EQ(bytes_in_use(), before);
}

}  // namespace
}  // namespace plume::tape_test
