#include <filesystem>

#include "engine/core/error.h"
#include "engine/files/atomic_file.h"
#include "tools/cli/csv.h"
#include "tools/cli/json.h"
#include "tools/study/embedded.h"
#include "tools/study/report.h"

namespace plume::tools {
namespace {

// As the page's script prints it.
std::string printed_value(const Json& row, const Json& column) {
  const auto value = row.find(column["key"].get<std::string>());
  if (value == row.end() || value->is_null()) return "–";
  if (value->is_string()) return *value;
  const std::string kind = column["kind"];
  char text[64];
  std::snprintf(text, sizeof text, kind == "difference" ? "%+.*f" : "%.*f", column.value("digits", 0),
                value->get<double>());
  return text;
}

std::string heading(const Json& column) {
  const std::string title = column["title"], unit = column.value("unit", "");
  return unit.empty() ? title : title + " (" + unit + ")";
}

// "The best epoch of one cell was", "The best epochs of 3 cells were"
std::string of_cells(int cells) {
  return cells == 1 ? " of one cell was" : message("s of {} cells were", cells);
}

std::string markdown_cell(std::string text) {
  for (size_t at = 0; (at = text.find_first_of("|\n", at)) != std::string::npos; at += 2)
    text.replace(at, 1, text[at] == '|' ? "\\|" : "; ");
  return text;
}

std::string markdown_table(const Json& table) {
  std::string out =
      "## " + table["title"].get<std::string>() + "\n\n" + table["note"].get<std::string>() + "\n\n|";
  std::string rule = "|";
  for (const Json& column : table["columns"]) {
    out += message(" {} |", markdown_cell(heading(column)));
    rule += column["kind"] == "text" ? "---|" : "---:|";
  }
  out += message("\n{}\n", rule);
  for (const Json& row : table["rows"]) {
    out += "|";
    for (const Json& column : table["columns"])
      out += message(" {} |", markdown_cell(printed_value(row, column)));
    out += "\n";
  }
  return out + "\n";
}

// Inside <script type="application/json"> only "</" and "<!--" could end or change the element.
std::string inline_json(const Json& json) {
  std::string text = to_text(json);
  for (size_t at = 0; (at = text.find('<', at)) != std::string::npos; at += 6) text.replace(at, 1, "\\u003c");
  return text;
}

void fill(std::string& page, const std::string& mark, const std::string& content) {
  const size_t at = page.find(mark);
  PLUME_CHECK(at != std::string::npos, "report: the page has no {}", mark);
  page.replace(at, mark.size(), content);
}

}  // namespace

std::string report_as_markdown(const Json& report) {
  std::string out = message("# {}\n\n", report["title"].get<std::string>());
  if (const std::string about = report.value("about", ""); !about.empty()) out += about + "\n\n";
  for (const Json& d : report["devices"])
    out += message("Measured on {} ({}), {}.\n", d["name"].get<std::string>(), d["device"].get<std::string>(),
                   d["precision"].get<std::string>());
  const Json& counts = report["counts"];
  out += message(
      "{} of {} cells (training runs) are done, {} failed, {} lack weights, {} are still to be run.\n\n",
      counts["done"].get<int>(), counts["planned"].get<int>(), counts["failed"].get<int>(),
      counts["weights missing"].get<int>(), counts["not run yet"].get<int>());
  if (const size_t cells = report["chance"].size())
    out += message(
        "**{} cell{} at chance: no better than guessing. Train longer, on more images, or at another "
        "rate.**\n\n",
        cells, cells == 1 ? " is" : "s are");
  if (const int cells = report["selection"]["validation"].get<int>(); cells > 0)
    out += message(
        "The best epoch{} chosen on validation images; test images were looked at once, at the end.\n\n",
        of_cells(cells));
  if (const int cells = report["selection"]["test"].get<int>(); cells > 0)
    out += message("The best epoch{} chosen on the test images, which flatters them.\n\n", of_cells(cells));
  for (const Json& table : report["tables"]) out += markdown_table(table);
  return out;
}

std::string report_as_csv(const Json& report) {
  constexpr const char *kCell[] = {"id",          "model",       "data",     "start",  "state",
                                   "native_size", "macs_native", "macs_224", "seconds"},
                       *kEvaluation[] = {"device", "device_name", "precision", "images",     "top1",
                                         "top5",   "macro_f1",    "loss",      "parameters", "size_mb"};
  const auto text = [](const Json& from, const char* key) {
    const Json value = from.is_object() ? from.value(key, Json()) : Json();
    return value.is_null() ? "" : csv_cell(value.is_string() ? value.get<std::string>() : to_text(value));
  };
  std::string out;
  for (const char* key : kCell) out += std::string(key) + ",";
  for (const char* key : kEvaluation) out += std::string(key) + ",";
  out +=
      "single_ms,batch,batch_ms_per_image,energy_mj_per_image,peak_train_bytes,peak_evaluate_bytes,epochs,"
      "selected_on,selection_images,last_top1,error\n";
  for (const Json& cell : report["cells"]) {
    const Json evaluation = cell.value("evaluation", Json::object()),
               peak = cell.value("peak_memory_bytes", Json::object());
    Json result = cell.value("result", Json::object());
    if (!result.is_object()) result = Json::object();
    const Json latency = evaluation.value("latency", Json::array());
    for (const char* key : kCell) out += text(cell, key) + ",";
    for (const char* key : kEvaluation) out += text(evaluation, key) + ",";
    const Json first = latency.empty() ? Json() : latency.front(),
               last = latency.empty() ? Json() : latency.back();
    out += text(first, "median_ms") + "," + text(last, "batch") + "," + text(last, "median_ms_per_image") +
           "," + text(peak, "train") + "," + text(peak, "evaluate") + "," +
           std::to_string(cell.value("curve", Json::array()).size()) + "," + text(result, "selected_on") +
           "," + text(result, "selection_images") + "," + text(result.value("last", Json()), "test_top1") +
           "," + text(cell, "error") + "\n";
  }
  return out;
}

std::string report_as_page(const Json& report) {
  std::string page(kReportPage);
  fill(page, "<!--style-->", "<style>\n" + std::string(kReportStyle) + "</style>");
  fill(page, "<!--script-->", "<script>\n" + std::string(kReportScript) + "</script>");
  fill(page, "<!--data-->",
       "<script type=\"application/json\" id=\"data\">" + inline_json(report) + "</script>");
  return page;
}

void write_report(const Json& report, const std::string& out) {
  const auto file = [&](const char* name) { return (std::filesystem::path(out) / name).string(); };
  write_file_atomically(file("study.json"), to_text(report) + "\n");
  write_file_atomically(file("report.md"), report_as_markdown(report));
  write_file_atomically(file("cells.csv"), report_as_csv(report));
  write_file_atomically(file("report.html"), report_as_page(report));
}

}  // namespace plume::tools
