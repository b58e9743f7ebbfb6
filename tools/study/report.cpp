#include "tools/study/report.h"

#include <algorithm>
#include <array>
#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>

#include "engine/core/error.h"
#include "tools/study/paper.h"

namespace plume::tools {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

constexpr double kMib = 1024.0 * 1024.0;

Json text_column(const char* key, const char* title) {
  return {{"key", key}, {"title", title}, {"kind", "text"}};
}
Json number_column(const char* key, const char* title, int digits, const char* unit = "") {
  return {{"key", key}, {"title", title}, {"kind", "number"}, {"digits", digits}, {"unit", unit}};
}
Json difference_column(const char* key, int digits) {
  return {{"key", key}, {"title", "difference"}, {"kind", "difference"}, {"digits", digits}, {"unit", ""}};
}

Json difference(const Json& ours, const Json& other) {
  return ours.is_number() && other.is_number() ? Json(ours.get<double>() - other.get<double>()) : Json();
}

// A finished cell's figures, in the units that tables print; null where something was not measured.
class Figures {
 public:
  explicit Figures(const CellResult& cell) : cell_(cell), evaluation_(part("evaluation")) {}
  Json top1() const { return scaled(evaluation_, "top1", 100); }
  Json top5() const { return scaled(evaluation_, "top5", 100); }
  Json macro_f1() const { return scaled(evaluation_, "macro_f1", 1); }
  Json macs_native() const { return scaled(cell_, "macs_native", 1e-9); }
  Json macs_224() const { return scaled(cell_, "macs_224", 1e-9); }
  Json flops_224() const { return scaled(cell_, "macs_224", 2e-9); }
  Json parameters() const { return scaled(evaluation_, "parameters", 1e-6); }
  Json size_mib() const { return scaled(evaluation_, "parameters", 4 / kMib); }
  Json energy() const { return latency(true, "energy_mj_per_image"); }
  Json minutes() const { return scaled(cell_, "seconds", 1.0 / 60); }
  Json epochs() const { return cell_.contains("curve") ? Json(cell_["curve"].size()) : Json(); }
  Json peak_memory(const char* program) const { return scaled(part("peak_memory_bytes"), program, 1e-6); }
  Json single_ms() const { return latency(false, "median_ms"); }
  Json batch_us_per_image() const {
    const Json ms = latency(true, "median_ms_per_image");
    return ms.is_number() ? Json(ms.get<double>() * 1e3) : Json();
  }
  Json latency_batch() const { return latency(true, "batch"); }

 private:
  Json part(const char* key) const {
    return cell_.is_object() ? cell_.value(key, Json::object()) : Json::object();
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

bool done(const CellResult& cell) { return cell.is_object() && cell.value("state", "") == "done"; }

class Reporter {
 public:
  Reporter(const StudyPlan& plan, const std::vector<CellResult>& results, const std::string& out)
      : plan_(plan), results_(results), out_(out) {
    for (const StudyGroup& group : plan.groups)
      if (group.main)
        for (const StudyGroup::Entry& entry : group.entries) {
          const StudyCell* cell = plan.find(entry.cell);
          remember(data_, cell->data);
          remember(models_, cell->model);
        }
    // As the paper orders them, what it does not have at the end.
    order(data_, [](const PaperRow& row) { return row.data; });
    order(models_, [](const PaperRow& row) { return row.model; });
  }

  Json report() {
    Json r;
    r["title"] = plan_.title;
    r["recipe"] = fs::path(plan_.recipe).filename().string();
    r["devices"] = devices();
    r["counts"] = counts();
    r["tables"] = Json::array();
    r["figures"] = Json::array();
    for (const std::string& data : data_) {
      r["tables"].push_back(accuracy_table(data));
      r["tables"].push_back(cost_table(data));
    }
    if (Json table = starts_table(); !table["rows"].empty()) r["tables"].push_back(table);
    add_main_figures(r["figures"]);
    for (const StudyGroup& group : plan_.groups)
      if (!group.main && !group.entries.empty()) {
        r["tables"].push_back(ablation_table(group));
        r["figures"].push_back(ablation_figure(group, "top1", "top-1 accuracy", "%", 2));
        r["figures"].push_back(ablation_figure(group, "macro_f1", "macro F1", "", 4));
      }
    r["tables"].push_back(cells_table());
    r["cells"] = cells();
    return r;
  }

 private:
  static void remember(std::vector<std::string>& names, const std::string& name) {
    if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
  }
  template <class Name>
  static void order(std::vector<std::string>& names, Name name_of) {
    const auto rank = [&](const std::string& name) {
      const auto rows = paper_rows();
      return std::find_if(rows.begin(), rows.end(),
                          [&](const PaperRow& row) { return name_of(row) == name; }) -
             rows.begin();
    };
    std::stable_sort(names.begin(), names.end(),
                     [&](const auto& a, const auto& b) { return rank(a) < rank(b); });
  }

  const CellResult* result_of(const std::string& id) const {
    for (size_t i = 0; i < plan_.cells.size(); ++i)
      if (plan_.cells[i].id == id) return &results_[i];
    return nullptr;
  }
  // The cell of the main groups, when it is done; else null.
  const CellResult* main_result(const std::string& model, const std::string& data, bool pretrained) const {
    for (const StudyGroup& group : plan_.groups)
      for (const StudyGroup::Entry& entry : group.entries) {
        const StudyCell* cell = plan_.find(entry.cell);
        if (!group.main || cell->model != model || cell->data != data || cell->pretrained != pretrained)
          continue;
        const CellResult* result = result_of(entry.cell);
        if (done(*result)) return result;
      }
    return nullptr;
  }
  // Fine-tuned where that was run, as in the paper.
  const CellResult* best_start(const std::string& model, const std::string& data) const {
    const CellResult* pretrained = main_result(model, data, true);
    return pretrained ? pretrained : main_result(model, data, false);
  }

  static std::string table_number(const std::string& data) {
    int number = 0;
    std::string_view before;
    for (const PaperRow& row : paper_rows()) {
      number += row.data != before;
      before = row.data;
      if (row.data == data) return message("Table {}. ", number);
    }
    return "";
  }

  Json accuracy_table(const std::string& data) const {
    const bool in_paper = !table_number(data).empty();
    Json table;
    table["id"] = "accuracy-" + data;
    table["title"] = table_number(data) + std::string(printed_data(data)) + ": accuracy";
    table["note"] =
        "Of the best epoch, on all test images. Macro F1 is the unweighted mean over the classes.";
    if (in_paper)
      table["note"] = table["note"].get<std::string>() +
                      " The paper's figures are for pretrained networks; of those from random weights it has "
                      "MobileNetV3-Small alone. Differences are ours minus the paper's.";
    Json columns = {text_column("network", "network"), text_column("start", "start"),
                    number_column("top1", "top-1", 2, "%")};
    if (in_paper) {
      columns.push_back(number_column("top1_paper", "paper", 2, "%"));
      columns.push_back(difference_column("top1_difference", 2));
    }
    columns.push_back(number_column("macro_f1", "macro F1", 4));
    if (in_paper) {
      columns.push_back(number_column("macro_f1_paper", "paper", 4));
      columns.push_back(difference_column("macro_f1_difference", 4));
    }
    columns.push_back(number_column("top5", "top-5", 2, "%"));
    columns.push_back(number_column("epochs", "epochs", 0));
    columns.push_back(number_column("minutes", "training", 1, "min"));
    table["columns"] = columns;
    table["rows"] = Json::array();
    for (const std::string& model : models_)
      for (const bool pretrained : {true, false})
        if (const CellResult* cell = main_result(model, data, pretrained))
          table["rows"].push_back(accuracy_row(*cell, model, data, pretrained));
    return table;
  }

  static Json accuracy_row(const CellResult& cell, const std::string& model, const std::string& data,
                           bool pretrained) {
    const Figures f(cell);
    Json top1_paper, f1_paper;
    if (pretrained) {
      if (const PaperRow* paper = find_paper_row(data, model))
        top1_paper = paper->accuracy, f1_paper = paper->macro_f1;
    } else if (const PaperScratch* paper = find_paper_scratch(data, model)) {
      top1_paper = paper->accuracy, f1_paper = paper->macro_f1;
    }
    return {{"network", printed_model(model)},
            {"start", cell["start"]},
            {"top1", f.top1()},
            {"top1_paper", top1_paper},
            {"top1_difference", difference(f.top1(), top1_paper)},
            {"macro_f1", f.macro_f1()},
            {"macro_f1_paper", f1_paper},
            {"macro_f1_difference", difference(f.macro_f1(), f1_paper)},
            {"top5", f.top5()},
            {"epochs", f.epochs()},
            {"minutes", f.minutes()}};
  }

  Json cost_table(const std::string& data) const {
    const bool in_paper = !table_number(data).empty();
    Json table, rows = Json::array();
    Json batch;
    for (const std::string& model : models_) {
      const CellResult* cell = best_start(model, data);
      if (!cell) continue;
      const Figures f(*cell);
      const PaperRow* paper = find_paper_row(data, model);
      if (f.latency_batch().is_number()) batch = f.latency_batch();
      rows.push_back({{"network", printed_model(model)},
                      {"single_ms", f.single_ms()},
                      {"batch_us", f.batch_us_per_image()},
                      {"batch_us_paper", paper ? Json(paper->seconds_per_image * 1e6) : Json()},
                      {"macs_native", f.macs_native()},
                      {"macs_paper", paper ? Json(paper->giga_macs) : Json()},
                      {"macs_224", f.macs_224()},
                      {"flops_224", f.flops_224()},
                      {"parameters", f.parameters()},
                      {"size_mib", f.size_mib()},
                      {"size_mib_paper", paper ? Json(paper->size_mib) : Json()},
                      {"memory_train", f.peak_memory("train")},
                      {"memory_evaluate", f.peak_memory("evaluate")},
                      {"energy", f.energy()}});
    }
    const int native = data_side(data);
    const std::string batch_title =
        batch.is_number() ? message("batch of {}", batch.get<int64_t>()) : "batch";
    const std::string native_title = native ? message("MACs, {}x{}", native, native) : "MACs, native";
    Json columns = {text_column("network", "network"), number_column("single_ms", "one image", 3, "ms"),
                    number_column("batch_us", batch_title.c_str(), 1, "µs/image")};
    if (in_paper) columns.push_back(number_column("batch_us_paper", "paper (P100)", 1, "µs/image"));
    columns.push_back(number_column("macs_native", native_title.c_str(), 4, "G"));
    if (in_paper) columns.push_back(number_column("macs_paper", "paper", 2, "G"));
    columns.push_back(number_column("macs_224", "MACs, 224x224", 3, "G"));
    columns.push_back(number_column("flops_224", "FLOPs, 224x224", 3, "G"));
    columns.push_back(number_column("parameters", "params", 3, "M"));
    columns.push_back(number_column("size_mib", "size", 2, "MiB"));
    if (in_paper) columns.push_back(number_column("size_mib_paper", "paper", 2, "MiB"));
    columns.push_back(number_column("memory_train", "peak, training", 0, "MB"));
    columns.push_back(number_column("memory_evaluate", "peak, testing", 0, "MB"));
    columns.push_back(number_column("energy", "energy", 2, "mJ/image"));
    table["id"] = "cost-" + data;
    table["title"] = table_number(data) + std::string(printed_data(data)) + ": cost";
    table["note"] =
        "Median forward pass of the fused network, host and device synchronised around each, on the device "
        "named "
        "above. MACs: multiply-adds of convolutions and linear layers for one image; FLOPs are twice that" +
        std::string(in_paper ? "; the paper's FLOPs column holds MACs at the data set's own resolution"
                             : "") +
        ". Size: parameters in f32. Peak: largest resident set of the process. Energy: where NVML reports "
        "it.";
    table["columns"] = columns;
    table["rows"] = rows;
    return table;
  }

  int data_side(const std::string& data) const {
    for (const CellResult& cell : results_)
      if (done(cell) && cell["data"] == data) return cell.value("native_size", 0);
    return 0;
  }

  // Table 4 for every network that was run both ways.
  Json starts_table() const {
    Json table;
    table["id"] = "starts";
    table["title"] = "Table 4. Pretrained and from random weights";
    table["note"] = "The paper has MobileNetV3-Small only. Gain: pretrained minus scratch.";
    table["columns"] = {text_column("data", "data"),
                        text_column("network", "network"),
                        number_column("top1_pretrained", "top-1, pretrained", 2, "%"),
                        number_column("top1_pretrained_paper", "paper", 2, "%"),
                        number_column("top1_scratch", "scratch", 2, "%"),
                        number_column("top1_scratch_paper", "paper", 2, "%"),
                        number_column("gain", "gain", 2, "%"),
                        number_column("gain_paper", "paper", 2, "%"),
                        number_column("f1_pretrained", "F1, pretrained", 4),
                        number_column("f1_pretrained_paper", "paper", 4),
                        number_column("f1_scratch", "scratch", 4),
                        number_column("f1_scratch_paper", "paper", 4)};
    table["rows"] = Json::array();
    for (const std::string& data : data_)
      for (const std::string& model : models_) {
        const CellResult *pretrained = main_result(model, data, true),
                         *scratch = main_result(model, data, false);
        if (!pretrained || !scratch) continue;
        const Figures a(*pretrained), b(*scratch);
        Json row = {{"data", printed_data(data)},
                    {"network", printed_model(model)},
                    {"top1_pretrained", a.top1()},
                    {"top1_scratch", b.top1()},
                    {"gain", difference(a.top1(), b.top1())},
                    {"f1_pretrained", a.macro_f1()},
                    {"f1_scratch", b.macro_f1()}};
        if (const PaperScratch* paper = find_paper_scratch(data, model)) {
          const PaperRow* tuned = find_paper_row(data, model);
          row["top1_pretrained_paper"] = tuned->accuracy;
          row["top1_scratch_paper"] = paper->accuracy;
          row["gain_paper"] = tuned->accuracy - paper->accuracy;
          row["f1_pretrained_paper"] = tuned->macro_f1;
          row["f1_scratch_paper"] = paper->macro_f1;
        }
        table["rows"].push_back(row);
      }
    return table;
  }

  Json ablation_table(const StudyGroup& group) const {
    Json table;
    table["id"] = "ablation-" + group.name;
    table["title"] = group.title;
    table["note"] = "Differences are to the first row of the same network, data set and start.";
    table["columns"] = {text_column("data", "data"),
                        text_column("network", "network"),
                        text_column("start", "start"),
                        text_column("variant", "variant"),
                        number_column("top1", "top-1", 2, "%"),
                        difference_column("top1_difference", 2),
                        number_column("macro_f1", "macro F1", 4),
                        difference_column("macro_f1_difference", 4),
                        number_column("epochs", "epochs", 0),
                        text_column("state", "state")};
    table["rows"] = Json::array();
    std::map<std::string, std::pair<Json, Json>> first;
    for (const StudyGroup::Entry& entry : group.entries) {
      const StudyCell* cell = plan_.find(entry.cell);
      const CellResult& result = *result_of(entry.cell);
      const Figures f(result);
      const auto& [top1, macro_f1] = first
                                         .emplace(cell->data + ' ' + cell->model + ' ' + cell->start(),
                                                  std::pair(f.top1(), f.macro_f1()))
                                         .first->second;
      table["rows"].push_back({{"data", printed_data(cell->data)},
                               {"network", printed_model(cell->model)},
                               {"start", cell->start()},
                               {"variant", entry.variant},
                               {"top1", f.top1()},
                               {"top1_difference", difference(f.top1(), top1)},
                               {"macro_f1", f.macro_f1()},
                               {"macro_f1_difference", difference(f.macro_f1(), macro_f1)},
                               {"epochs", f.epochs()},
                               {"state", state_of(result)}});
    }
    return table;
  }

  Json ablation_figure(const StudyGroup& group, const char* key, const char* title, const char* unit,
                       int digits) const {
    std::vector<std::string> groups, variants;
    std::map<std::string, std::map<std::string, Json>> values;
    for (const StudyGroup::Entry& entry : group.entries) {
      const StudyCell* cell = plan_.find(entry.cell);
      const std::string name =
          message("{}, {}, {}", printed_model(cell->model), printed_data(cell->data), cell->start());
      remember(groups, name);
      remember(variants, entry.variant);
      const Figures f(*result_of(entry.cell));
      values[entry.variant][name] = std::string_view(key) == "top1" ? f.top1() : f.macro_f1();
    }
    Json series = Json::array();
    for (const std::string& variant : variants) {
      Json row = Json::array();
      for (const std::string& name : groups) row.push_back(values[variant][name]);
      series.push_back({{"name", variant}, {"values", row}});
    }
    return bars("ablation-" + group.name + "-" + key, group.title + ": " + title, unit, digits, groups,
                series);
  }

  static Json bars(const std::string& id, const std::string& title, const char* unit, int digits,
                   const Json& groups, const Json& series) {
    return {{"id", id},         {"kind", "bars"},   {"title", title},  {"unit", unit},
            {"digits", digits}, {"groups", groups}, {"series", series}};
  }

  void add_main_figures(Json& figures) const {
    Json groups = Json::array();
    for (const std::string& model : models_) groups.push_back(printed_model(model));
    const auto by_data = [&](auto ours, auto papers) {
      Json series = Json::array();
      for (const std::string& data : data_) {
        Json values = Json::array(), paper = Json::array();
        bool any = false;
        for (const std::string& model : models_) {
          const CellResult* cell = best_start(model, data);
          const PaperRow* row = find_paper_row(data, model);
          values.push_back(cell ? ours(Figures(*cell)) : Json());
          paper.push_back(row ? Json(papers(*row)) : Json());
          any = any || row;
        }
        Json one = {{"name", printed_data(data)}, {"values", values}};
        if (any) one["paper"] = paper;
        series.push_back(one);
      }
      return series;
    };
    figures.push_back(bars("figure6", "Figure 6. Top-1 accuracy", "%", 2, groups,
                           by_data([](const Figures& f) { return f.top1(); },
                                   [](const PaperRow& row) { return row.accuracy; })));
    figures.push_back(bars("figure7", "Figure 7. Macro F1", "", 4, groups,
                           by_data([](const Figures& f) { return f.macro_f1(); },
                                   [](const PaperRow& row) { return row.macro_f1; })));
    figures.push_back(bars("figure8", "Figure 8. Model size", "MiB", 2, groups,
                           by_data([](const Figures& f) { return f.size_mib(); },
                                   [](const PaperRow& row) { return row.size_mib; })));
    add_start_figures(figures);
    add_trade_offs(figures);
  }

  void add_start_figures(Json& figures) const {
    Json groups = Json::array();
    std::array<Json, 2> top1{Json::array(), Json::array()}, f1 = top1, top1_paper = top1, f1_paper = top1;
    for (const std::string& data : data_)
      for (const std::string& model : models_) {
        const CellResult *pretrained = main_result(model, data, true),
                         *scratch = main_result(model, data, false);
        if (!pretrained || !scratch) continue;
        groups.push_back(message("{}, {}", printed_model(model), printed_data(data)));
        const PaperScratch* paper = find_paper_scratch(data, model);
        const PaperRow* tuned = paper ? find_paper_row(data, model) : nullptr;
        for (const size_t i : {size_t{0}, size_t{1}}) {
          const Figures f(i == 0 ? *pretrained : *scratch);
          top1[i].push_back(f.top1());
          f1[i].push_back(f.macro_f1());
          top1_paper[i].push_back(paper ? Json(i == 0 ? tuned->accuracy : paper->accuracy) : Json());
          f1_paper[i].push_back(paper ? Json(i == 0 ? tuned->macro_f1 : paper->macro_f1) : Json());
        }
      }
    if (groups.empty()) return;
    const auto both = [&](const std::array<Json, 2>& ours, const std::array<Json, 2>& paper) {
      return Json{{{"name", "pretrained"}, {"values", ours[0]}, {"paper", paper[0]}},
                  {{"name", "scratch"}, {"values", ours[1]}, {"paper", paper[1]}}};
    };
    figures.push_back(bars("figure9", "Figure 9. Pretrained and scratch: top-1 accuracy", "%", 2, groups,
                           both(top1, top1_paper)));
    figures.push_back(
        bars("figure10", "Figure 10. Pretrained and scratch: macro F1", "", 4, groups, both(f1, f1_paper)));
  }

  void add_trade_offs(Json& figures) const {
    const auto scatter = [&](const char* id, const char* title, const char* axis, const char* unit,
                             int digits, auto x) {
      Json points = Json::array();
      for (const std::string& data : data_)
        for (const std::string& model : models_)
          if (const CellResult* cell = best_start(model, data)) {
            const Figures f(*cell);
            if (const Json at = x(f); at.is_number() && f.top1().is_number())
              points.push_back({{"name", printed_model(model)},
                                {"group", printed_data(data)},
                                {"x", at},
                                {"y", f.top1()}});
          }
      if (points.empty()) return;
      figures.push_back({{"id", id},
                         {"kind", "scatter"},
                         {"title", title},
                         {"x", {{"title", axis}, {"unit", unit}, {"digits", digits}}},
                         {"y", {{"title", "top-1 accuracy"}, {"unit", "%"}, {"digits", 2}}},
                         {"points", points}});
    };
    scatter("accuracy-latency", "Accuracy against latency", "one image", "ms", 3,
            [](const Figures& f) { return f.single_ms(); });
    scatter("accuracy-macs", "Accuracy against work", "MACs at the data set's own resolution", "G", 4,
            [](const Figures& f) { return f.macs_native(); });
    scatter("accuracy-size", "Accuracy against size", "parameters in f32", "MiB", 2,
            [](const Figures& f) { return f.size_mib(); });
  }

  static std::string state_of(const CellResult& cell) {
    if (!cell.is_object()) return "not run yet";
    const std::string state = cell["state"];
    return state == "weights missing" ? "not run: weights missing" : state;
  }

  Json cells_table() const {
    Json table;
    table["id"] = "cells";
    table["title"] = "All cells";
    table["note"] = "One training run each.";
    table["columns"] = {text_column("cell", "cell"),
                        text_column("state", "state"),
                        number_column("top1", "top-1", 2, "%"),
                        number_column("macro_f1", "macro F1", 4),
                        number_column("epochs", "epochs", 0),
                        number_column("minutes", "training", 1, "min"),
                        text_column("error", "what went wrong")};
    table["rows"] = Json::array();
    for (size_t i = 0; i < plan_.cells.size(); ++i) {
      const Figures f(results_[i]);
      table["rows"].push_back({{"cell", plan_.cells[i].id},
                               {"state", state_of(results_[i])},
                               {"top1", f.top1()},
                               {"macro_f1", f.macro_f1()},
                               {"epochs", f.epochs()},
                               {"minutes", f.minutes()},
                               {"error", results_[i].is_object() ? results_[i].value("error", "") : ""}});
    }
    return table;
  }

  Json counts() const {
    Json counts = {{"planned", plan_.cells.size()}, {"done", 0}, {"failed", 0}, {"weights missing", 0}};
    int to_run = 0;
    for (const CellResult& cell : results_) {
      if (!cell.is_object())
        ++to_run;
      else
        counts[cell["state"].get<std::string>()] = counts[cell["state"].get<std::string>()].get<int>() + 1;
    }
    counts["not run yet"] = to_run;
    return counts;
  }

  Json devices() const {
    Json all = Json::array();
    for (const CellResult& cell : results_) {
      if (!done(cell)) continue;
      const Json& e = cell["evaluation"];
      const Json one = {{"name", e.value("device_name", "")},
                        {"device", e.value("device", "")},
                        {"precision", e.value("precision", "")}};
      if (std::find(all.begin(), all.end(), one) == all.end()) all.push_back(one);
    }
    return all;
  }

  Json cells() const {
    Json all = Json::array();
    for (size_t i = 0; i < plan_.cells.size(); ++i) {
      const StudyCell& planned = plan_.cells[i];
      Json cell = results_[i];
      if (!cell.is_object()) {
        cell = {
            {"id", planned.id}, {"model", planned.model}, {"data", planned.data}, {"start", planned.start()}};
        cell["state"] = "not run yet";
      }
      cell["network"] = printed_model(planned.model);
      cell["data_name"] = printed_data(planned.data);
      if (cell.contains("explanations"))
        for (Json& e : cell["explanations"])
          for (const char* key : {"image", "overlay"})
            e[key] = data_uri(fs::path(out_) / "cells" / planned.id / e.value(key, ""));
      // The report may be read elsewhere: places are relative to the study's folder.
      if (cell.contains("evaluation") && cell["evaluation"].contains("weights"))
        cell["evaluation"]["weights"] =
            fs::path(cell["evaluation"].value("weights", "")).lexically_proximate(fs::path(out_)).string();
      all.push_back(cell);
    }
    return all;
  }

  // Empty when the file is gone.
  static std::string data_uri(const fs::path& path) {
    constexpr char kDigits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    std::ifstream in(path, std::ios::binary);
    std::stringstream text;
    text << in.rdbuf();
    const std::string bytes = text.str();
    if (bytes.empty()) return "";
    std::string uri = "data:image/png;base64,";
    for (size_t i = 0; i < bytes.size(); i += 3) {
      uint32_t three = 0;
      for (size_t k = 0; k < 3; ++k) three = three << 8 | (i + k < bytes.size() ? uint8_t(bytes[i + k]) : 0u);
      for (size_t k = 0; k < 4; ++k) uri += i + k <= bytes.size() ? kDigits[three >> (18 - 6 * k) & 63] : '=';
    }
    return uri;
  }

  const StudyPlan& plan_;
  const std::vector<CellResult>& results_;
  std::string out_;
  std::vector<std::string> data_, models_;  // of the main groups
};

}  // namespace

nlohmann::ordered_json study_report(const StudyPlan& plan, const std::vector<CellResult>& results,
                                    const std::string& out) {
  return Reporter(plan, results, out).report();
}

}  // namespace plume::tools
