// What has come of a study's cells: look-ups in a plan and its results, and a cell's figures in printed
// units.
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "tools/cli/json.h"
#include "tools/study/cell.h"
#include "tools/study/plan.h"

namespace plume::tools {

// A finished cell's figures, in the units that tables print; null where something was not measured.
class CellFigures {
 public:
  explicit CellFigures(const CellResult& cell) : cell_(cell), evaluation_(part("evaluation")) {}
  Json top1() const { return scaled(evaluation_, "top1", 100); }
  Json top5() const { return scaled(evaluation_, "top5", 100); }
  Json macro_f1() const { return scaled(evaluation_, "macro_f1", 1); }
  Json macs_native() const { return scaled(cell_, "macs_native", 1e-9); }
  Json macs_224() const { return scaled(cell_, "macs_224", 1e-9); }
  Json flops_224() const { return scaled(cell_, "macs_224", 2e-9); }
  Json parameters() const { return scaled(evaluation_, "parameters", 1e-6); }
  Json size_mib() const { return scaled(evaluation_, "parameters", 4 / (1024.0 * 1024)); }
  Json energy() const { return latency(true, "energy_mj_per_image"); }
  Json minutes() const { return scaled(cell_, "seconds", 1.0 / 60); }
  // Of the last epoch. Cells of older versions do not say it.
  Json last_top1() const { return scaled(part("result").value("last", Json::object()), "test_top1", 100); }
  // "450 validation images" or "the test images", which flatters the best epoch's accuracy.
  std::string selected_on() const;
  bool selected_on_test() const { return part("result").value("selected_on", "test") == "test"; }
  Json epochs() const { return cell_.contains("curve") ? Json(cell_["curve"].size()) : Json(); }
  Json peak_memory(const char* program) const { return scaled(part("peak_memory_bytes"), program, 1e-6); }
  Json single_ms() const { return latency(false, "median_ms"); }
  Json batch_us_per_image() const {
    const Json ms = latency(true, "median_ms_per_image");
    return ms.is_number() ? Json(ms.get<double>() * 1e3) : Json();
  }
  Json latency_batch() const { return latency(true, "batch"); }
  // Whether guessing would have done as well: the accuracy is within three standard deviations of 1 in
  // `classes` on as many images. Such a cell says nothing about its network.
  bool at_chance() const;

 private:
  Json part(const char* key) const {
    const Json found = cell_.is_object() ? cell_.value(key, Json::object()) : Json::object();
    return found.is_object() ? found : Json::object();
  }
  static Json scaled(const Json& from, const char* key, double factor) {
    const auto found = from.find(key);
    return found != from.end() && found->is_number() ? Json(found->get<double>() * factor) : Json();
  }
  // Of the largest batch, or of a single image.
  Json latency(bool largest, const char* key) const {
    const Json all = evaluation_.value("latency", Json::array());
    if (all.empty()) return nullptr;
    return (largest ? all.back() : all.front()).value(key, Json());
  }
  const CellResult& cell_;
  Json evaluation_;
};

inline bool done(const CellResult& cell) { return cell.is_object() && cell.value("state", "") == "done"; }
std::string state_of(
    const CellResult& cell);  // as tables print it: "done", "done, at chance", "not run yet", ...

// Marks a name in tables when the cell is at chance; a table with such names says what the mark means.
inline constexpr const char* kChanceMark = " †";
inline constexpr const char* kChanceNote =
    " † At chance: no better than guessing, within three standard deviations; differences to it mean "
    "nothing.";
std::string marked(std::string_view name, const CellResult& cell);

// Appends the name unless it is there.
void remember(std::vector<std::string>& names, const std::string& name);

// `plan` and `results` (in the order of plan.cells; null for what has not been run) must outlive this.
class StudyResults {
 public:
  StudyResults(const StudyPlan& plan, const std::vector<CellResult>& results);

  const StudyPlan& plan() const { return plan_; }
  const std::vector<CellResult>& cells() const { return results_; }
  // Of the main groups, as the paper orders them, what it does not have at the end.
  const std::vector<std::string>& data() const { return data_; }
  const std::vector<std::string>& models() const { return models_; }

  const CellResult* find(const std::string& id) const;
  // The cell of the main groups, when it is done; else null.
  const CellResult* main(const std::string& model, const std::string& data, bool pretrained) const;
  // Fine-tuned where that was run, as in the paper.
  const CellResult* best_start(const std::string& model, const std::string& data) const;
  int side(const std::string& data) const;  // of the data set's own images; 0 when no cell says

 private:
  const StudyPlan& plan_;
  const std::vector<CellResult>& results_;
  std::vector<std::string> data_, models_;
};

}  // namespace plume::tools
