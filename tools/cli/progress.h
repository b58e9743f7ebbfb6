// What a training run says: a bar on a terminal, plain lines elsewhere (shows_bar() tells which), one JSON
// line per epoch for programs; and a log file with all of it. Only the bar has control characters.
#pragma once
#include <cstdint>
#include <cstdio>
#include <memory>
#include <string>

#include "tools/cli/clock.h"

namespace plume::tools {

// Of the epoch under way.
struct StepReport {
  std::string label;               // "epoch 3/10"
  int64_t done = 0, total = 0;     // steps
  double seconds_left = 0;         // of the run
  double loss = 0, accuracy = -1;  // running means; accuracy below 0: not known
  double learning_rate = 0;
  double images_per_second = 0;
  double wait_share = 0;  // of the time, spent waiting for data
  uint64_t memory = 0;    // bytes at most in use on the device
};

class Progress {
 public:
  enum class Style : uint8_t { automatic, quiet, json };  // automatic: a bar or plain lines
  explicit Progress(Style style = Style::automatic);

  // From now on everything that is said is also appended to this file, which is made when missing. Throws
  // resource.
  void log_to(const std::string& path);
  void update(const StepReport& report);
  void line(const std::string& text);     // stays on stdout (not when quiet or json)
  void warning(const std::string& text);  // log_line()
  void json(const std::string& text);     // stdout, only when json
  bool due() const;                       // update() would show something

 private:
  struct Close {
    void operator()(std::FILE* file) const { std::fclose(file); }
  };
  void clear_bar();
  void log(const std::string& text);

  Style style_;
  bool terminal_;
  bool bar_shown_ = false;
  Clock::time_point last_;
  std::unique_ptr<std::FILE, Close> log_;
};

// Whether a bar may be drawn on stdout: it is a terminal that understands escape codes (TERM is neither
// "dumb" nor unset, NO_COLOR is not set), and no launcher is between: mpirun gives its ranks a terminal of
// their own and writes what they say wherever its own output goes. `variable` returns null where a variable
// is not set.
bool shows_bar(bool terminal, const char* (*variable)(const char* name));

std::string format_duration(double seconds);  // "1:02:03", "2:03"
std::string format_bytes(uint64_t bytes);     // "1.25 GB"

}  // namespace plume::tools
