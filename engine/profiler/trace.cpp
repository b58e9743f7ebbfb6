#include "engine/profiler/trace.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <string_view>

namespace plume {
namespace {

using nlohmann::ordered_json;

enum Lane : int { kHost = 1, kDevice = 2 };

class Writer {
 public:
  void name_lane(Lane lane, const std::string& name) {
    for (const char* what : {"process_name", "thread_name"})
      events_.push_back(
          {{"name", what}, {"ph", "M"}, {"pid", int(lane)}, {"tid", 1}, {"args", {{"name", name}}}});
  }
  void event(Lane lane, const std::string& category, const std::string& name, double start, double seconds,
             ordered_json args) {
    events_.push_back({{"name", name},
                       {"cat", category},
                       {"ph", "X"},
                       {"pid", int(lane)},
                       {"tid", 1},
                       {"ts", start * 1e6},
                       {"dur", seconds * 1e6},
                       {"args", std::move(args)}});
  }
  std::string text() const {
    return ordered_json{{"displayTimeUnit", "ms"}, {"traceEvents", events_}}.dump() + "\n";
  }

 private:
  ordered_json events_ = ordered_json::array();
};

std::vector<std::string> parts(const std::string& scope) {
  std::vector<std::string> found;
  for (size_t first = 0; first < scope.size();) {
    const size_t dot = std::min(scope.find('.', first), scope.size());
    found.push_back(scope.substr(first, dot - first));
    first = dot + 1;
  }
  return found;
}

// Modules from the scopes of consecutive calls: one stays open while the next call is within it.
class ModuleSpans {
 public:
  ModuleSpans(Writer& writer, double origin) : writer_(writer), origin_(origin) {}
  void call(const ProfileCall& call, const CallInterval& interval) {
    const std::vector<std::string> path = parts(call.scope);
    size_t common = 0;
    while (common < open_.size() && common < path.size() && open_[common].part == path[common] &&
           open_[common].backward == call.backward)
      ++common;
    close(common);
    for (size_t i = common; i < path.size(); ++i)
      open_.push_back({path[i], i == 0 ? path[i] : open_.back().name + "." + path[i], call.backward,
                       interval.begin, interval.end});
    for (Span& span : open_) span.end = std::max(span.end, interval.end);
  }
  void close(size_t kept = 0) {
    for (; open_.size() > kept; open_.pop_back()) {
      const Span& span = open_.back();
      writer_.event(kHost, "module", span.backward ? span.name + " (backward)" : span.name,
                    origin_ + span.begin, span.end - span.begin, ordered_json::object());
    }
  }

 private:
  struct Span {
    std::string part, name;
    bool backward;
    double begin, end;
  };
  Writer& writer_;
  double origin_;
  std::vector<Span> open_;
};

std::string shape_text(const ProfileOperand& operand) {
  return message("{}{}", name(operand.dtype), operand.shape);
}

ordered_json arguments(const ProfileCall& call) {
  ordered_json operands = ordered_json::array();
  for (const ProfileOperand& o : call.operands) operands.push_back(shape_text(o));
  return {{"scope", call.scope},
          {"variant", call.variant},
          {"macs", call.cost.macs},
          {"bytes", call.cost.bytes},
          {"operands", operands}};
}

}  // namespace

std::string chrome_trace(const Profiler& profiler, size_t passes, const std::string& device,
                         const std::string& what) {
  Writer writer;
  writer.name_lane(kHost, "host");
  writer.name_lane(kDevice, "device: " + device);
  const std::vector<MeasuredPass>& all = profiler.passes();
  const std::vector<ProfileCall>& calls = profiler.calls();
  const size_t first = all.size() - std::min(passes, all.size());
  const double origin = first < all.size() ? all[first].start : 0;
  for (size_t p = first; p < all.size(); ++p) {
    const MeasuredPass& pass = all[p];
    const double start = pass.start - origin;
    writer.event(kHost, "pass", what, start, pass.seconds, {{"pass", p}});
    ModuleSpans modules(writer, start);
    for (size_t i = 0; i < pass.calls.size(); ++i) {
      const CallInterval& interval = pass.calls[i];
      if (calls[i].depth == 0) modules.call(calls[i], interval);
      writer.event(kHost, name(calls[i].cost.kind), calls[i].slot, start + interval.begin,
                   interval.end - interval.begin, arguments(calls[i]));
      if (pass.kernels.empty())
        writer.event(kDevice, name(calls[i].cost.kind), message("{}/{}", calls[i].slot, calls[i].variant),
                     start + interval.begin, interval.end - interval.begin, arguments(calls[i]));
    }
    modules.close();
    for (const KernelActivity& k : pass.kernels) {
      const bool known = k.call >= 0 && size_t(k.call) < calls.size();
      writer.event(kDevice, known ? name(calls[size_t(k.call)].cost.kind) : "other", k.kernel,
                   start + k.start, k.seconds,
                   known ? arguments(calls[size_t(k.call)]) : ordered_json::object());
    }
  }
  return writer.text();
}

}  // namespace plume
