#include "tools/pictures/svg.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>

#include "engine/core/error.h"

namespace plume::tools {
namespace {

std::string number(double value) {
  std::string text = fmt::format("{:.2f}", value);
  while (text.back() == '0') text.pop_back();
  if (text.back() == '.') text.pop_back();
  return text == "-0" ? "0" : text;
}

std::string attributes(const Svg::Style& s) {
  std::string text = fmt::format(" fill=\"{}\"", s.fill);
  if (s.stroke != "none")
    text += fmt::format(" stroke=\"{}\" stroke-width=\"{}\"", s.stroke, number(s.stroke_width));
  if (s.opacity < 1) text += fmt::format(" opacity=\"{}\"", number(s.opacity));
  if (!s.dash.empty()) text += fmt::format(" stroke-dasharray=\"{}\"", s.dash);
  return text;
}

}  // namespace

std::string escape_xml(std::string_view text) {
  std::string out;
  for (const char c : text) switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      default:
        out += c;
    }
  return out;
}

void Svg::element(const std::string& tag, std::string_view title) {
  if (title.empty())
    body_ += fmt::format("<{}/>\n", tag);
  else
    body_ +=
        fmt::format("<{}><title>{}</title></{}>\n", tag, escape_xml(title), tag.substr(0, tag.find(' ')));
}

void Svg::rectangle(double x, double y, double width, double height, const Style& style,
                    std::string_view title) {
  element(fmt::format("rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\"{}", number(x), number(y),
                      number(width), number(height), attributes(style)),
          title);
}

void Svg::circle(double x, double y, double radius, const Style& style, std::string_view title) {
  element(fmt::format("circle cx=\"{}\" cy=\"{}\" r=\"{}\"{}", number(x), number(y), number(radius),
                      attributes(style)),
          title);
}

void Svg::line(double x1, double y1, double x2, double y2, const Style& style) {
  element(fmt::format("line x1=\"{}\" y1=\"{}\" x2=\"{}\" y2=\"{}\"{}", number(x1), number(y1), number(x2),
                      number(y2), attributes(style)),
          {});
}

void Svg::path(const std::vector<std::pair<double, double>>& points, const Style& style,
               std::string_view title) {
  std::string places;
  for (const auto& [x, y] : points)
    places += fmt::format("{}{},{}", places.empty() ? "" : " ", number(x), number(y));
  element(fmt::format("polyline points=\"{}\" stroke-linejoin=\"round\"{}", places, attributes(style)),
          title);
}

void Svg::text(double x, double y, std::string_view text, const TextStyle& s) {
  constexpr const char* kHalo =
      " paint-order=\"stroke\" stroke=\"#ffffff\" stroke-width=\"4\" stroke-opacity=\"0.85\"";
  constexpr const char* kAnchors[] = {"start", "middle", "end"};
  std::string turn;
  if (s.degrees != 0)
    turn = fmt::format(" transform=\"rotate({} {} {})\"", number(s.degrees), number(x), number(y));
  body_ +=
      fmt::format("<text x=\"{}\" y=\"{}\" font-size=\"{}\" text-anchor=\"{}\" fill=\"{}\"{}{}{}>{}</text>\n",
                  number(x), number(y), number(s.size), kAnchors[size_t(s.anchor)], s.fill,
                  s.bold ? " font-weight=\"600\"" : "", s.halo ? kHalo : "", turn, escape_xml(text));
}

std::string Svg::document() const {
  return fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{0}\" height=\"{1}\" viewBox=\"0 0 {0} {1}\" "
      "font-family=\"system-ui, 'Segoe UI', 'Helvetica Neue', Helvetica, Arial, sans-serif\">\n"
      "<rect width=\"{0}\" height=\"{1}\" fill=\"#ffffff\"/>\n{2}</svg>\n",
      number(width_), number(height_), body_);
}

Axis::Axis(double first, double last, double low, double high, bool logarithmic)
    : first_(first), last_(last), low_(low), high_(high), logarithmic_(logarithmic) {
  PLUME_CHECK(last > first && (!logarithmic || first > 0), "axis: {} to {} is no range", first, last);
}

double Axis::operator()(double value) const {
  const double share = logarithmic_ ? std::log(value / first_) / std::log(last_ / first_)
                                    : (value - first_) / (last_ - first_);
  return low_ + share * (high_ - low_);
}

std::vector<double> Axis::ticks() const {
  std::vector<double> places;
  constexpr double kSlack = 1e-9;
  if (logarithmic_) {
    for (int power = int(std::floor(std::log10(first_))); power <= int(std::ceil(std::log10(last_)));
         ++power) {
      const double value = std::pow(10.0, power);
      if (value >= first_ * (1 - kSlack) && value <= last_ * (1 + kSlack)) places.push_back(value);
    }
    return places;
  }
  constexpr double kWanted = 6;
  const double rough = (last_ - first_) / kWanted, power = std::pow(10.0, std::floor(std::log10(rough)));
  double step = power;
  for (const double factor : {2.0, 5.0, 10.0})
    if (step < rough) step = factor * power;
  for (double value = std::ceil(first_ / step - kSlack) * step; value <= last_ + kSlack * step; value += step)
    places.push_back(value);
  return places;
}

std::string short_number(double value) {
  const char* unit = "";
  for (const char* larger : {"k", "M", "G", "T", "P"}) {
    if (std::abs(value) < 999.5) break;
    value /= 1000;
    unit = larger;
  }
  return fmt::format("{:.3g}{}", value == 0 ? 0.0 : value, unit);  // no "-0"
}

}  // namespace plume::tools
