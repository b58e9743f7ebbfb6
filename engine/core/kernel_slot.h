// A kernel slot: the one thing a device must supply so that an operation runs there.
//
// A slot is a function type plus, per device, a ladder of named variants. A call runs the first variant of
// the context's device that fits and pays, unless one was forced (--variant slot=name, PLUME_VARIANTS).
// Vendor libraries are variants like any other. Variants register themselves while their library is loaded:
//
//   const auto registered = relu_forward.add(Device::cpu, {{"loop", always, run_loop}});
#pragma once
#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

#include "engine/core/context.h"
#include "engine/core/error.h"
#include "engine/core/kernel_call.h"

namespace plume {

// The part of a slot that does not depend on its signature: names, counters and the forced variant.
class KernelSlotBase {
 public:
  static constexpr int kMaxVariants = 8;
  // Priorities: a variant for special cases that beats all others, a vendor library, our general ones.
  static constexpr int kSpecial = 20, kVendor = 10, kOwn = 0;

  const char* name() const { return name_; }
  int variant_count(Device device) const { return ladder(device).count; }
  const char* variant_name(Device device, int i) const { return ladder(device).names[size_t(i)]; }
  // How often variant i ran in this process; tests use it to prove that none is untested.
  uint64_t runs(Device device, int i) const { return ladder(device).runs[size_t(i)].load(); }

  // Only this variant may run on the device; empty lifts it. Throws when the device has no such variant.
  void force(Device device, std::string_view variant);
  const char* forced(Device device) const;  // null when none
  // This variant goes before all others where it fits; empty lifts it. Throws like force().
  void prefer(Device device, std::string_view variant);

  // Gives a device the variants of another one, but for names that it has: for a stand-in that lets one
  // device's kernels run for another (tests/cuda_host).
  virtual void adopt(Device device, Device from) = 0;

 protected:
  struct Ladder {
    std::array<const char*, kMaxVariants> names{};
    std::array<int, kMaxVariants> priorities{};
    std::array<std::atomic<uint64_t>, kMaxVariants> runs{};
    int count = 0;
    int forced = -1, preferred = -1;
  };

  explicit constexpr KernelSlotBase(const char* name) : name_(name) {}
  ~KernelSlotBase() = default;
  int insert(Device device, const char* variant, int priority);  // the place it got
  int place_of(Device device, std::string_view variant) const;   // throws usage
  const Ladder& ladder(Device device) const { return ladders_[size_t(device)]; }
  [[noreturn]] void no_variant(Device device) const;
  // The variants to try, in order: all, or the forced one.
  std::pair<int, int> range(Device device) const {
    const Ladder& l = ladder(device);
    return l.forced >= 0 ? std::pair{l.forced, l.forced + 1} : std::pair{0, l.count};
  }

  std::array<Ladder, kDeviceCount> ladders_{};

 private:
  const char* name_;
};

template <class Signature>
class KernelSlot;

template <class... Args>
class KernelSlot<void(Context&, Args...)> : public KernelSlotBase {
 public:
  struct Variant {
    const char* name;
    bool (*fits)(const Context&, Args...);
    void (*run)(Context&, Args...);
    // False where another variant that fits is faster: this one then runs if it is forced or preferred, or if
    // no other does. Null: it always pays.
    bool (*pays)(const Context&, Args...) = nullptr;
  };
  // What a call costs by its arguments.
  using CostRule = CallCost (*)(const std::remove_cvref_t<Args>&...);

  explicit constexpr KernelSlot(const char* name) : KernelSlotBase(name) {}
  constexpr KernelSlot(const char* name, CostRule rule) : KernelSlotBase(name), cost_rule_(rule) {}

  // Puts variants on the device's ladder, best first. Ladders are sorted by `priority`, highest first, since
  // the order in which files register is not defined. Returns true so that it can initialise a constant.
  bool add(Device device, std::initializer_list<Variant> variants, int priority = kOwn) {
    for (const Variant& v : variants) put(device, v, priority);
    return true;
  }

  void adopt(Device device, Device from) override {
    const Ladder& own = ladder(device);
    const Ladder& other = ladder(from);
    for (int i = 0; i < other.count; ++i) {
      const auto last = own.names.begin() + own.count;
      const bool known = std::any_of(own.names.begin(), last, [&](const char* name) {
        return std::string_view(name) == other.names[size_t(i)];
      });
      if (!known) put(device, variants_[size_t(from)][size_t(i)], other.priorities[size_t(i)]);
    }
  }

  // The variant that a call would run, or null.
  const char* choose(const Context& context, Args... args) const {
    const int i = find(context, std::forward<Args>(args)...);
    return i < 0 ? nullptr : variant_name(context.device(), i);
  }

  void operator()(Context& context, Args... args) {
    const Device device = context.device();
    const int i = find(context, args...);
    if (i < 0) no_variant(device);
    const Variant& v = variants_[size_t(device)][size_t(i)];
    ladders_[size_t(device)].runs[size_t(i)].fetch_add(1, std::memory_order_relaxed);
    if (LaunchObserver* observer = context.observer()) {
      const Call call(*this, v.name, args...);
      const Watch watch(*observer, call);
      v.run(context, args...);
    } else {
      v.run(context, args...);
    }
  }

  // By the slot's rule, with the bytes of the operands where the rule leaves them open.
  CallCost cost(const std::remove_cvref_t<Args>&... args) const {
    CallCost cost = cost_rule_ ? cost_rule_(args...) : CallCost{};
    if (cost.bytes >= 0) return cost;
    cost.bytes = 0;
    const auto add = [&](const Tensor& t) { cost.bytes += t.defined() ? double(t.bytes()) : 0.0; };
    (for_each_tensor(args, add), ...);
    return cost;
  }

 private:
  void put(Device device, const Variant& variant, int priority) {
    auto& table = variants_[size_t(device)];
    const int place = insert(device, variant.name, priority);
    std::move_backward(table.begin() + place, table.end() - 1, table.end());
    table[size_t(place)] = variant;
  }

  class Call final : public KernelCall {
   public:
    Call(const KernelSlot& home, const char* chosen, const std::remove_cvref_t<Args>&... args)
        : KernelCall(home.name(), chosen), home_(home), arguments_(args...) {}
    CallCost cost() const override {
      return std::apply([&](const auto&... args) { return home_.cost(args...); }, arguments_);
    }
    void for_each_operand(const std::function<void(const Tensor&, bool written)>& f) const override {
      const auto visit = [&](const auto& argument, bool written) {
        for_each_tensor(argument, [&](const Tensor& t) { f(t, written); });
      };
      std::apply([&](const auto&... args) { (visit(args, kWritten<Args>), ...); }, arguments_);
    }

   private:
    const KernelSlot& home_;
    std::tuple<const std::remove_cvref_t<Args>&...> arguments_;
  };
  class Watch {
   public:
    Watch(LaunchObserver& observer, const KernelCall& call) : observer_(observer), call_(call) {
      observer_.begin(call_);
    }
    ~Watch() { observer_.end(call_); }
    Watch(const Watch&) = delete;
    Watch& operator=(const Watch&) = delete;

   private:
    LaunchObserver& observer_;
    const KernelCall& call_;
  };
  template <class Arg>
  static constexpr bool kWritten =
      std::is_lvalue_reference_v<Arg> && !std::is_const_v<std::remove_reference_t<Arg>>;

  int find(const Context& context, Args... args) const {
    const Device device = context.device();
    const auto [first, last] = range(device);
    const auto& variants = variants_[size_t(device)];
    if (const int i = ladder(device).preferred; i >= first && i < last)
      if (variants[size_t(i)].fits(context, args...)) return i;
    int fallback = -1;
    for (int i = first; i < last; ++i) {
      const Variant& v = variants[size_t(i)];
      if (!v.fits(context, args...)) continue;
      if (!v.pays || v.pays(context, args...)) return i;
      if (fallback < 0) fallback = i;
    }
    return fallback;
  }

  CostRule cost_rule_ = nullptr;
  std::array<std::array<Variant, kMaxVariants>, kDeviceCount> variants_{};
};

// A `fits` for variants that take every argument.
template <class... Args>
bool always(const Context&, Args...) {
  return true;
}

// Every slot that has a variant, sorted by name.
std::vector<KernelSlotBase*> all_slots();
KernelSlotBase& find_slot(std::string_view name);  // throws usage, naming the nearest slot

// "conv2d.forward=implicit_gemm" forces a variant on every device that has it; "slot=" lifts it. Several are
// separated by commas. Throws usage on an unknown slot or variant.
void force_variants(std::string_view assignments);

}  // namespace plume
