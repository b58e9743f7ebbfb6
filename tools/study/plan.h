// What a study consists of: cells, each one training run, and the groups that the report sets side by side.
//
// A recipe is a JSON file (tools/recipes/study-*.json):
//   {"title": "...",
//    "about": "...",                                            stands below the title; may be left out
//    "latency_seconds": 2,                                      of timing per cell and batch size
//    "settings": {"epochs": 50, "optimizer": "adam"},           flags of `train` for every cell
//    "overrides": [{"when": {"start": "pretrained"}, "settings": {"lr": 0.0003}}],
//    "groups": [{"name": "networks", "kind": "main",            kind: main or ablation
//                "axes": {"model": [...], "data": [...], "start": ["pretrained", "scratch"],
//                         "variant": {"adam": {"optimizer": "adam"}, "sgd": {"optimizer": "sgd"}}}}]}
// A group has one cell per combination of its axes. Cells with the same flags are one cell, whatever their
// groups.
#pragma once
#include <string>
#include <utility>
#include <vector>

namespace plume::tools {

// Flags of `train` without the dashes, and their values as written; a switch has the value "true".
using StudySettings = std::vector<std::pair<std::string, std::string>>;

struct StudyCell {
  std::string id;  // names its folder: "resnet18-cifar10-scratch"
  std::string model, data;
  bool pretrained = false;
  StudySettings settings;
  const char* start() const { return pretrained ? "pretrained" : "scratch"; }
};

struct StudyGroup {
  struct Entry {
    std::string cell, variant;
  };
  std::string name, title;
  bool main = false;  // Tables 1 to 4 and the figures rest on it
  std::vector<Entry> entries;
};

inline constexpr double kMostLatencySeconds = 3600;

struct StudyPlan {
  std::string recipe, title, about;
  double latency_seconds = 2;
  std::vector<StudyCell> cells;
  std::vector<StudyGroup> groups;

  const StudyCell* find(const std::string& id) const;  // null when absent
};

// Which part of a recipe, and what the command line changes of it.
struct StudySelection {
  std::vector<std::string> models, data;  // empty: all
  StudySettings settings;                 // have the last word
};

// `source` names the recipe in messages. Throws bad_input, naming source and field, for anything that a
// recipe does not have; usage when the selection leaves no cell.
StudyPlan plan_study(const std::string& text, const std::string& source, const StudySelection& selection);

// --shard i/n, or what a SLURM array, MPI or SLURM step says about this process; 0/1 otherwise.
struct Shard {
  int64_t index = 0, count = 1;
  bool has(size_t cell) const { return int64_t(cell) % count == index; }
};
Shard parse_shard(const std::string& text);  // throws usage
Shard shard_of_environment();

}  // namespace plume::tools
