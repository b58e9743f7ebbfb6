#include "tools/study/figures.h"

#include <algorithm>
#include <array>
#include <map>

#include "engine/core/error.h"
#include "tools/study/paper.h"

namespace plume::tools {
namespace {

Json bars(const std::string& id, const std::string& title, const char* unit, int digits, const Json& groups,
          const Json& series) {
  return {{"id", id},         {"kind", "bars"},   {"title", title},  {"unit", unit},
          {"digits", digits}, {"groups", groups}, {"series", series}};
}

// One that the paper has too; it says so where the paper's values stand beside ours.
Json paper_bars(int number, const std::string& title, const char* unit, int digits, const Json& groups,
                const Json& series) {
  const auto is_number = [](const Json& value) { return value.is_number(); };
  bool beside = false;
  for (const Json& one : series) {
    const Json paper = one.value("paper", Json::array());
    beside = beside || std::any_of(paper.begin(), paper.end(), is_number);
  }
  return bars(message("figure{}", number),
              title + (beside ? message(" (the paper's Figure {})", number) : ""), unit, digits, groups,
              series);
}

void add_start_figures(const StudyResults& results, Json& figures) {
  Json groups = Json::array();
  std::array<Json, 2> top1{Json::array(), Json::array()}, f1 = top1, top1_paper = top1, f1_paper = top1;
  for (const std::string& data : results.data())
    for (const std::string& model : results.models()) {
      const CellResult *pretrained = results.main(model, data, true),
                       *scratch = results.main(model, data, false);
      if (!pretrained || !scratch) continue;
      groups.push_back(message("{}, {}", printed_model(model), printed_data(data)));
      const PaperScratch* paper = find_paper_scratch(data, model);
      const PaperRow* tuned = paper ? find_paper_row(data, model) : nullptr;
      for (const size_t i : {size_t{0}, size_t{1}}) {
        const CellFigures f(i == 0 ? *pretrained : *scratch);
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
  figures.push_back(
      paper_bars(9, "Pretrained and scratch: top-1 accuracy", "%", 2, groups, both(top1, top1_paper)));
  figures.push_back(paper_bars(10, "Pretrained and scratch: macro F1", "", 4, groups, both(f1, f1_paper)));
}

void add_trade_offs(const StudyResults& results, Json& figures) {
  const auto scatter = [&](const char* id, const char* title, const char* axis, const char* unit, int digits,
                           auto x) {
    Json points = Json::array();
    for (const std::string& data : results.data())
      for (const std::string& model : results.models())
        if (const CellResult* cell = results.best_start(model, data)) {
          const CellFigures f(*cell);
          if (const Json at = x(f); at.is_number() && f.top1().is_number())
            points.push_back(
                {{"name", printed_model(model)}, {"group", printed_data(data)}, {"x", at}, {"y", f.top1()}});
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
          [](const CellFigures& f) { return f.single_ms(); });
  scatter("accuracy-macs", "Accuracy against work", "MACs at the data set's own resolution", "G", 4,
          [](const CellFigures& f) { return f.macs_native(); });
  scatter("accuracy-size", "Accuracy against size", "parameters in f32", "MiB", 2,
          [](const CellFigures& f) { return f.size_mib(); });
}

void add_main_figures(const StudyResults& results, Json& figures) {
  Json groups = Json::array();
  for (const std::string& model : results.models()) groups.push_back(printed_model(model));
  const auto by_data = [&](auto ours, auto papers) {
    Json series = Json::array();
    for (const std::string& data : results.data()) {
      Json values = Json::array(), paper = Json::array();
      bool any = false;
      for (const std::string& model : results.models()) {
        const CellResult* cell = results.best_start(model, data);
        const PaperRow* row = find_paper_row(data, model);
        values.push_back(cell ? ours(CellFigures(*cell)) : Json());
        paper.push_back(row ? Json(papers(*row)) : Json());
        any = any || row;
      }
      Json one = {{"name", printed_data(data)}, {"values", values}};
      if (any) one["paper"] = paper;
      series.push_back(one);
    }
    return series;
  };
  figures.push_back(paper_bars(6, "Top-1 accuracy", "%", 2, groups,
                               by_data([](const CellFigures& f) { return f.top1(); },
                                       [](const PaperRow& row) { return row.accuracy; })));
  figures.push_back(paper_bars(7, "Macro F1", "", 4, groups,
                               by_data([](const CellFigures& f) { return f.macro_f1(); },
                                       [](const PaperRow& row) { return row.macro_f1; })));
  figures.push_back(paper_bars(8, "Model size", "MiB", 2, groups,
                               by_data([](const CellFigures& f) { return f.size_mib(); },
                                       [](const PaperRow& row) { return row.size_mib; })));
  add_start_figures(results, figures);
  add_trade_offs(results, figures);
}

Json ablation_figure(const StudyResults& results, const StudyGroup& group, const char* key, const char* title,
                     const char* unit, int digits) {
  std::vector<std::string> groups, variants;
  std::map<std::string, std::map<std::string, Json>> values;
  for (const StudyGroup::Entry& entry : group.entries) {
    const StudyCell* cell = results.plan().find(entry.cell);
    const std::string name =
        message("{}, {}, {}", printed_model(cell->model), printed_data(cell->data), cell->start());
    remember(groups, name);
    remember(variants, entry.variant);
    const CellFigures f(*results.find(entry.cell));
    values[entry.variant][name] = std::string_view(key) == "top1" ? f.top1() : f.macro_f1();
  }
  Json series = Json::array();
  for (const std::string& variant : variants) {
    Json row = Json::array();
    for (const std::string& name : groups) row.push_back(values[variant][name]);
    series.push_back({{"name", variant}, {"values", row}});
  }
  return bars("ablation-" + group.name + "-" + key, group.title + ": " + title, unit, digits, groups, series);
}

}  // namespace

Json study_figures(const StudyResults& results) {
  Json figures = Json::array();
  add_main_figures(results, figures);
  for (const StudyGroup& group : results.plan().groups)
    if (!group.main && !group.entries.empty()) {
      figures.push_back(ablation_figure(results, group, "top1", "top-1 accuracy", "%", 2));
      figures.push_back(ablation_figure(results, group, "macro_f1", "macro F1", "", 4));
    }
  return figures;
}

}  // namespace plume::tools
