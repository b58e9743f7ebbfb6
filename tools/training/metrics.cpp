#include "tools/training/metrics.h"

#include <filesystem>
#include <fstream>

#include "engine/files/atomic_file.h"
#include "tools/cli/csv.h"
#include "tools/training/tensorboard.h"

namespace plume::tools {
namespace {

// Where TensorBoard groups the curves: "train/loss" from "train_loss".
std::string event_of(const Json& epoch) {
  ScalarEvent event{epoch.value("unix_time", 0.0), epoch.value("step", int64_t(0)), {}};
  for (const auto& [key, value] : epoch.items()) {
    if (!value.is_number() || key == "step" || key == "unix_time") continue;
    std::string tag = key;
    for (const char* group : {"train_", "test_"})
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
  epochs_.clear();
  for (std::string line; std::getline(in, line);) {
    Json entry = parse_json_or_null(line);
    const bool complete = entry.is_object() && entry.contains("epoch") && entry["epoch"].is_number_integer();
    if (complete && entry["epoch"].get<int64_t>() <= epochs) epochs_.push_back(std::move(entry));
  }
}

std::string MetricsFiles::csv() const {
  if (epochs_.empty()) return "";
  std::string text;
  for (const auto& [key, value] : epochs_[0].items()) text += (text.empty() ? "" : ",") + csv_cell(key);
  text += "\n";
  for (const Json& epoch : epochs_) {
    std::string row;
    bool first = true;
    for (const auto& [key, unused] : epochs_[0].items()) {
      if (!first) row += ",";
      first = false;
      const Json value = epoch.value(key, Json());
      if (!value.is_null()) row += csv_cell(value.is_string() ? value.get<std::string>() : to_text(value));
    }
    text += row + "\n";
  }
  return text;
}

void MetricsFiles::write() {
  std::string lines, events = tensorboard_header(epochs_.empty() ? 0 : epochs_[0].value("unix_time", 0.0));
  for (const Json& epoch : epochs_) {
    lines += to_text(epoch) + "\n";
    events += event_of(epoch);
  }
  write_file_atomically(path(kNames[0]), lines);
  write_file_atomically(path(kNames[1]), csv());
  write_file_atomically(path(kNames[2]), events);
}

void MetricsFiles::add(const Json& epoch) {
  epochs_.push_back(epoch);
  std::string lines;
  for (const Json& one : epochs_) lines += to_text(one) + "\n";
  write_file_atomically(path(kNames[0]), lines);
  write_file_atomically(path(kNames[1]), csv());
  std::ofstream(path(kNames[2]), std::ios::binary | std::ios::app) << event_of(epoch);
}

}  // namespace plume::tools
