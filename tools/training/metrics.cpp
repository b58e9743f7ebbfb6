#include "tools/training/metrics.h"

#include <algorithm>
#include <filesystem>
#include <fstream>

#include "engine/files/atomic_file.h"
#include "tools/cli/csv.h"
#include "tools/training/tensorboard.h"

namespace plume::tools {
namespace {

// Of the test, at the end of a run.
bool is_result(const Json& line) { return line.contains("best_epoch"); }

// Where TensorBoard groups the curves: "train/loss" from "train_loss".
std::string event_of(const Json& epoch) {
  ScalarEvent event{epoch.value("unix_time", 0.0), epoch.value("step", int64_t(0)), {}};
  for (const auto& [key, value] : epoch.items()) {
    if (!value.is_number() || key == "step" || key == "unix_time") continue;
    std::string tag = key;
    for (const char* group : {"train_", "validation_", "test_"})
      if (tag.starts_with(group)) tag[std::string_view(group).size() - 1] = '/';
    event.scalars.emplace_back(tag, value.get<float>());
  }
  return tensorboard_record(event);
}

}  // namespace

std::string MetricsFiles::path(const char* name) const {
  return (std::filesystem::path(folder_) / name).string();
}

void MetricsFiles::restore(int64_t epochs) {
  std::ifstream in(path(kNames[0]), std::ios::binary);
  lines_.clear();
  for (std::string line; std::getline(in, line);) {
    Json entry = parse_json_or_null(line);
    const bool complete = entry.is_object() && entry.contains("epoch") && entry["epoch"].is_number_integer();
    if (complete && entry["epoch"].get<int64_t>() <= epochs) lines_.push_back(std::move(entry));
  }
}

const Json* MetricsFiles::find(int64_t epoch) const {
  for (const Json& line : lines_)
    if (!is_result(line) && line.value("epoch", int64_t(0)) == epoch) return &line;
  return nullptr;
}

bool MetricsFiles::has_result() const { return !lines_.empty() && is_result(lines_.back()); }

void MetricsFiles::forget_result() { std::erase_if(lines_, is_result); }

// A column for every key, in the order in which they come up.
std::string MetricsFiles::csv() const {
  if (lines_.empty()) return "";
  std::vector<std::string> keys;
  for (const Json& line : lines_)
    for (const auto& [key, value] : line.items())
      if (std::find(keys.begin(), keys.end(), key) == keys.end()) keys.push_back(key);
  std::string text;
  for (const std::string& key : keys) text += (text.empty() ? "" : ",") + csv_cell(key);
  text += "\n";
  for (const Json& line : lines_) {
    std::string row;
    for (size_t i = 0; i < keys.size(); ++i) {
      if (i > 0) row += ",";
      const Json value = line.value(keys[i], Json());
      if (!value.is_null()) row += csv_cell(value.is_string() ? value.get<std::string>() : to_text(value));
    }
    text += row + "\n";
  }
  return text;
}

void MetricsFiles::write() {
  std::string lines, events = tensorboard_header(lines_.empty() ? 0 : lines_[0].value("unix_time", 0.0));
  for (const Json& line : lines_) {
    lines += to_text(line) + "\n";
    events += event_of(line);
  }
  write_file_atomically(path(kNames[0]), lines);
  write_file_atomically(path(kNames[1]), csv());
  write_file_atomically(path(kNames[2]), events);
}

void MetricsFiles::add(const Json& epoch) {
  lines_.push_back(epoch);
  std::string lines;
  for (const Json& one : lines_) lines += to_text(one) + "\n";
  write_file_atomically(path(kNames[0]), lines);
  write_file_atomically(path(kNames[1]), csv());
  std::ofstream(path(kNames[2]), std::ios::binary | std::ios::app) << event_of(epoch);
}

}  // namespace plume::tools
