#include "tools/profiling/text.h"

#include <fmt/core.h>

#include <algorithm>
#include <numeric>

#include "engine/profiler/device_tracer.h"
#include "tools/profiling/units.h"

namespace plume::tools {
namespace {

// Nothing rather than a zero that would be read as one.
std::string number(double value, int width, int decimals) {
  if (value <= 0) return fmt::format("{:>{}}", "-", width);
  return fmt::format("{:>{}.{}f}", value, width, decimals);
}
std::string percent(double share, int width) { return number(share * kPercent, width, 1); }

std::string clipped(const std::string& text, size_t width) {
  if (text.size() <= width) return text;
  return fmt::format("{}~", text.substr(0, width - 1));
}

std::string with_separators(int64_t value) {
  std::string text = std::to_string(value);
  for (int place = int(text.size()) - 3; place > 0; place -= 3) text.insert(text.begin() + place, ',');
  return text;
}

void print_line(const std::string& line) { std::printf("%s\n", line.c_str()); }

void print_classes(const ProfileReport& report, const Ceilings& ceilings) {
  const Profile& profile = report.profile;
  const bool launches = tools::launches(profile) >= 0;
  print_line(fmt::format("\n{:<20} {:>6} {:>10} {:>6} {:>11} {:>9} {:>7} {:>9} {:>7}{}", "class", "calls",
                         "ms", "%step", "MMACs", "MB", "GB/s", "GFLOP/s", "%limit",
                         launches ? " launches" : ""));
  const auto sums = sums_by_class(profile, ceilings);
  std::vector<CallClass> order;
  for (const auto& [kind, sum] : sums) order.push_back(kind);
  std::sort(order.begin(), order.end(),
            [&](CallClass a, CallClass b) { return sums.at(a).seconds > sums.at(b).seconds; });
  ProfileSum all;
  const auto line = [&](const char* name, const ProfileSum& s) {
    print_line(fmt::format("{:<20} {:>6} {:>10.3f} {:>6} {} {} {} {} {}{}", name, s.calls, s.seconds * kMilli,
                           percent(s.seconds / profile.step_seconds, 6), number(s.macs * kMillion, 11, 2),
                           number(s.bytes * kMillion, 9, 2), number(s.bytes / s.seconds * kGiga, 7, 1),
                           number(2 * s.macs / s.seconds * kGiga, 9, 1),
                           percent(s.limited_seconds > 0 ? s.least_seconds / s.limited_seconds : 0, 7),
                           launches ? fmt::format(" {:>8.0f}", s.launches) : ""));
  };
  for (const CallClass kind : order) line(label(kind), sums.at(kind));
  for (const ProfileRow& row : profile.rows) all.add(row, ceilings);
  print_line(fmt::format("{:<20} {:>6} {:>10.3f} {:>6}", "outside operations", "",
                         profile.outside_seconds * kMilli,
                         percent(profile.outside_seconds / profile.step_seconds, 6)));
  all.seconds = profile.step_seconds;
  line("step", all);
}

std::string row_header(bool launches) {
  return fmt::format("{:<23} {:<31} {:<21} {:>9} {:>5} {:>8} {:>6} {:>6} {:>6} {:>6}{}", "layer",
                     "operation/variant", "shapes", "us", "%step", "MMACs", "MB", "GB/s", "GF/s", "%limit",
                     launches ? "  n" : "");
}

std::string row_line(const ProfileRow& row, const ProfileReport& report, const Ceilings& ceilings) {
  const Achieved got = achieved(row.call.cost, row.seconds, row.call.dtype(), ceilings);
  const std::string layer = fmt::format("{:{}}{}", "", 2 * row.call.depth, layer_label(row.call.scope));
  return fmt::format("{:<23} {:<31} {:<21} {:>9.1f} {} {} {} {} {} {}{}", clipped(layer, 23),
                     clipped(operation_label(row.call), 31),
                     clipped(shape_label(row.call, report.request.workload.batch), 21), row.seconds * kMicro,
                     percent(row.seconds / report.profile.step_seconds, 5),
                     number(row.call.cost.macs * kMillion, 8, 2),
                     number(row.call.cost.bytes * kMillion, 6, 2), number(got.bytes_per_second * kGiga, 6, 1),
                     number(got.flops_per_second * kGiga, 6, 1), percent(got.share_of_limit, 6),
                     row.launches >= 0 ? fmt::format(" {:>2.0f}", row.launches) : "");
}

// Sectors and wavefronts over what the same bytes would need, at best 1.
std::string excess(double found, double ideal, int width) {
  return number(ideal > 0 ? found / ideal : 0, width, 2);
}

std::string predicted_header() {
  return fmt::format("{:<19} {:<25} {:<18} {:>8} {:>5} {:>3} {:>6} {:>6} {:>6} {:>4} {}", "layer",
                     "operation/variant", "shapes", "us", "%step", "n", "%limit", "sect/i", "wave/i", "%occ",
                     "bound, next");
}

std::string predicted_line(const ProfileRow& row, const RowPrediction& p, const ProfileReport& report,
                           const Ceilings& ceilings) {
  const Achieved got = achieved(row.call.cost, row.seconds, row.call.dtype(), ceilings);
  const std::string layer = fmt::format("{:{}}{}", "", 2 * row.call.depth, layer_label(row.call.scope));
  const KernelCounts& c = p.counts;
  return fmt::format("{:<19} {:<25} {:<18} {:>8.1f} {} {:>3.0f} {} {} {} {} {}", clipped(layer, 19),
                     clipped(operation_label(row.call), 25),
                     clipped(shape_label(row.call, report.request.workload.batch), 18), row.seconds * kMicro,
                     percent(row.seconds / report.profile.step_seconds, 5), row.launches,
                     percent(got.share_of_limit, 6), excess(c.sectors, c.ideal_sectors, 6),
                     excess(c.wavefronts, c.ideal_wavefronts, 6), number(p.occupancy * kPercent, 4, 0),
                     row.launches > 0 ? fmt::format("{}, {}", name(p.bound), name(p.second)) : "");
}

// A call with those nested in it: what other variants may be made of.
struct ComparedCall {
  double seconds = 0, low = 0, high = 0, longest = 0;
  Bound bound{};  // of the longest
};
ComparedCall with_nested(const ProfileReport& report, size_t call) {
  const std::vector<ProfileRow>& rows = report.profile.rows;
  ComparedCall sum;
  for (size_t i = call; i < rows.size() && (i == call || rows[i].call.depth > rows[call].call.depth); ++i) {
    sum.seconds += rows[i].seconds;
    if (report.predictions.empty()) continue;
    const RowPrediction& p = report.predictions[i];
    sum.low += p.low, sum.high += p.high;
    if (rows[i].seconds > sum.longest) sum.longest = rows[i].seconds, sum.bound = p.bound;
  }
  return sum;
}

}  // namespace

const char* label(CallClass kind) {
  switch (kind) {
    case CallClass::pointwise:
      return "1x1";
    case CallClass::fused:
      return "fused blocks";
    case CallClass::batch_norm:
      return "batch norm";
    case CallClass::squeeze_excitation:
      return "squeeze-excitation";
    default:
      return name(kind);
  }
}

std::string layer_label(const std::string& scope) { return scope.empty() ? "(network)" : scope; }

std::string operation_label(const ProfileCall& call) {
  std::string slot = call.slot;
  constexpr std::string_view kForward = ".forward";
  if (slot.ends_with(kForward)) slot.resize(slot.size() - kForward.size());
  return fmt::format("{}/{}", slot, call.variant);
}

std::string shape_label(const ProfileCall& call, int64_t batch) {
  const auto text = [&](const Shape& shape) {
    std::string extents;
    const bool skip = shape.rank() > 1 && shape[0] == batch;
    for (int i = skip ? 1 : 0; i < shape.rank(); ++i)
      extents += fmt::format("{}{}", extents.empty() ? "" : "x", shape[i]);
    return extents.empty() ? std::string("1") : extents;
  };
  const ProfileOperand *from = nullptr, *to = nullptr;
  for (const ProfileOperand& o : call.operands) {
    if (!o.written && !from) from = &o;
    if (o.written && (!to || o.shape.elements() > to->shape.elements())) to = &o;
  }
  if (call.cost.kind == CallClass::optimizer) return std::to_string(call.operands.size()) + " tensors";
  if (!from || !to) return to ? text(to->shape) : std::string();
  return fmt::format("{}>{}", text(from->shape), text(to->shape));
}

std::string describe(const ProfileRequest& r) {
  const char* mode = r.workload.training ? "training step"
                     : r.options.fuse    ? "inference"
                                         : "inference, unfused";
  return fmt::format("{}, {}, {}x{}, batch {}, {} on {}{}", r.model, mode, r.workload.size, r.workload.size,
                     r.workload.batch, name(r.dtype), name(r.device), r.options.graph ? ", graph" : "");
}

void print_ceilings(const Ceilings& ceilings, const std::string& machine, Device device) {
  print_line(machine);
  if (ceilings.copy_bytes_per_second <= 0) {
    print_line("ceilings  not measured");
    return;
  }
  std::string line = fmt::format("ceilings  copy {:.1f} GB/s", ceilings.copy_bytes_per_second * kGiga);
  for (const auto& [dtype, flops] : ceilings.flops_per_second)
    line += fmt::format("; {} {} {:.0f} GFLOP/s, balanced at {:.1f} FLOP/byte",
                        is_host(device) ? "multiply-adds" : "matrix products", name(dtype), flops * kGiga,
                        flops / ceilings.copy_bytes_per_second);
  print_line(line);
}

void print_report(const ProfileReport& report, const Ceilings& ceilings, size_t most) {
  const Profile& profile = report.profile;
  print_line(fmt::format("\n{}", describe(report.request)));
  print_line(fmt::format("network   {} parameters, {} multiply-adds per image",
                         with_separators(report.parameters), with_separators(report.macs_per_image)));
  const bool predicted = !report.predictions.empty();
  if (predicted)
    print_line(
        fmt::format("step      {:.3f} ms predicted ({:.2f} to {:.2f}), {:.0f} images/s; never measured",
                    profile.step_seconds * kMilli, report.low_seconds * kMilli, report.high_seconds * kMilli,
                    double(report.request.workload.batch) / profile.step_seconds));
  if (predicted && report.unknown_registers > 0)
    print_line(
        fmt::format("          the registers of {} launches are not known (--registers): their occupancy "
                    "is a guess",
                    report.unknown_registers));
  if (!predicted)
    print_line(
        fmt::format("step      {:.3f} ms watched, {:.3f} ms alone (ratio {:.3f}), {:.0f} images/s; faster "
                    "half of {} turns",
                    profile.step_seconds * kMilli, report.alone_seconds * kMilli,
                    profile.step_seconds / report.alone_seconds,
                    double(report.request.workload.batch) / report.alone_seconds, profile.passes));
  if (profile.waits_around_calls)
    print_line(fmt::format(
        "          no CUPTI ({}): the device is waited for around every call, so the step takes longer",
        device_tracer(report.request.device).missing));
  std::string memory = fmt::format("memory    peak {:.1f} MB", double(report.memory.peak) * kMillion);
  for (const auto& [tag, bytes] : report.memory.peak_by_tag)
    if (bytes > 0) memory += fmt::format(", {} {:.1f}", tag, double(bytes) * kMillion);
  print_line(memory);
  print_classes(report, ceilings);

  std::vector<size_t> order(profile.rows.size());
  std::iota(order.begin(), order.end(), size_t{0});
  if (most > 0 && most < order.size()) {
    std::stable_sort(order.begin(), order.end(),
                     [&](size_t a, size_t b) { return profile.rows[a].seconds > profile.rows[b].seconds; });
    order.resize(most);
    print_line(
        fmt::format("\nslowest {} of {} calls (--all shows every one, in order)", most, profile.rows.size()));
  } else {
    print_line("");
  }
  print_line(predicted ? predicted_header() : row_header(launches(profile) >= 0));
  double shown = 0;
  for (const size_t i : order) {
    const ProfileRow& row = profile.rows[i];
    print_line(predicted ? predicted_line(row, report.predictions[i], report, ceilings)
                         : row_line(row, report, ceilings));
    shown += profile.rows[i].seconds;
  }
  print_line(fmt::format("{:<{}} {:>9.1f} {}", order.size() < profile.rows.size() ? "these" : "all calls",
                         predicted ? 63 : 77, shown * kMicro, percent(shown / profile.step_seconds, 5)));
  for (const std::string& line : report.notes) print_line(fmt::format("note      {}", line));
}

void print_comparison(const ProfileReport& a, const ProfileReport& b, const std::string& slot) {
  const Profile &pa = a.profile, &pb = b.profile;
  const bool predicted = !a.predictions.empty();
  print_line(fmt::format("\n{}", describe(a.request)));
  if (predicted) print_line(fmt::format("predicted for {}; never measured", a.predicted_for));
  print_line(fmt::format("\n{:<26} {:<21} {:>16} {:>10} {:>16} {:>10} {:>8}{}", "layer", "shapes", "variant",
                         "us", "variant", "us", "ratio", predicted ? "  bounds; ranges" : ""));
  // Nested calls may differ between variants: the calls of the slot itself are the same, in order.
  const auto rows_of = [&](const Profile& p) {
    std::vector<size_t> rows;
    for (size_t i = 0; i < p.rows.size(); ++i)
      if (slot == p.rows[i].call.slot) rows.push_back(i);
    return rows;
  };
  const auto rows_a = rows_of(pa), rows_b = rows_of(pb);
  PLUME_CHECK(rows_a.size() == rows_b.size(),
              "compare: {} is called {} times with one variant, {} with the other", slot, rows_a.size(),
              rows_b.size());
  PLUME_CHECK(!rows_a.empty(), "compare: {} does not call {}", describe(a.request), slot);
  double sum_a = 0, sum_b = 0;
  for (size_t i = 0; i < rows_a.size(); ++i) {
    const ProfileCall &x = pa.rows[rows_a[i]].call, &y = pb.rows[rows_b[i]].call;
    const ComparedCall p = with_nested(a, rows_a[i]), q = with_nested(b, rows_b[i]);
    std::string reasons;
    if (predicted)
      reasons = fmt::format("  {}, {}{}", name(p.bound), name(q.bound),
                            p.low <= q.high && q.low <= p.high ? "; overlap" : "");
    print_line(fmt::format(
        "{:<26} {:<21} {:>16} {:>10.1f} {:>16} {:>10.1f} {:>8.2f}{}", clipped(layer_label(x.scope), 26),
        clipped(shape_label(x, a.request.workload.batch), 21), clipped(x.variant, 16), p.seconds * kMicro,
        clipped(y.variant, 16), q.seconds * kMicro, q.seconds / p.seconds, reasons));
    sum_a += p.seconds, sum_b += q.seconds;
  }
  const auto total = [&](const char* what, double x, double y) {
    print_line(
        fmt::format("{:<65} {:>10.1f} {:>16} {:>10.1f} {:>8.2f}", what, x * kMicro, "", y * kMicro, y / x));
  };
  total(slot.c_str(), sum_a, sum_b);
  total("step", a.alone_seconds, b.alone_seconds);
}

}  // namespace plume::tools
