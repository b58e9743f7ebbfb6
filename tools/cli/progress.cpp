#include "tools/cli/progress.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "engine/core/error.h"
#include "tools/cli/main.h"

namespace plume::tools {
namespace {

constexpr double kTerminalSeconds = 0.2, kPlainSeconds = 20;
constexpr int kBarWidth = 20;

std::string format(const char* pattern, double value) {
  char text[64];
  std::snprintf(text, sizeof text, pattern, value);
  return text;
}

std::string figures(const StepReport& r) {
  std::string text = "loss " + format("%.4f", r.loss);
  if (r.accuracy >= 0) text += ", top-1 " + format("%.2f %%", 100 * r.accuracy);
  text += ", lr " + format("%.3g", r.learning_rate);
  text += ", " + format("%.0f images/s", r.images_per_second);
  text += ", data wait " + format("%.1f %%", 100 * r.wait_share);
  text += ", " + format_bytes(r.memory);
  return text + ", " + format_duration(r.seconds_left) + " left";
}

const char* environment_variable(const char* name) { return std::getenv(name); }

}  // namespace

bool shows_bar(bool terminal, const char* (*variable)(const char* name)) {
  // What Open MPI, MPICH, Intel MPI, PMIx and SLURM tell a process that they start, also a single one.
  for (const char* launcher : {"OMPI_COMM_WORLD_SIZE", "PMI_RANK", "PMI_SIZE", "PMIX_RANK", "SLURM_PROCID"})
    if (variable(launcher)) return false;
  const auto text = [&](const char* name) {
    const char* value = variable(name);
    return std::string(value ? value : "");
  };
  return terminal && !text("TERM").empty() && text("TERM") != "dumb" && text("NO_COLOR").empty();
}

Progress::Progress(Style style)
    : style_(style),
      terminal_(style == Style::automatic && shows_bar(isatty(STDOUT_FILENO) != 0, environment_variable)),
      last_(Clock::now()) {}

void Progress::log_to(const std::string& path) {
  log_.reset(std::fopen(path.c_str(), "ae"));
  if (!log_) fail(ErrorKind::resource, "{}: cannot be written: {}", path, std::strerror(errno));
}

bool Progress::due() const {
  const double since = seconds_since(last_);
  return style_ == Style::automatic && since >= (terminal_ ? kTerminalSeconds : kPlainSeconds);
}

void Progress::update(const StepReport& r) {
  if (!due()) return;
  last_ = Clock::now();
  if (!terminal_) return line(message("{}: step {}/{}, {}", r.label, r.done, r.total, figures(r)));
  const int filled = int(kBarWidth * r.done / std::max<int64_t>(r.total, 1));
  const std::string bar = std::string(size_t(filled), '=') + std::string(size_t(kBarWidth - filled), ' ');
  std::printf("\r\033[K%s [%s] %lld/%lld  %s", r.label.c_str(), bar.c_str(), (long long)r.done,
              (long long)r.total, figures(r).c_str());
  std::fflush(stdout);
  bar_shown_ = true;
}

void Progress::clear_bar() {
  if (bar_shown_) std::fputs("\r\033[K", stdout);
  bar_shown_ = false;
}

void Progress::log(const std::string& text) {
  if (!log_) return;
  // A log that cannot be written is no reason to stop a training run.
  std::fprintf(log_.get(), "%s\n", one_line(text).c_str());
  std::fflush(log_.get());
}

void Progress::line(const std::string& text) {
  log(text);
  if (style_ != Style::automatic) return;
  clear_bar();
  std::printf("%s\n", one_line(text).c_str());
  std::fflush(stdout);
}

void Progress::warning(const std::string& text) {
  log(text);
  clear_bar();
  std::fflush(stdout);
  log_line(text);
}

void Progress::json(const std::string& text) {
  if (style_ != Style::json) return;
  std::printf("%s\n", text.c_str());
  std::fflush(stdout);
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

std::string format_bytes(uint64_t bytes) {
  return bytes >= 1'000'000'000 ? format("%.2f GB", double(bytes) * 1e-9)
                                : format("%.0f MB", double(bytes) * 1e-6);
}

}  // namespace plume::tools
