#include "tools/study/cell.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "data/images/png.h"
#include "data/sets/registry.h"
#include "engine/core/error.h"
#include "engine/files/atomic_file.h"
#include "models/registry.h"
#include "tools/cli/child.h"
#include "tools/cli/json.h"
#include "tools/cli/signals.h"
#include "tools/training/config.h"
#include "tools/training/evaluation.h"

namespace plume::tools {
namespace {

namespace fs = std::filesystem;

constexpr const char *kDone = "done", *kFailed = "failed", *kNoWeights = "weights missing";

// Held until the process and its children end.
class Claim {
 public:
  explicit Claim(const std::string& path) : file_(open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644)) {
    if (file_ < 0) fail(ErrorKind::resource, "{}: cannot be opened: {}", path, std::strerror(errno));
    held_ = flock(file_, LOCK_EX | LOCK_NB) == 0;
    if (!held_ && errno != EWOULDBLOCK) {
      const int error = errno;
      close(file_);
      fail(ErrorKind::resource, "{}: cannot be locked: {}", path, std::strerror(error));
    }
  }
  ~Claim() { close(file_); }
  Claim(const Claim&) = delete;
  Claim& operator=(const Claim&) = delete;
  bool held() const { return held_; }
  int file() const { return file_; }

 private:
  int file_;
  bool held_;
};

std::string read_text(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::stringstream text;
  text << in.rdbuf();
  return text.str();
}

Json settings_to_json(const StudySettings& settings) {
  Json json = Json::object();
  for (const auto& [key, value] : settings) json[key] = value;
  return json;
}

std::string setting(const StudyCell& cell, const std::string& name, const std::string& otherwise) {
  for (const auto& [key, value] : cell.settings)
    if (key == name) return value;
  return otherwise;
}

// The data sets keep their official folders' names under the study's data folder.
std::string data_folder(const std::string& name, const std::string& folder) {
  if (folder.empty()) return folder;
  constexpr std::pair<const char*, const char*> kOfficial[] = {{"cifar10", "cifar-10-batches-bin"},
                                                               {"cifar100", "cifar-100-binary"},
                                                               {"tiny-imagenet", "tiny-imagenet-200"}};
  for (const auto& [data, official] : kOfficial)
    if (name == data && fs::is_directory(fs::path(folder) / official))
      return (fs::path(folder) / official).string();
  return fs::is_directory(fs::path(folder) / name) ? (fs::path(folder) / name).string() : folder;
}

class CellRun {
 public:
  CellRun(const StudyCell& cell, const StudyOptions& options, int lock)
      : cell_(cell), options_(options), lock_(lock), folder_(fs::path(options.out) / "cells" / cell.id) {}

  CellOutcome run() {
    result_["id"] = cell_.id;
    result_["model"] = cell_.model;
    result_["data"] = cell_.data;
    result_["start"] = cell_.start();
    result_["settings"] = settings_to_json(cell_.settings);
    const std::string weights = weights_file(cell_, options_);
    if (cell_.pretrained && !fs::is_regular_file(weights))
      return finish(kNoWeights,
                    message("{}: there is no such file", weights.empty() ? "--weights-dir" : weights));
    if (!step("train", train_command(weights))) return ended_early();
    result_["curve"] = curve();
    result_["result"] = parse_json_or_null(read_text(file("run/result.json")));
    if (!step("evaluate", evaluate_command())) return ended_early();
    result_["evaluation"] = parse_json_or_null(read_text(file("evaluation.json")));
    if (!result_["evaluation"].is_object()) return finish(kFailed, "evaluate: its report is no JSON");
    try {
      describe_network();
    } catch (const Error& error) {
      return finish(kFailed, error.what());
    }
    if (stop_signal()) return CellOutcome::interrupted;
    return finish(kDone, "");
  }

  static std::string weights_file(const StudyCell& cell, const StudyOptions& options) {
    if (options.weights.empty()) return "";
    return (fs::path(options.weights) / (cell.model + ".safetensors")).string();
  }

 private:
  std::string file(const char* name) const { return (folder_ / name).string(); }

  std::vector<std::string> with_places(std::vector<std::string> words) const {
    const std::string data = data_folder(cell_.data, options_.data);
    if (!data.empty()) words.insert(words.end(), {"--data-dir", data});
    if (!options_.cache.empty()) words.insert(words.end(), {"--cache-dir", options_.cache});
    words.insert(words.end(), options_.forwarded.begin(), options_.forwarded.end());
    return words;
  }

  std::vector<std::string> train_command(const std::string& weights) const {
    std::vector<std::string> words = {"train", "--out", file("run")};
    if (options_.workers >= 0) words.insert(words.end(), {"--workers", std::to_string(options_.workers)});
    if (fs::exists(folder_ / "run" / "last.safetensors")) {
      words.emplace_back("--resume");
      return with_places(words);
    }
    words.insert(words.end(), {"--overwrite", "--model", cell_.model, "--data", cell_.data});
    if (cell_.pretrained) words.insert(words.end(), {"--weights", weights});
    for (const auto& [key, value] : cell_.settings) {
      if (value == "false") continue;
      words.push_back("--" + key);
      if (value != "true") words.push_back(value);
    }
    return with_places(words);
  }

  std::vector<std::string> evaluate_command() const {
    return with_places({"evaluate", "--checkpoint", file("run/best.safetensors"), "--batch",
                        std::to_string(options_.latency_batch), "--limit", setting(cell_, "limit-test", "0"),
                        "--latency-seconds", message("{}", options_.latency_seconds), "--json",
                        file("evaluation.json")});
  }

  // False when it did not end well.
  bool step(const char* program, const std::vector<std::string>& words, const std::string& out = "") {
    const ChildResult child = run_child(words, file("log.txt"), lock_, out);
    result_["peak_memory_bytes"][program] = child.peak_bytes;
    if (child.code == 0) return true;
    failure_ = child.error;
    return false;
  }

  CellOutcome ended_early() {
    if (stop_signal()) return CellOutcome::interrupted;
    return finish(kFailed, failure_);
  }

  CellOutcome finish(const char* state, const std::string& error) {
    result_["state"] = state;
    result_["error"] = error;
    write_file_atomically(file("cell.json"), to_text(result_, 1) + "\n");
    return CellOutcome::finished;
  }

  Json curve() {
    Json epochs = Json::array();
    double seconds = 0;
    std::istringstream in(read_text(file("run/metrics.jsonl")));
    for (std::string line; std::getline(in, line);) {
      const Json epoch = parse_json_or_null(line);
      if (!epoch.is_object()) continue;
      for (const char* key : {"train_seconds", "validation_seconds", "test_seconds"})
        seconds += epoch.value(key, 0.0);
      if (epoch.contains("train_loss")) epochs.push_back(epoch);  // the last line is of the test
    }
    result_["seconds"] = seconds;
    return epochs;
  }

  // What the programs do not say: multiply-adds at both resolutions, and where the network looks.
  void describe_network() {
    const std::string folder = data_folder(cell_.data, options_.data);
    const auto dataset =
        data::open_dataset(cell_.data, folder, data::measured_split(cell_.data, folder).split, {});
    const std::string stem = setting(cell_, "stem", Recipe{}.stem);
    const auto model = make_model(cell_.model, {.num_classes = dataset->classes(), .stem = parse_stem(stem)});
    constexpr int kImageNetSide = 224;
    result_["stem"] = stem;
    // A folder of photographs has no resolution of its own.
    const int side = dataset->uniform() ? dataset->height() : kImageNetSide;
    result_["native_size"] = side;
    result_["macs_native"] = count_model_macs(*model, Device::cpu, side, side);
    result_["macs_224"] = count_model_macs(*model, Device::cpu, kImageNetSide, kImageNetSide);
    result_["explanations"] = explain(*dataset);
  }

  // The first image of a few classes spread over all: the same ones for every network.
  static std::vector<int64_t> chosen_images(const data::Dataset& dataset, int64_t count) {
    std::vector<int64_t> chosen;
    count = std::min<int64_t>(count, dataset.classes());
    for (int64_t k = 0; k < count; ++k)
      for (int64_t i = 0; i < dataset.size(); ++i)
        if (dataset.get(i).label == int(k * dataset.classes() / count)) {
          chosen.push_back(i);
          break;
        }
    return chosen;
  }

  Json explain(const data::Dataset& dataset) {
    if (options_.explained_images == 0) return Json::array();
    Json all = Json::array();
    const std::vector<int64_t> chosen = chosen_images(dataset, options_.explained_images);
    if (chosen.empty()) return all;
    fs::create_directories(folder_ / "explain");
    std::vector<std::string> words = {"predict", "--weights", file("run/best.safetensors"), "--json", "--top",
                                      "1",       "--explain", file("explain/seen")};
    for (const int64_t i : chosen) {
      const data::Sample sample = dataset.get(i);
      const std::string name = message("image-{}.png", i);
      const data::Image image{sample.height, sample.width, {sample.pixels.begin(), sample.pixels.end()}};
      write_file_atomically((folder_ / "explain" / name).string(), data::encode_png(image));
      words.push_back((folder_ / "explain" / name).string());
      all.push_back({{"image", "explain/" + name},
                     {"overlay", "explain/seen/" + name},
                     {"label", dataset.class_names()[size_t(sample.label)]}});
    }
    words.insert(words.end(), options_.forwarded.begin(), options_.forwarded.end());
    const Json peak = result_["peak_memory_bytes"];
    const bool ended_well = step("predict", words, file("explain/predictions.json"));
    result_["peak_memory_bytes"] = peak;
    if (!ended_well) fail(ErrorKind::internal, "{}", failure_);
    const Json report = parse_json_or_null(read_text(file("explain/predictions.json")));
    for (size_t i = 0; i < all.size(); ++i) {
      const Json& guess = report.at("images").at(i).at("top").at(0);
      all[i]["predicted"] = guess.at("label");
      all[i]["probability"] = guess.at("probability");
    }
    return all;
  }

  const StudyCell& cell_;
  const StudyOptions& options_;
  int lock_;
  fs::path folder_;
  Json result_;
  std::string failure_;
};

// "epochs: 4 -> 8", or empty.
std::string first_difference(const Json& before, const Json& now) {
  for (const auto& [key, value] : now.items())
    if (const std::string was = before.value(key, std::string("unset")); was != value.get<std::string>())
      return message("{}: {} -> {}", key, was, value.get<std::string>());
  for (const auto& [key, value] : before.items())
    if (!now.contains(key)) return message("{}: {} -> unset", key, to_text(value));
  return "";
}

bool is_cell_result(const Json& json) {
  if (!json.is_object() || !json.contains("settings") || !json["settings"].is_object()) return false;
  for (const auto& [key, value] : json["settings"].items())
    if (!value.is_string()) return false;
  for (const char* state : {kDone, kFailed, kNoWeights})
    if (json.value("state", Json()) == state) return true;
  return false;
}

}  // namespace

CellResult read_cell(const StudyCell& cell, const StudyOptions& options) {
  const std::string path = (fs::path(options.out) / "cells" / cell.id / "cell.json").string();
  Json json = parse_json_or_null(read_text(path));
  if (!is_cell_result(json)) return nullptr;
  const std::string difference = first_difference(json["settings"], settings_to_json(cell.settings));
  PLUME_CHECK(difference.empty(),
              "{}: was run with other settings ({}); give another --out, or remove the folder", path,
              difference);
  if (json["state"] == kNoWeights && fs::is_regular_file(CellRun::weights_file(cell, options)))
    return nullptr;
  if (json["state"] == kFailed && options.retry) return nullptr;
  return json;
}

CellOutcome run_cell(const StudyCell& cell, const StudyOptions& options) {
  const fs::path folder = fs::path(options.out) / "cells" / cell.id;
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) fail(ErrorKind::resource, "{}: cannot be made: {}", folder.string(), error.message());
  const Claim claim((folder / "lock").string());
  if (!claim.held()) return CellOutcome::claimed_elsewhere;
  if (!read_cell(cell, options).is_null()) return CellOutcome::finished;  // since it was last looked at
  return CellRun(cell, options, claim.file()).run();
}

}  // namespace plume::tools
