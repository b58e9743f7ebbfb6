// A slot of its own, so that ladders, forcing and counters can be looked at without any real kernel.
#include "engine/core/kernel_slot.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/core/variants.h"

namespace plume::kernel_slot_test {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

// Appends which variant ran; `size` decides what fits.
using Pick = void(Context&, int size, std::vector<std::string>& ran);
constinit KernelSlot<Pick> pick{"test_pick.forward"};

template <char Letter>
void run(Context&, int, std::vector<std::string>& ran) {
  ran.emplace_back(1, Letter);
}
bool small(const Context&, int size, std::vector<std::string>&) { return size < 10; }
bool even(const Context&, int size, std::vector<std::string>&) { return size % 2 == 0; }
bool below_1000(const Context&, int size, std::vector<std::string>&) { return size < 1000; }

// In an order that is not that of their priorities, as separate files would register them.
const bool registered =
    pick.add(Device::cpu, {{"general", below_1000, run<'g'>}, {"fallback", below_1000, run<'f'>}}) &&
    pick.add(Device::cpu, {{"special", small, run<'s'>}}, KernelSlotBase::kSpecial) &&
    pick.add(Device::cpu, {{"vendor", even, run<'v'>}}, KernelSlotBase::kVendor) &&
    pick.add(Device::simt, {{"general", below_1000, run<'x'>}});

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

class KernelSlotTest : public testing::Test {
 protected:
  ~KernelSlotTest() override { force_variants("test_pick.forward="); }
  std::string call(int size, Device device = Device::cpu) {
    std::vector<std::string> ran;
    pick(context(device), size, ran);
    EXPECT_EQ(ran.size(), 1u);
    return ran.empty() ? "" : ran[0];
  }
  // What a call would run, and that it runs it.
  std::string chosen(int size) {
    std::vector<std::string> ran;
    const char* name = pick.choose(context(Device::cpu), size, ran);
    EXPECT_TRUE(ran.empty());  // asking runs nothing
    return name ? name : "";
  }
  static int place(const std::string& variant) {
    for (int i = 0; i < pick.variant_count(Device::cpu); ++i)
      if (variant == pick.variant_name(Device::cpu, i)) return i;
    return -1;
  }
};

TEST_F(KernelSlotTest, LaddersAreSortedByPriorityThenByRegistration) {
  ASSERT_TRUE(registered);
  std::vector<std::string> names;
  for (int i = 0; i < pick.variant_count(Device::cpu); ++i)
    names.emplace_back(pick.variant_name(Device::cpu, i));
  EXPECT_THAT(names, ElementsAre("special", "vendor", "general", "fallback"));
  EXPECT_EQ(pick.variant_count(Device::simt), 1);
  EXPECT_EQ(pick.variant_count(Device::cuda), 0);
}

TEST_F(KernelSlotTest, TheFirstThatFitsRuns) {
  EXPECT_EQ(call(3), "s");
  EXPECT_EQ(call(12), "v");
  EXPECT_EQ(call(13), "g");
  EXPECT_EQ(call(13, Device::simt), "x");
  EXPECT_EQ(chosen(3), "special");
  EXPECT_EQ(chosen(12), "vendor");
  EXPECT_EQ(chosen(13), "general");
  EXPECT_EQ(chosen(1001), "");
}

TEST_F(KernelSlotTest, AForcedVariantRunsAloneUntilLifted) {
  pick.force(Device::cpu, "fallback");
  EXPECT_STREQ(pick.forced(Device::cpu), "fallback");
  EXPECT_EQ(pick.forced(Device::simt), nullptr);  // other devices are free
  EXPECT_EQ(call(3), "f");
  EXPECT_EQ(call(12), "f");
  pick.force(Device::cpu, "");
  EXPECT_EQ(pick.forced(Device::cpu), nullptr);
  EXPECT_EQ(call(3), "s");
}

TEST_F(KernelSlotTest, AForcedVariantThatDoesNotFitIsAnErrorNotASubstitution) {
  pick.force(Device::cpu, "special");
  EXPECT_EQ(refusal([&] { call(50); }),
            "test_pick.forward: the forced variant 'special' does not fit these arguments on cpu");
}

TEST_F(KernelSlotTest, WithoutAFittingVariantTheErrorNamesSlotAndDevice) {
  EXPECT_EQ(refusal([&] { call(1001); }),
            "test_pick.forward: none of the 4 variants on cpu fits these arguments");
  EXPECT_EQ(refusal([&] { call(1, Device::cuda); }),
            "test_pick.forward: none of the 0 variants on cuda fits these arguments");
}

TEST_F(KernelSlotTest, RunsAreCountedPerVariant) {
  const int general = place("general"), vendor = place("vendor");
  const uint64_t general_before = pick.runs(Device::cpu, general),
                 vendor_before = pick.runs(Device::cpu, vendor);
  call(13);
  call(15);
  chosen(13);
  EXPECT_EQ(pick.runs(Device::cpu, general), general_before + 2);
  EXPECT_EQ(pick.runs(Device::cpu, vendor), vendor_before);
  EXPECT_ANY_THROW(call(1001));
  EXPECT_EQ(pick.runs(Device::cpu, general), general_before + 2);
}

TEST_F(KernelSlotTest, ForcingByTextReachesEveryDeviceThatHasTheVariant) {
  force_variants("test_pick.forward=general");
  EXPECT_STREQ(pick.forced(Device::cpu), "general");
  EXPECT_STREQ(pick.forced(Device::simt), "general");
  EXPECT_EQ(pick.forced(Device::cuda), nullptr);
  EXPECT_EQ(call(3), "g");
  force_variants("test_pick.forward=");
  EXPECT_EQ(pick.forced(Device::cpu), nullptr);
  EXPECT_EQ(pick.forced(Device::simt), nullptr);
}

TEST_F(KernelSlotTest, SeveralAssignmentsAreSeparatedByCommas) {
  force_variants("relu.forward=loop,test_pick.forward=vendor");
  EXPECT_STREQ(pick.forced(Device::cpu), "vendor");
  EXPECT_STREQ(find_slot("relu.forward").forced(Device::cpu), "loop");
  force_variants("relu.forward=,test_pick.forward=");
  EXPECT_EQ(find_slot("relu.forward").forced(Device::cpu), nullptr);
  force_variants("");  // nothing asked, nothing done
}

TEST_F(KernelSlotTest, UnknownNamesAreRefusedAndTheNearestIsNamed) {
  EXPECT_EQ(refusal([] { force_variants("test_pik.forward=general"); }),
            "there is no kernel slot 'test_pik.forward'; nearest: 'test_pick.forward'");
  EXPECT_EQ(refusal([] { force_variants("test_pick.forward=tensor"); }),
            "test_pick.forward: no device has a variant 'tensor'");
  EXPECT_EQ(refusal([] { pick.force(Device::simt, "vendor"); }),
            "test_pick.forward: device simt has no variant 'vendor'");
  EXPECT_EQ(refusal([] { force_variants("test_pick.forward"); }),
            "variant 'test_pick.forward': expected slot=name");
}

TEST_F(KernelSlotTest, SlotsAreFoundByNameInAlphabeticalOrder) {
  EXPECT_EQ(&find_slot("test_pick.forward"), &pick);
  std::vector<std::string> names;
  for (const KernelSlotBase* slot : all_slots()) names.emplace_back(slot->name());
  EXPECT_TRUE(std::is_sorted(names.begin(), names.end()));
  EXPECT_EQ(std::count(names.begin(), names.end(), "test_pick.forward"), 1);
  EXPECT_EQ(std::count(names.begin(), names.end(), "conv2d.forward"), 1);  // the engine's are there too
}

TEST_F(KernelSlotTest, ANinthVariantIsRefused) {
  static constinit KernelSlot<Pick> full{"test_full.forward"};
  const KernelSlot<Pick>::Variant variant{"same", below_1000, run<'g'>};
  for (int i = 0; i < KernelSlotBase::kMaxVariants; ++i) full.add(Device::cpu, {variant});
  try {
    full.add(Device::cpu, {variant});
    FAIL() << "there is no room for it";
  } catch (const Error& error) {
    EXPECT_STREQ(error.what(), "test_full.forward: more than 8 variants on cpu");
  }
  EXPECT_EQ(full.variant_count(Device::cpu), 8);
}

class Log : public LaunchObserver {
 public:
  void begin(const KernelCall& call) override { add("begin", call); }
  void end(const KernelCall& call) override { add("end", call); }
  std::vector<std::string> lines;

 private:
  void add(const char* what, const KernelCall& call) {
    lines.push_back(message("{} {} {}", what, call.slot(), call.variant()));
  }
};

TEST_F(KernelSlotTest, AnObserverIsToldOfEveryRun) {
  Log log;
  context(Device::cpu).set_observer(&log);
  call(12);
  call(13, Device::simt);  // another context
  context(Device::cpu).set_observer(nullptr);
  call(12);
  EXPECT_THAT(log.lines, ElementsAre("begin test_pick.forward vendor", "end test_pick.forward vendor"));
}

TEST_F(KernelSlotTest, APreferredVariantGoesFirstWhereItFits) {
  pick.prefer(Device::cpu, "vendor");
  EXPECT_EQ(chosen(4), "vendor");   // before the special one
  EXPECT_EQ(chosen(5), "special");  // it takes even sizes only
  EXPECT_EQ(chosen(13), "general");
  pick.force(Device::cpu, "fallback");
  EXPECT_EQ(chosen(4), "fallback");  // a forced one rules out all others
  pick.force(Device::cpu, "");
  pick.prefer(Device::cpu, "");
  EXPECT_EQ(chosen(4), "special");
  EXPECT_THAT(refusal([] { pick.prefer(Device::cpu, "loop"); }), HasSubstr("no variant 'loop'"));
}

// In the device's order: `wide` fits always and pays from 10 on, `other` fits up to 20, `last` above 30.
constinit KernelSlot<void(Context&, int)> paying{"test_paying"};
void nothing(Context&, int) {}
const bool paying_registered =
    paying.add(Device::cpu, {{"wide", always, nothing, [](const Context&, int n) { return n >= 10; }},
                             {"other", [](const Context&, int n) { return n <= 20; }, nothing},
                             {"last", [](const Context&, int n) { return n > 30; }, nothing,
                              [](const Context&, int) { return false; }}});

TEST(KernelSlotPays, AVariantThatDoesNotPayRunsWhereNoOtherFitsOrItMust) {
  Context& cpu = context(Device::cpu);
  EXPECT_STREQ(paying.choose(cpu, 5), "other");
  EXPECT_STREQ(paying.choose(cpu, 12), "wide");
  EXPECT_STREQ(paying.choose(cpu, 25), "wide");
  paying.force(Device::cpu, "wide");
  EXPECT_STREQ(paying.choose(cpu, 5), "wide");
  paying.force(Device::cpu, "last");
  EXPECT_STREQ(paying.choose(cpu, 31), "last");
  EXPECT_EQ(paying.choose(cpu, 5), nullptr);
  paying.force(Device::cpu, "");
  paying.prefer(Device::cpu, "wide");
  EXPECT_STREQ(paying.choose(cpu, 5), "wide");
  paying.prefer(Device::cpu, "");
}

TEST(KernelSlotFamilies, AllFastPathsOrNone) {
  Context& cpu = context(Device::cpu);
  choose_variants("first");
  EXPECT_STREQ(paying.choose(cpu, 5), "wide") << "whether it pays or not";
  choose_variants("last");
  EXPECT_STREQ(paying.choose(cpu, 31), "last");
  EXPECT_STREQ(paying.choose(cpu, 5), "other") << "where the last does not fit";
  choose_variants("first,test_paying=other");
  EXPECT_STREQ(paying.choose(cpu, 5), "other") << "the later one counts";
  EXPECT_EQ(refusal([] { choose_variants("last,fastest"); }),
            "variant 'fastest': expected slot=name, first or last");
  choose_variants("test_paying=");
  for (KernelSlotBase* slot : all_slots())
    for (int d = 0; d < kDeviceCount; ++d) slot->prefer(Device(d), "");
  EXPECT_TRUE(is_of_vendor("cublaslt_1x1") && !is_of_vendor("tensor_core"));
}

// Tensors as arguments, in structs and in lists of them.
struct Pair {
  Tensor first, second;
  template <class Self, class F>
  static void for_each_tensor(Self& self, F&& f) {
    f(self.first);
    f(self.second);
  }
};
using Weigh = void(Context&, const Tensor& x, const std::vector<Pair>& pairs, float factor, Tensor& y);
CallCost weigh_cost(const Tensor& x, const std::vector<Pair>&, const float& factor, const Tensor&) {
  return {CallClass::dense, double(x.size()) * double(factor)};
}
constinit KernelSlot<Weigh> weigh{"test_weigh.forward", weigh_cost};
constinit KernelSlot<Weigh> weigh_freely{"test_weigh_freely.forward"};
const bool weigh_registered = weigh.add(
    Device::cpu, {{"only", always, [](Context&, const Tensor&, const std::vector<Pair>&, float, Tensor&) {
                     throw Error("weigh: always fails");
                   }}});

TEST_F(KernelSlotTest, ACallCostsItsOperandsUnlessARuleSaysMore) {
  const auto f32 = [](int64_t n) { return Tensor::zeros({n}, DType::f32, Device::cpu); };
  const Tensor x = f32(10), y = f32(1);
  const std::vector<Pair> pairs{{f32(2), {}}, {f32(3), f32(4)}};
  const CallCost cost = weigh.cost(x, pairs, 3, y), plain = weigh_freely.cost(x, pairs, 3, y);
  EXPECT_EQ(cost.kind, CallClass::dense);
  EXPECT_EQ(cost.macs, 30);
  EXPECT_EQ(cost.bytes, 4 * (10 + 2 + 3 + 4 + 1));
  EXPECT_EQ(plain.kind, CallClass::movement);
  EXPECT_EQ(plain.macs, 0);
  EXPECT_EQ(plain.bytes, cost.bytes);
}

TEST_F(KernelSlotTest, AnObserverSeesTheOperandsAndTheEndOfACallThatThrows) {
  class Operands : public LaunchObserver {
   public:
    void begin(const KernelCall& call) override {
      call.for_each_operand(
          [&](const Tensor& t, bool written) { seen.emplace_back(t.defined() ? t.size() : 0, written); });
      macs = call.cost().macs;
    }
    void end(const KernelCall&) override { ++ended; }
    std::vector<std::pair<int64_t, bool>> seen;
    double macs = 0;
    int ended = 0;
  } observer;
  Context& cpu = context(Device::cpu);
  cpu.set_observer(&observer);
  const Tensor x = Tensor::zeros({10}, DType::f32, Device::cpu);
  Tensor y = Tensor::zeros({1}, DType::f32, Device::cpu);
  EXPECT_THROW(weigh(cpu, x, {{x, {}}}, 2, y), Error);
  cpu.set_observer(nullptr);
  EXPECT_THAT(observer.seen, ElementsAre(std::pair(10, false), std::pair(10, false), std::pair(0, false),
                                         std::pair(1, true)));
  EXPECT_EQ(observer.macs, 20);
  EXPECT_EQ(observer.ended, 1);
}

}  // namespace
}  // namespace plume::kernel_slot_test
