#include "tools/study/report.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "engine/core/error.h"
#include "tools/study/figures.h"
#include "tools/study/paper.h"
#include "tools/study/results.h"
#include "tools/study/tables.h"

namespace plume::tools {
namespace {

namespace fs = std::filesystem;
// Empty when the file is gone.
std::string data_uri(const fs::path& path) {
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

Json counts(const StudyResults& results) {
  Json counts = {
      {"planned", results.plan().cells.size()}, {"done", 0}, {"failed", 0}, {"weights missing", 0}};
  int to_run = 0;
  for (const CellResult& cell : results.cells()) {
    if (!cell.is_object())
      ++to_run;
    else
      counts[cell["state"].get<std::string>()] = counts[cell["state"].get<std::string>()].get<int>() + 1;
  }
  counts["not run yet"] = to_run;
  return counts;
}

// Ids of the cells that learnt nothing.
Json at_chance(const StudyResults& results) {
  Json ids = Json::array();
  for (size_t i = 0; i < results.cells().size(); ++i)
    if (CellFigures(results.cells()[i]).at_chance()) ids.push_back(results.plan().cells[i].id);
  return ids;
}

// How many cells were selected on what.
Json selection(const StudyResults& results) {
  Json counts = {{"validation", 0}, {"test", 0}};
  for (const CellResult& cell : results.cells()) {
    if (!done(cell)) continue;
    Json& count = counts[CellFigures(cell).selected_on_test() ? "test" : "validation"];
    count = count.get<int>() + 1;
  }
  return counts;
}

Json devices(const StudyResults& results) {
  Json all = Json::array();
  for (const CellResult& cell : results.cells()) {
    if (!done(cell)) continue;
    const Json& e = cell["evaluation"];
    // The machine's threads are in its name, but a study may use fewer.
    const std::string used =
        e.contains("cpu_threads") ? message(", {} used", e["cpu_threads"].get<int>()) : "";
    const Json one = {{"name", e.value("device_name", "") + used},
                      {"device", e.value("device", "")},
                      {"precision", e.value("precision", "")}};
    if (std::find(all.begin(), all.end(), one) == all.end()) all.push_back(one);
  }
  return all;
}

Json cells(const StudyResults& results, const std::string& out) {
  Json all = Json::array();
  for (size_t i = 0; i < results.plan().cells.size(); ++i) {
    const StudyCell& planned = results.plan().cells[i];
    Json cell = results.cells()[i];
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
          e[key] = data_uri(fs::path(out) / "cells" / planned.id / e.value(key, ""));
    // The report may be read elsewhere: places are relative to the study's folder.
    if (cell.contains("evaluation") && cell["evaluation"].contains("weights"))
      cell["evaluation"]["weights"] =
          fs::path(cell["evaluation"].value("weights", "")).lexically_proximate(fs::path(out)).string();
    all.push_back(cell);
  }
  return all;
}

}  // namespace

Json study_report(const StudyPlan& plan, const std::vector<CellResult>& cell_results,
                  const std::string& out) {
  const StudyResults results(plan, cell_results);
  Json r;
  r["title"] = plan.title;
  r["about"] = plan.about;
  r["recipe"] = fs::path(plan.recipe).filename().string();
  r["devices"] = devices(results);
  r["counts"] = counts(results);
  r["chance"] = at_chance(results);
  r["selection"] = selection(results);
  r["tables"] = study_tables(results);
  r["figures"] = study_figures(results);
  r["cells"] = cells(results, out);
  return r;
}

}  // namespace plume::tools
