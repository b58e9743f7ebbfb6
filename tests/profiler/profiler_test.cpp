// Slots of their own that take known times, and a tracer that reports known kernels.
#include "engine/profiler/profiler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "engine/core/kernel_slot.h"
#include "engine/core/scope.h"
#include "engine/ops/relu.h"
#include "engine/profiler/trace.h"

namespace plume::profiler_test {
namespace {

using nlohmann::json;
using testing::ElementsAre;
using testing::HasSubstr;

void spend(double seconds) {
  const auto start = std::chrono::steady_clock::now();
  while (std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count() < seconds) {
  }
}

// `outer` leaves all its work to `inner`, `half` some of it.
using Wait = void(Context&, const Tensor& x, double seconds, Tensor& y);
CallCost inner_cost(const Tensor& x, const double&, const Tensor&) {
  return {CallClass::dense, double(x.size())};
}
CallCost half_cost(const Tensor& x, const double&, const Tensor&) {
  return {CallClass::linear, 3.0 * double(x.size())};
}
constinit KernelSlot<Wait> inner{"test_inner.forward", inner_cost};
constinit KernelSlot<Wait> outer{"test_outer.forward", inner_cost};
constinit KernelSlot<Wait> half{"test_half.forward", half_cost};

void run_inner(Context&, const Tensor&, double seconds, Tensor&) { spend(seconds); }
void run_outer(Context& context, const Tensor& x, double seconds, Tensor& y) {
  spend(seconds);
  inner(context, x, 2 * seconds, y);
}
constexpr Device kDevices[] = {Device::cpu, Device::simt};
const bool registered = [] {
  for (const Device device : kDevices) {
    inner.add(device, {{"only", always, run_inner}, {"other", always, run_inner}});
    outer.add(device, {{"only", always, run_outer}});
    half.add(device, {{"only", always, run_outer}});
  }
  return true;
}();

struct Work {
  Tensor x = Tensor::zeros({6}, DType::f32, Device::cpu), y = Tensor::zeros({2}, DType::f32, Device::cpu);
  void operator()(Device device = Device::cpu) {
    static const NamedScope kFirst("first.0"), kSecond("first.1");
    Context& ctx = context(device);
    {
      const Scope scope(kFirst);
      outer(ctx, x, 1e-3, y);
    }
    {
      const Scope scope(ScopeState{&kSecond, true});
      half(ctx, x, 1e-3, y);
    }
    spend(5e-4);
    inner(ctx, x, 1e-3, y);
  }
};

std::vector<std::string> names(const Profile& profile) {
  std::vector<std::string> all;
  for (const ProfileRow& row : profile.rows)
    all.push_back(message("{}{} {}/{} {}", row.call.scope, row.call.backward ? "'" : "", row.call.slot,
                          row.call.variant, row.call.depth));
  return all;
}

// The simt device counts launches in every build: none here, for the work is done on the host.
TEST(Profiler, CountsLaunchesWhereTheDeviceDoes) {
  Work work;
  Profiler profiler(context(Device::simt));
  profiler.learn([&] { work(Device::simt); });
  profiler.measure([&] { work(Device::simt); });
  EXPECT_TRUE(profiler.launch_owners().empty());
  for (const ProfileRow& row : profiler.profile().rows) EXPECT_EQ(row.launches, 0);

  Tensor x = Tensor::zeros({6}, DType::f32, Device::simt), y = Tensor::zeros({6}, DType::f32, Device::simt);
  const auto twice = [&] {
    relu_forward(context(Device::simt), x, y);
    relu_forward(context(Device::simt), y, x);
  };
  profiler.learn(twice);
  profiler.measure(twice);
  EXPECT_THAT(profiler.launch_owners(), ElementsAre(0, 1));
  for (const ProfileRow& row : profiler.profile().rows) EXPECT_EQ(row.launches, 1);
}

TEST(Profiler, NamesCallsAndAddsUpToTheStep) {
  Work work;
  Profiler profiler(context(Device::cpu));
  profiler.learn(work);
  for (int i = 0; i < 9; ++i) profiler.measure(work);
  const Profile profile = profiler.profile();
  EXPECT_THAT(names(profile),
              ElementsAre("first.0 test_outer.forward/only 0", "first.0 test_inner.forward/only 1",
                          "first.1' test_half.forward/only 0", "first.1' test_inner.forward/only 1",
                          " test_inner.forward/only 0"));
  EXPECT_EQ(profile.passes, 9u);
  EXPECT_FALSE(profile.device_times);
  double sum = profile.outside_seconds;
  const double least[] = {1e-3, 2e-3, 1e-3, 2e-3, 1e-3};
  for (size_t i = 0; i < profile.rows.size(); ++i) {
    sum += profile.rows[i].seconds;
    EXPECT_GE(profile.rows[i].seconds, least[i]) << i;
    EXPECT_EQ(profile.rows[i].launches, -1) << i;
  }
  EXPECT_NEAR(sum, profile.step_seconds, 1e-9);
  EXPECT_GE(profile.outside_seconds, 5e-4);
  // Time of nested calls is theirs alone.
  for (const MeasuredPass& pass : profiler.passes())
    for (const size_t call : {0, 2})
      EXPECT_NEAR(pass.self_seconds[call] + pass.self_seconds[call + 1],
                  pass.calls[call].end - pass.calls[call].begin, 1e-12);
}

TEST(Profiler, WorkThatIsHandedDownCountsOnce) {
  Work work;
  Profiler profiler(context(Device::cpu));
  profiler.learn(work);
  std::vector<double> macs;
  for (const ProfileCall& call : profiler.calls()) macs.push_back(call.cost.macs);
  EXPECT_THAT(macs, ElementsAre(0, 6, 18, 6, 6));
  EXPECT_EQ(profiler.calls()[0].cost.bytes, 0);
  EXPECT_EQ(profiler.calls()[1].cost.bytes, 4 * (6 + 2));
  const auto& operands = profiler.calls()[1].operands;
  ASSERT_EQ(operands.size(), 2u);
  EXPECT_EQ(operands[0].shape, Shape{6});
  EXPECT_FALSE(operands[0].written);
  EXPECT_TRUE(operands[1].written);
}

TEST(Profiler, WatchesOnlyWhileItRuns) {
  Work work;
  Profiler profiler(context(Device::cpu));
  profiler.learn(work);
  profiler.measure(work);
  work();
  EXPECT_EQ(context(Device::cpu).observer(), nullptr);
  EXPECT_EQ(profiler.calls().size(), 5u);
  EXPECT_EQ(profiler.passes().size(), 1u);
  EXPECT_THROW(profiler.measure([] { throw Error("the pass failed"); }), Error);
  EXPECT_EQ(context(Device::cpu).observer(), nullptr);
  EXPECT_EQ(profiler.passes().size(), 1u);
}

TEST(Profiler, RefusesOtherPassesThanItLearnt) {
  Work work;
  Profiler profiler(context(Device::cpu));
  EXPECT_THROW(profiler.measure(work), Error);
  profiler.learn(work);
  const auto refused = [&](auto&& pass) {
    try {
      profiler.measure(pass);
      return std::string();
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::internal);
      return std::string(error.what());
    }
  };
  EXPECT_THAT(refused([] {}), HasSubstr("made 0 calls, not the 5"));
  EXPECT_THAT(refused([&] { work(), work(); }), HasSubstr("made 10 calls"));
  inner.prefer(Device::cpu, "other");
  EXPECT_NE(refused(work), "");
  inner.prefer(Device::cpu, "");
  EXPECT_EQ(refused(work), "");
}

// A device that tells of its kernels; what was pushed is attributed, also by replays that call nothing.
struct FakeTracer {
  static inline std::vector<int64_t> open;
  static inline std::vector<KernelActivity> kernels;
  static inline std::vector<std::string> ranges;
  static DeviceTracer open_tracer() {
    DeviceTracer tracer;
    tracer.start = [] { kernels.clear(); };
    tracer.stop = [] { return kernels; };
    tracer.push_call = [](int64_t call) { open.push_back(call); };
    tracer.pop_call = [] {
      launch(open.back(), 2e-6);
      open.pop_back();
    };
    tracer.push_range = [](const char* name) { ranges.emplace_back(name); };
    tracer.pop_range = [] {};
    return tracer;
  }
  FakeTracer() {
    open.clear(), kernels.clear(), ranges.clear();
    register_device_tracer(Device::simt, open_tracer);
  }
  ~FakeTracer() { register_device_tracer(Device::simt, nullptr); }
  static void launch(int64_t call, double seconds) {
    kernels.push_back({"kernel_" + std::to_string(call), call, 1e-6 * double(kernels.size()), seconds});
  }
};

TEST(Profiler, TakesTheTimesOfKernelsWhereADeviceTellsThem) {
  const FakeTracer tracer;
  Work work;
  Profiler profiler(context(Device::simt));
  profiler.learn([&] { work(Device::simt); });
  profiler.measure([&] { work(Device::simt); });
  EXPECT_THAT(FakeTracer::ranges, testing::Contains("first.0 test_outer.forward/only"));
  // A replay: nothing is called, the kernels run again, one of them in two parts, one of nobody's.
  for (int i = 0; i < 4; ++i)
    profiler.measure([] {
      for (const int64_t call : {0, 1, 2, 3, 4, 4, -1}) FakeTracer::launch(call, 3e-6);
    });
  const Profile profile = profiler.profile();
  EXPECT_TRUE(profile.device_times);
  EXPECT_EQ(profile.passes, 5u);
  for (size_t i = 0; i < 5; ++i) {  // the first pass, the longest by far, is left out
    EXPECT_NEAR(profile.rows[i].seconds, i == 4 ? 6e-6 : 3e-6, 1e-9) << i;
    EXPECT_NEAR(profile.rows[i].launches, i == 4 ? 2 : 1, 1e-9) << i;
  }
  const json trace = json::parse(chrome_trace(profiler, 1, "fake", "work"));
  int device_events = 0;
  for (const json& event : trace["traceEvents"])
    if (event["ph"] == "X" && event["pid"] == 2) ++device_events;
  EXPECT_EQ(device_events, 7);
}

// Perfetto draws events of a lane on top of each other: any two must be apart or one inside the other.
void expect_nested(const json& events) {
  const double slack = 1e-3;  // microseconds, of rounding
  for (const json& a : events)
    for (const json& b : events) {
      if (a["ph"] != "X" || b["ph"] != "X" || a["pid"] != b["pid"]) continue;
      const double a0 = a["ts"], a1 = a0 + a["dur"].get<double>();
      const double b0 = b["ts"], b1 = b0 + b["dur"].get<double>();
      const bool apart = a1 <= b0 + slack || b1 <= a0 + slack;
      const bool inside = (a0 >= b0 - slack && a1 <= b1 + slack) || (b0 >= a0 - slack && b1 <= a1 + slack);
      EXPECT_TRUE(apart || inside) << a << "\n" << b;
    }
}

TEST(Trace, HasHostAndDeviceLanesThatNest) {
  Work work;
  Profiler profiler(context(Device::cpu));
  profiler.learn(work);
  for (int i = 0; i < 3; ++i) profiler.measure(work);
  const json trace = json::parse(chrome_trace(profiler, 2, "cpu", "work"));
  const json& events = trace["traceEvents"];
  expect_nested(events);
  std::map<std::string, int> host, device;
  for (const json& event : events)
    if (event["ph"] == "X") ++(event["pid"] == 1 ? host : device)[event["name"]];
  EXPECT_EQ(host["work"], 2);
  EXPECT_EQ(host["first"], 2);
  EXPECT_EQ(host["first.0"], 2);
  EXPECT_EQ(host["first.1 (backward)"], 2);
  EXPECT_EQ(host["test_inner.forward"], 6);
  EXPECT_EQ(device["test_inner.forward/only"], 6);
  EXPECT_EQ(events[4]["ts"], 0.0);
  EXPECT_EQ(events[4]["name"], "work");
}

TEST(FasterHalf, LeavesOutWhatWasDisturbed) {
  EXPECT_THAT(faster_half({}), testing::IsEmpty());
  EXPECT_THAT(faster_half({3}), ElementsAre(0));
  EXPECT_THAT(faster_half({9, 1, 5}), ElementsAre(1, 2));
  EXPECT_THAT(faster_half({100, 4, 2, 50}), ElementsAre(2, 1));
}

TEST(Profiler, MeansAreOverTheChosenPasses) {
  Work work;
  Profiler profiler(context(Device::cpu));
  profiler.learn(work);
  for (int i = 0; i < 4; ++i) profiler.measure(work);
  const auto& passes = profiler.passes();
  const Profile profile = profiler.profile({0, 3});
  EXPECT_DOUBLE_EQ(profile.step_seconds, (passes[0].seconds + passes[3].seconds) / 2);
  EXPECT_DOUBLE_EQ(profile.rows[1].seconds, (passes[0].self_seconds[1] + passes[3].self_seconds[1]) / 2);
  EXPECT_EQ(profile.passes, 4u);
  EXPECT_THROW(profiler.profile({4}), std::out_of_range);
}

}  // namespace
}  // namespace plume::profiler_test
