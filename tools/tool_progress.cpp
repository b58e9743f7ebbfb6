#include "tools/tool_progress.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>

namespace plume::tools {
namespace {

constexpr double kTerminalSeconds = 0.2, kPlainSeconds = 20;
constexpr int kBarWidth = 24;

}  // namespace

Progress::Progress() : terminal_(isatty(STDOUT_FILENO) != 0), last_(Clock::now()) {}

void Progress::update(const std::string& label, int64_t done, int64_t total, int64_t remaining,
                      double images_per_second, double seconds_per_step, double loss) {
  const Clock::time_point now = Clock::now();
  const double since = std::chrono::duration<double>(now - last_).count();
  if (since < (terminal_ ? kTerminalSeconds : kPlainSeconds)) return;
  last_ = now;
  const std::string eta = format_duration(double(remaining) * seconds_per_step);
  if (!terminal_) {
    std::printf("%s: step %lld/%lld, loss %.4f, %.0f images/s, %s left\n", label.c_str(), (long long)done,
                (long long)total, loss, images_per_second, eta.c_str());
    std::fflush(stdout);
    return;
  }
  const int filled = int(kBarWidth * done / std::max<int64_t>(total, 1));
  const std::string bar = std::string(size_t(filled), '=') + std::string(size_t(kBarWidth - filled), ' ');
  std::printf("\r\033[K%s [%s] %lld/%lld  loss %.4f  %.0f images/s  %s left", label.c_str(), bar.c_str(),
              (long long)done, (long long)total, loss, images_per_second, eta.c_str());
  std::fflush(stdout);
  bar_shown_ = true;
}

void Progress::line(const std::string& text) {
  std::printf("%s%s\n", bar_shown_ ? "\r\033[K" : "", text.c_str());
  std::fflush(stdout);
  bar_shown_ = false;
}

std::string format_duration(double seconds) {
  const long long s = std::max(0LL, (long long)(seconds + 0.5));
  char text[64];
  if (s >= 3600)
    std::snprintf(text, sizeof text, "%lld:%02lld:%02lld", s / 3600, s / 60 % 60, s % 60);
  else
    std::snprintf(text, sizeof text, "%lld:%02lld", s / 60, s % 60);
  return text;
}

}  // namespace plume::tools
