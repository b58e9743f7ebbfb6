// What a study found, as JSON, and from that as a web page, Markdown and CSV.
#pragma once
#include <string>
#include <vector>

#include "tools/study/cell.h"
#include "tools/study/plan.h"

namespace plume::tools {

// Everything that the page shows:
//   "title", "recipe", "devices" [{"name", "device", "precision"}],
//   "counts" {"planned", "done", "failed", ...}, "chance" [ids of cells that did no better than guessing]
//   "selection" {"validation", "test"}: how many cells' best epochs were chosen on which images
//   "tables" [{"id", "title", "note", "columns" [{"key", "title", "kind", "digits", "unit"}],
//     "rows" [{key: value}]}]
//   "figures": bars {"id", "kind", "title", "unit", "digits", "groups",
//     "series" [{"name", "values", "paper"}]} and
//     scatters {"id", "kind", "title", "x", "y", "points" [{"name", "group", "x", "y"}]}
//   "cells" [the cells' results, with the images of "explanations" as data URIs]
// Column kinds: text, number (null: not measured), difference (ours minus the paper's). `results` in the
// order of plan.cells; null for what has not been run.
Json study_report(const StudyPlan& plan, const std::vector<CellResult>& results, const std::string& out);

std::string report_as_markdown(const Json& report);
std::string report_as_csv(const Json& report);   // one line per cell
std::string report_as_page(const Json& report);  // one HTML file that needs no other

// OUT/report.html, report.md, cells.csv and study.json; each appears whole or not at all.
void write_report(const Json& report, const std::string& out);

}  // namespace plume::tools
