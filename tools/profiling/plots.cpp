#include "tools/profiling/plots.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "tools/pictures/svg.h"
#include "tools/profiling/text.h"

namespace plume::tools {
namespace {

constexpr const char *kGrid = "#e6e8ee", *kFaint = "#6b7280", *kRoof = "#1f2430";

// Tol's bright and muted schemes: told apart with every kind of colour vision.
const char* colour(CallClass kind) {
  switch (kind) {
    case CallClass::dense:
      return "#4477aa";
    case CallClass::pointwise:
      return "#66ccee";
    case CallClass::depthwise:
      return "#ee6677";
    case CallClass::linear:
      return "#228833";
    case CallClass::fused:
      return "#aa3377";
    case CallClass::batch_norm:
      return "#ccbb44";
    case CallClass::squeeze_excitation:
      return "#ee8866";
    case CallClass::activation:
      return "#999933";
    case CallClass::pooling:
      return "#44aa99";
    case CallClass::loss:
      return "#882255";
    case CallClass::optimizer:
      return "#332288";
    default:
      return "#bbbbbb";
  }
}

// Several small marks and words in a row, broken into lines; returns where the last line ends.
double legend(Svg& svg, double x, double y, double width, const std::set<CallClass>& kinds) {
  constexpr double kMark = 10, kCharacter = 6.6, kGap = 30, kLine = 18;
  double place = x;
  for (const CallClass kind : kinds) {
    const std::string text = label(kind);
    const double wide = kGap + kCharacter * double(text.size());
    if (place + wide > x + width) place = x, y += kLine;
    svg.rectangle(place, y - kMark + 1, kMark, kMark, {.fill = colour(kind)});
    svg.text(place + kMark + 5, y, text, {.fill = kFaint});
    place += wide;
  }
  return y;
}

void heading(Svg& svg, double x, const std::string& title, const ProfileReport& report) {
  svg.text(x, 30, title, {.size = 18, .bold = true});
  svg.text(x, 50,
           fmt::format("{}; {}; step {:.3f} ms", describe(report.request), report.machine,
                       report.profile.step_seconds * 1e3),
           {.size = 12, .fill = kFaint});
}

struct Dot {
  std::string name;
  CallClass kind;
  ProfileSum sum;
};

// Calls of one slot in one layer are one dot.
std::vector<Dot> dots_of(const Profile& profile, const Ceilings& ceilings) {
  std::vector<Dot> dots;
  for (const ProfileRow& row : profile.rows) {
    constexpr double kLeastIntensity = 0.02;  // below, the few multiply-adds do not matter
    if (row.seconds <= 0 || 2 * row.call.cost.macs <= kLeastIntensity * row.call.cost.bytes) continue;
    const std::string name = layer_label(row.call.scope) + "  " + operation_label(row.call);
    auto dot = std::find_if(dots.begin(), dots.end(), [&](const Dot& d) { return d.name == name; });
    if (dot == dots.end()) dot = dots.insert(dot, {name, row.call.cost.kind, {}});
    dot->sum.add(row, ceilings);
  }
  return dots;
}

double power_below(double value) { return std::pow(10.0, std::floor(std::log10(value))); }
double power_above(double value) { return std::pow(10.0, std::ceil(std::log10(value))); }

}  // namespace

void check_roofline(const ProfileRequest& request, const Ceilings& ceilings) {
  PLUME_CHECK(ceilings.copy_bytes_per_second > 0 && ceilings.flops_per_second.contains(request.dtype),
              "--svg: a roofline needs the machine's ceilings, which are not known for {} on {}",
              request.dtype, request.device);
}

std::string roofline_svg(const ProfileReport& report, const Ceilings& ceilings) {
  check_roofline(report.request, ceilings);
  const double peak = ceilings.flops_per_second.at(report.request.dtype),
               bandwidth = ceilings.copy_bytes_per_second;
  const std::vector<Dot> dots = dots_of(report.profile, ceilings);
  double least_x = peak / bandwidth / 4, most_x = peak / bandwidth * 4, least_y = peak / 100,
         most_y = peak * 1.5;
  double plotted = 0;
  for (const Dot& dot : dots) {
    const double x = 2 * dot.sum.macs / dot.sum.bytes, y = 2 * dot.sum.macs / dot.sum.seconds;
    least_x = std::min(least_x, x), most_x = std::max(most_x, x);
    least_y = std::min(least_y, y), most_y = std::max(most_y, y);
    plotted += dot.sum.seconds;
  }

  constexpr double kWidth = 980, kHeight = 640, kLeft = 86, kRight = 950, kTop = 110, kBottom = 540;
  Svg svg(kWidth, kHeight);
  const Axis x(power_below(least_x), power_above(most_x), kLeft, kRight, true);
  const Axis y(power_below(least_y), power_above(most_y), kBottom, kTop, true);
  heading(svg, kLeft, "Roofline", report);
  for (const double tick : x.ticks()) {
    svg.line(x(tick), kTop, x(tick), kBottom, {.stroke = kGrid});
    svg.text(x(tick), kBottom + 18, short_number(tick), {.anchor = Anchor::middle, .fill = kFaint});
  }
  for (const double tick : y.ticks()) {
    svg.line(kLeft, y(tick), kRight, y(tick), {.stroke = kGrid});
    svg.text(kLeft - 8, y(tick) + 4, short_number(tick), {.anchor = Anchor::end, .fill = kFaint});
  }
  svg.text((kLeft + kRight) / 2, kBottom + 40, "FLOPs per byte (each operand moved once)",
           {.anchor = Anchor::middle});
  svg.text(24, (kTop + kBottom) / 2, "FLOP/s", {.anchor = Anchor::middle, .degrees = -90});

  // The roofs: bandwidth times intensity until it meets the peak, from where the page lets it begin.
  const double ridge = peak / bandwidth, first = std::max(x.first(), y.first() / bandwidth);
  svg.path({{x(first), y(first * bandwidth)}, {x(ridge), y(peak)}, {x(x.last()), y(peak)}},
           {.stroke = kRoof, .stroke_width = 2});

  std::set<CallClass> kinds;
  std::vector<const Dot*> order;  // large ones behind
  for (const Dot& dot : dots) order.push_back(&dot);
  std::stable_sort(order.begin(), order.end(),
                   [](const Dot* a, const Dot* b) { return a->sum.seconds > b->sum.seconds; });
  for (const Dot* dot : order) {
    kinds.insert(dot->kind);
    const ProfileSum& s = dot->sum;
    const double share = s.seconds / report.profile.step_seconds;
    const double at_x = x(2 * s.macs / s.bytes), at_y = y(2 * s.macs / s.seconds);
    constexpr double kSmallest = 3.5, kWholeStep = 40;
    svg.circle(at_x, at_y, std::hypot(kSmallest, kWholeStep * std::sqrt(share)),
               {.fill = colour(dot->kind), .stroke = "#ffffff", .opacity = 0.85},
               fmt::format("{}\n{:.1f} us, {:.1f} % of the step\n{}FLOP/s, {}B/s\n{:.0f} % of the limit",
                           dot->name, s.seconds * 1e6, share * 100, short_number(2 * s.macs / s.seconds),
                           short_number(s.bytes / s.seconds), s.least_seconds / s.seconds * 100));
  }

  svg.text(kRight - 4, y(peak) - 8,
           fmt::format("{} {} {}FLOP/s", is_host(report.request.device) ? "multiply-adds" : "matrix products",
                       name(report.request.dtype), short_number(peak)),
           {.anchor = Anchor::end, .bold = true, .halo = true});
  const double slope = std::atan2(y(first * bandwidth) - y(first * bandwidth * 10), x(first * 10) - x(first));
  const double middle = std::sqrt(first * ridge), angle = -slope * 180 / std::acos(-1.0);
  svg.text(x(middle) - 8, y(middle * bandwidth) - 8, fmt::format("copy {}B/s", short_number(bandwidth)),
           {.anchor = Anchor::middle, .bold = true, .halo = true, .degrees = angle});

  legend(svg, kLeft, 80, kRight - kLeft, kinds);
  svg.text(kLeft, kHeight - 22,
           fmt::format("Area: share of the step. Dots hold {:.0f} % of it; the rest has hardly any "
                       "multiply-adds. Caches can "
                       "lift a dot over the slope.",
                       plotted / report.profile.step_seconds * 100),
           {.size = 11, .fill = kFaint});
  return svg.document();
}

std::string layers_svg(const ProfileReport& report, const Ceilings& ceilings) {
  const std::vector<LayerSum> layers = sums_by_layer(report.profile, ceilings);
  std::set<CallClass> kinds;
  double longest = report.profile.outside_seconds;
  for (const LayerSum& layer : layers) {
    longest = std::max(longest, layer.sum.seconds);
    for (const auto& [part, seconds] : layer.seconds) kinds.insert(part.first);
  }
  constexpr double kWidth = 980, kLeft = 230, kRight = 860, kRow = 16, kBar = 12;
  Svg measure(kWidth, 0);  // how many lines the legend takes
  const double top = legend(measure, 24, 80, kWidth - 48, kinds) + 36;
  const double bottom = top + kRow * double(layers.size() + 1);
  Svg svg(kWidth, bottom + 60);
  heading(svg, 24, "Time by layer", report);
  legend(svg, 24, 80, kWidth - 48, kinds);
  const Axis x(0, std::max(longest, 1e-9) * 1e6 * 1.02, kLeft, kRight, false);
  for (const double tick : x.ticks()) {
    svg.line(x(tick), top - 6, x(tick), bottom + 2, {.stroke = kGrid});
    svg.text(x(tick), bottom + 18, short_number(tick), {.anchor = Anchor::middle, .fill = kFaint});
  }
  svg.text((kLeft + kRight) / 2, bottom + 40, "microseconds", {.anchor = Anchor::middle});

  double y = top;
  const auto row = [&](const std::string& name, double seconds) {
    svg.text(kLeft - 8, y + kBar - 2, name, {.size = 11, .anchor = Anchor::end});
    svg.text(x(seconds * 1e6) + 6, y + kBar - 2,
             fmt::format("{} ({:.1f} %)", short_number(seconds * 1e6),
                         seconds / report.profile.step_seconds * 100),
             {.size = 10, .fill = kFaint});
    y += kRow;
  };
  for (const LayerSum& layer : layers) {
    double done = 0;
    for (const auto& [part, seconds] : layer.seconds) {
      const auto [kind, backward] = part;
      const double from = x(done * 1e6), to = x((done + seconds) * 1e6);
      svg.rectangle(from, y, std::max(to - from, 0.0), kBar,
                    {.fill = colour(kind), .opacity = backward ? 0.6 : 1},
                    fmt::format("{}\n{}{}: {:.1f} us", layer_label(layer.scope), label(kind),
                                backward ? ", backward" : "", seconds * 1e6));
      done += seconds;
    }
    row(layer_label(layer.scope), layer.sum.seconds);
  }
  const double outside = std::max(report.profile.outside_seconds, 0.0);
  svg.rectangle(x(0), y, x(outside * 1e6) - x(0), kBar, {.fill = "#d8dbe2"}, "outside operations");
  row("outside operations", outside);
  return svg.document();
}

}  // namespace plume::tools
