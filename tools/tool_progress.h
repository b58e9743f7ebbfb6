// Progress of a training run: a bar on a terminal, plain lines elsewhere.
#pragma once
#include <chrono>
#include <cstdint>
#include <string>

namespace plume::tools {

class Progress {
 public:
  // What stdout is decides: a terminal or not.
  Progress();

  // `done` of `total` steps of this epoch; `remaining` steps of the run, this epoch's included.
  void update(const std::string& label, int64_t done, int64_t total, int64_t remaining,
              double images_per_second, double seconds_per_step, double loss);
  // A line that stays.
  void line(const std::string& text);

 private:
  using Clock = std::chrono::steady_clock;
  bool terminal_;
  bool bar_shown_ = false;
  Clock::time_point last_;
};

std::string format_duration(double seconds);  // "1:02:03", "2:03"

}  // namespace plume::tools
