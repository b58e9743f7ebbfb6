// Benchmarks of a slot, with the arguments that the networks give it.
//
//   const bool relu_registered = bench_slot<relu_forward>();
//
// The recorder puts a variant on top of each slot's ladder that fits while a Recording is alive. It notes the
// arguments and computes nothing, so that a whole training step of a large batch is walked in an instant.
// Every distinct call becomes one benchmark per variant that fits.
#pragma once
#include <algorithm>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <vector>

#include "bench/support/arguments.h"
#include "engine/core/kernel_slot.h"

namespace plume::bench {

// One variant with one set of arguments.
class OpCase {
 public:
  virtual ~OpCase() = default;
  virtual std::string name() const = 0;  // "conv2d.forward/onednn/f32[64,8,8,64]/..."
  virtual CallCost cost() const = 0;
  // Makes argument sets that together exceed `rotation_bytes`, and runs once.
  virtual void prepare(size_t rotation_bytes) = 0;
  virtual size_t sets() const = 0;
  virtual void run(size_t turn) = 0;  // enqueues the variant on set turn % sets()
  virtual void release() = 0;
  // Compares the variant with the device's first other one, or with the cpu device's plain loop. Returns what
  // it was compared with; empty when there is nothing else. Throws a numeric error when they differ.
  virtual std::string verify() = 0;
};

class OpBench {
 public:
  virtual ~OpBench() = default;
  virtual const KernelSlotBase& slot() const = 0;
  virtual void attach_recorder(Device device) = 0;
  virtual void derive(Device device) = 0;  // calls that follow from those of other slots
  virtual std::vector<std::unique_ptr<OpCase>> cases(Device device) const = 0;
};

std::vector<OpBench*>& op_benches();  // filled by bench_slot

// While one is alive, slots with a recorder note their arguments instead of computing.
class Recording {
 public:
  Recording();
  ~Recording();
  Recording(const Recording&) = delete;
  Recording& operator=(const Recording&) = delete;
  static bool active();
};

inline constexpr const char* kRecorder = "recorder";
inline constexpr int kRecorderPriority = 1000;

// Stands for the place of a constant filter's packed form in recorded arguments.
PackedFilter& any_packed_filter();

// Relative error that two correct variants may differ by.
double agreement(DType dtype);

template <class Signature>
class SlotBench;

template <class... Args>
class SlotBench<void(Context&, Args...)> : public OpBench {
 public:
  using Slot = KernelSlot<void(Context&, Args...)>;
  using Call = std::tuple<std::remove_cvref_t<Args>...>;

  // What an operation may say about itself.
  struct Rules {
    // Completes fresh arguments that cannot be random, e.g. indices.
    void (*complete)(Context&, std::remove_cvref_t<Args>&...) = nullptr;
    // For slots that networks do not call themselves: adds calls through note().
    void (*derive)(SlotBench&, Device) = nullptr;
    // Brings results that variants leave in different forms into one, to be compared.
    void (*conclude)(std::remove_cvref_t<Args>&...) = nullptr;
  };

  SlotBench(Slot& slot, void (*recorder)(Context&, Args...), const Rules& rules)
      : slot_(slot), recorder_(recorder), rules_(rules) {
    op_benches().push_back(this);
  }

  const KernelSlotBase& slot() const override { return slot_; }
  const std::vector<Call>& calls() const { return calls_; }

  void attach_recorder(Device device) override {
    if (slot_.variant_count(device) == 0) return;
    slot_.add(device, {{kRecorder, [](const Context&, Args...) { return Recording::active(); }, recorder_}},
              kRecorderPriority);
  }
  void derive(Device device) override {
    if (rules_.derive) rules_.derive(*this, device);
  }

  // Remembers a call, unless one like it is known. Small tensors are copied, for their contents may matter
  // (statistics, labels); of large ones the outline is kept.
  void note(Call call) {
    for_each_argument(call, [](auto& argument, bool) {
      for_each_packed(argument, [](PackedFilter*& packed) {
        if (packed) packed = &any_packed_filter();  // the network's own will be gone
      });
      for_each_tensor(argument, [](Tensor& t) {
        if (t.defined()) t = is_floating(t.dtype()) && t.rank() > 1 ? outline(t) : t.clone();
      });
    });
    if (known_.insert(text(call)).second) calls_.push_back(std::move(call));
  }

  // As if the slot had computed: later operations find sane statistics and valid indices.
  void record(Args... args) {
    note(Call(args...));
    const auto settle = [](auto& argument) {
      for_each_tensor(argument, [](Tensor& t) {
        if (!t.defined()) return;
        if (!is_floating(t.dtype()))
          t.fill_zero();
        else if (t.rank() <= 1 && t.dtype() == DType::f32)
          t.copy_from(Tensor::from(std::vector<float>(size_t(t.size()), 1.0f), t.shape()));
      });
    };
    (
        [&] {
          if constexpr (kWritten<Args>) settle(args);
        }(),
        ...);
  }

  std::vector<std::unique_ptr<OpCase>> cases(Device device) const override {
    std::vector<std::unique_ptr<OpCase>> all;
    for (const Call& call : calls_)
      for (const char* variant : fitting(call, device))
        all.push_back(std::make_unique<Case>(*this, call, device, variant));
    return all;
  }

 private:
  class Case;
  template <class Arg>
  static constexpr bool kWritten =
      std::is_lvalue_reference_v<Arg> && !std::is_const_v<std::remove_reference_t<Arg>>;

  // f(argument, written)
  template <class F>
  static void for_each_argument(Call& call, F&& f) {
    std::apply([&](auto&... argument) { (f(argument, kWritten<Args>), ...); }, call);
  }
  static std::string text(const Call& call) {
    std::string out;
    const auto append = [&](const std::string& part) {
      if (!out.empty()) out += '/';
      out += part;
    };
    std::apply([&](const auto&... argument) { (append(describe(argument)), ...); }, call);
    return out;
  }

  // The variants of the device that take these arguments.
  std::vector<const char*> fitting(const Call& call, Device device) const {
    std::vector<const char*> names;
    Call arguments = call;
    for (int i = 0; i < slot_.variant_count(device); ++i) {
      const char* variant = slot_.variant_name(device, i);
      if (std::string_view(variant) == kRecorder) continue;
      slot_.force(device, variant);
      std::apply(
          [&](auto&... argument) {
            if (slot_.choose(context(device), argument...)) names.push_back(variant);
          },
          arguments);
      slot_.force(device, "");
    }
    return names;
  }

  Slot& slot_;
  void (*recorder_)(Context&, Args...);
  Rules rules_;
  std::vector<Call> calls_;
  std::set<std::string> known_;
};

template <class... Args>
class SlotBench<void(Context&, Args...)>::Case : public OpCase {
 public:
  Case(const SlotBench& bench, const Call& call, Device device, const char* variant)
      : bench_(bench), call_(call), device_(device), variant_(variant) {}

  std::string name() const override {
    return message("{}/{}/{}", bench_.slot_.name(), variant_, text(call_));
  }

  CallCost cost() const override {
    return std::apply([&](const auto&... argument) { return bench_.slot_.cost(argument...); }, call_);
  }

  void prepare(size_t rotation_bytes) override {
    constexpr size_t kMostSets = 256;
    const size_t bytes = std::max<size_t>(size_t(cost().bytes), 1);
    const size_t count = std::min(rotation_bytes / bytes + 1, kMostSets);
    for (size_t i = 0; i < count; ++i) sets_.push_back(fresh(i, device_));
    // Every set whose filter is kept packs it now, not while time is taken.
    const size_t first_runs = sets_.front()->packed.empty() ? 1 : sets_.size();
    for (size_t i = 0; i < first_runs; ++i) run(i);
    context(device_).synchronize();
  }
  size_t sets() const override { return sets_.size(); }
  void run(size_t turn) override { execute(*sets_[turn % sets_.size()], device_, variant_); }
  void release() override { sets_.clear(); }

  std::string verify() override {
    const auto [other_device, other] = reference();
    if (!other) return {};
    // Separate arguments with the same contents: some operations update in place.
    const std::unique_ptr<Set> mine = fresh(0, device_), theirs = fresh(0, other_device);
    execute(*mine, device_, variant_);
    execute(*theirs, other_device, other);
    context(device_).synchronize();
    if (bench_.rules_.conclude)
      for (Set* set : {mine.get(), theirs.get()})
        std::apply([&](auto&... argument) { bench_.rules_.conclude(argument...); }, set->call);
    std::vector<Tensor> got = written(mine->call), want = written(theirs->call);
    const std::string with =
        other_device == device_ ? other : message("{} {}", plume::name(other_device), other);
    for (size_t i = 0; i < got.size(); ++i) {
      const double error = relative_error(got[i], want[i]);
      if (!(error <= agreement(coarsest_)))
        fail(ErrorKind::numeric, "{}: differs from {} by {} (relative, output {})", name(), with, error, i);
    }
    return with;
  }

 private:
  struct Set {
    Call call;
    std::vector<std::unique_ptr<PackedFilter>> packed;
  };

  void execute(Set& set, Device device, const char* variant) {
    bench_.slot_.force(device, variant);
    std::apply([&](auto&... argument) { bench_.slot_(context(device), argument...); }, set.call);
    bench_.slot_.force(device, "");
  }

  std::unique_ptr<Set> fresh(uint64_t seed, Device device) {
    auto set = std::make_unique<Set>(Set{call_, {}});
    uint64_t place = 0;
    for_each_argument(set->call, [&](auto& argument, bool) {
      for_each_packed(argument, [&](PackedFilter*& packed) {
        if (!packed) return;
        set->packed.push_back(std::make_unique<PackedFilter>());
        packed = set->packed.back().get();
      });
      for_each_tensor(argument, [&](Tensor& t) {
        if (!t.defined()) return;
        if (is_floating(t.dtype()) && t.dtype() != DType::f32) coarsest_ = t.dtype();
        t = materialise(t, seed * 16 + place++);
      });
    });
    if (bench_.rules_.complete)
      std::apply([&](auto&... argument) { bench_.rules_.complete(context(device_), argument...); },
                 set->call);
    context(device_).synchronize();
    if (device != device_)
      for_each_argument(set->call, [&](auto& argument, bool) {
        for_each_tensor(argument, [&](Tensor& t) {
          if (t.defined()) t = t.to(device);
        });
      });
    return set;
  }

  std::vector<Tensor> written(Call& call) const {
    std::vector<Tensor> tensors;
    for_each_argument(call, [&](auto& argument, bool is_written) {
      for_each_tensor(argument, [&](Tensor& t) {
        if (is_written && t.defined()) tensors.push_back(t);
      });
    });
    return tensors;
  }

  std::pair<Device, const char*> reference() const {
    const auto fitting = [&](Device device) -> const char* {
      for (const char* v : bench_.fitting(call_, device))
        if (device != device_ || std::string_view(v) != variant_) return v;
      return nullptr;
    };
    if (const char* other = fitting(device_)) return {device_, other};
    return {Device::cpu, device_ == Device::cpu ? nullptr : fitting(Device::cpu)};
  }

  const SlotBench& bench_;
  Call call_;
  Device device_;
  const char* variant_;
  std::vector<std::unique_ptr<Set>> sets_;
  DType coarsest_ = DType::f32;
};

namespace detail {

template <auto& kSlot, class Slot = std::remove_cvref_t<decltype(kSlot)>>
struct Home;
template <auto& kSlot, class... Args>
struct Home<kSlot, KernelSlot<void(Context&, Args...)>> {
  using Bench = SlotBench<void(Context&, Args...)>;
  static inline Bench* bench = nullptr;
  static void record(Context&, Args... args) { bench->record(args...); }
};

}  // namespace detail

template <auto& kSlot>
using BenchOf = typename detail::Home<kSlot>::Bench;

// Declares the benchmarks of a slot; once per slot, at namespace scope.
template <auto& kSlot>
bool bench_slot(const typename BenchOf<kSlot>::Rules& rules = {}) {
  using Home = detail::Home<kSlot>;
  static BenchOf<kSlot> bench(kSlot, Home::record, rules);
  Home::bench = &bench;
  return true;
}

// What was recorded for a slot.
template <auto& kSlot>
const auto& recorded_calls() {
  return detail::Home<kSlot>::bench->calls();
}

}  // namespace plume::bench
