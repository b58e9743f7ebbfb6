// Small drawings for reports: shapes with hover titles, and axes.
//
// Text is escaped; numbers have two decimals. Every element may carry a title, which browsers show on hover.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace plume::tools {

enum class Anchor : uint8_t { start, middle, end };

class Svg {
 public:
  Svg(double width, double height) : width_(width), height_(height) {}

  struct Style {
    std::string fill = "none";
    std::string stroke = "none";
    double stroke_width = 1;
    double opacity = 1;
    std::string dash = {};  // e.g. "4 3"
  };
  struct TextStyle {
    double size = 12;
    Anchor anchor = Anchor::start;
    std::string fill = "#1f2430";
    bool bold = false;
    bool halo = false;   // of white, over drawings
    double degrees = 0;  // turned clockwise around its place
  };
  void rectangle(double x, double y, double width, double height, const Style& style,
                 std::string_view title = {});
  void circle(double x, double y, double radius, const Style& style, std::string_view title = {});
  void line(double x1, double y1, double x2, double y2, const Style& style);
  void path(const std::vector<std::pair<double, double>>& points, const Style& style,
            std::string_view title = {});
  void text(double x, double y, std::string_view text, const TextStyle& style);
  void text(double x, double y, std::string_view what) { text(x, y, what, TextStyle()); }

  double width() const { return width_; }
  double height() const { return height_; }
  std::string document() const;  // a white page with everything drawn so far

 private:
  void element(const std::string& tag, std::string_view title);
  double width_, height_;
  std::string body_;
};

// "&", "<", ">" and quotes for XML and HTML.
std::string escape_xml(std::string_view text);

// Maps values onto a stretch of the page; low may be the larger place (y axes point up).
class Axis {
 public:
  Axis(double first, double last, double low, double high, bool logarithmic);
  double operator()(double value) const;
  // Round numbers within the range: 1, 2 or 5 times powers of ten, or powers of ten alone.
  std::vector<double> ticks() const;
  double first() const { return first_; }
  double last() const { return last_; }

 private:
  double first_, last_, low_, high_;
  bool logarithmic_;
};

// "0.5", "20", "1k", "35M", "2.5G": at most three digits and a unit.
std::string short_number(double value);

}  // namespace plume::tools
