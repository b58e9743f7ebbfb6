#include "tools/study/tables.h"

#include <algorithm>
#include <map>

#include "engine/core/error.h"
#include "tools/study/paper.h"

namespace plume::tools {
namespace {

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

std::string table_number(const std::string& data) {
  int number = 0;
  std::string_view before;
  for (const PaperRow& row : paper_rows()) {
    number += row.data != before;
    before = row.data;
    if (row.data == data) return message("Table {}. ", number);
  }
  return "";
}

Json accuracy_row(const CellResult& cell, const std::string& model, const std::string& data,
                  bool pretrained) {
  const CellFigures f(cell);
  Json top1_paper, f1_paper;
  if (pretrained) {
    if (const PaperRow* paper = find_paper_row(data, model))
      top1_paper = paper->accuracy, f1_paper = paper->macro_f1;
  } else if (const PaperScratch* paper = find_paper_scratch(data, model)) {
    top1_paper = paper->accuracy, f1_paper = paper->macro_f1;
  }
  return {{"network", marked(printed_model(model), cell)},
          {"chance", f.at_chance()},
          {"start", cell["start"]},
          {"top1", f.top1()},
          {"top1_paper", top1_paper},
          {"top1_difference", difference(f.top1(), top1_paper)},
          {"macro_f1", f.macro_f1()},
          {"macro_f1_paper", f1_paper},
          {"macro_f1_difference", difference(f.macro_f1(), f1_paper)},
          {"top5", f.top5()},
          {"top1_last", f.last_top1()},
          {"selected_on", f.selected_on()},
          {"epochs", f.epochs()},
          {"minutes", f.minutes()}};
}

Json accuracy_table(const StudyResults& results, const std::string& data) {
  const bool in_paper = !table_number(data).empty();
  Json table;
  table["id"] = "accuracy-" + data;
  table["title"] = table_number(data) + std::string(printed_data(data)) + ": accuracy";
  table["note"] =
      "On the test images, of the epoch that was best on the images named as selected on; last epoch: top-1 "
      "after training. Macro F1 is the unweighted mean over the classes.";
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
  columns.push_back(number_column("top1_last", "last epoch", 2, "%"));
  columns.push_back(text_column("selected_on", "selected on"));
  columns.push_back(number_column("epochs", "epochs", 0));
  columns.push_back(number_column("minutes", "training", 1, "min"));
  table["columns"] = columns;
  table["rows"] = Json::array();
  for (const std::string& model : results.models())
    for (const bool pretrained : {true, false})
      if (const CellResult* cell = results.main(model, data, pretrained))
        table["rows"].push_back(accuracy_row(*cell, model, data, pretrained));
  return table;
}

Json cost_table(const StudyResults& results, const std::string& data) {
  const bool in_paper = !table_number(data).empty();
  Json table, rows = Json::array();
  Json batch;
  for (const std::string& model : results.models()) {
    const CellResult* cell = results.best_start(model, data);
    if (!cell) continue;
    const CellFigures f(*cell);
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
  const int native = results.side(data);
  const std::string batch_title = batch.is_number() ? message("batch of {}", batch.get<int64_t>()) : "batch";
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
      std::string(in_paper ? "; the paper's FLOPs column holds MACs at the data set's own resolution" : "") +
      ". Size: parameters in f32. Peak: largest resident set of the process. Energy: where NVML reports "
      "it.";
  table["columns"] = columns;
  table["rows"] = rows;
  return table;
}

// Table 4 for every network that was run both ways.
Json starts_table(const StudyResults& results) {
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
  for (const std::string& data : results.data())
    for (const std::string& model : results.models()) {
      const CellResult *pretrained = results.main(model, data, true),
                       *scratch = results.main(model, data, false);
      if (!pretrained || !scratch) continue;
      const CellFigures a(*pretrained), b(*scratch);
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

Json ablation_table(const StudyResults& results, const StudyGroup& group) {
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
    const StudyCell* cell = results.plan().find(entry.cell);
    const CellResult& result = *results.find(entry.cell);
    const CellFigures f(result);
    const auto& [top1, macro_f1] =
        first.emplace(cell->data + ' ' + cell->model + ' ' + cell->start(), std::pair(f.top1(), f.macro_f1()))
            .first->second;
    table["rows"].push_back({{"data", printed_data(cell->data)},
                             {"network", printed_model(cell->model)},
                             {"start", cell->start()},
                             {"variant", marked(entry.variant, result)},
                             {"chance", f.at_chance()},
                             {"top1", f.top1()},
                             {"top1_difference", difference(f.top1(), top1)},
                             {"macro_f1", f.macro_f1()},
                             {"macro_f1_difference", difference(f.macro_f1(), macro_f1)},
                             {"epochs", f.epochs()},
                             {"state", state_of(result)}});
  }
  return table;
}

Json cells_table(const StudyResults& results) {
  Json table;
  table["id"] = "cells";
  table["title"] = "All cells";
  table["note"] =
      "One training run each; top-1 and macro F1 of the epoch that was best on what it was selected on.";
  table["columns"] = {text_column("cell", "cell"),
                      text_column("state", "state"),
                      number_column("top1", "top-1", 2, "%"),
                      number_column("macro_f1", "macro F1", 4),
                      text_column("selected_on", "selected on"),
                      number_column("epochs", "epochs", 0),
                      number_column("minutes", "training", 1, "min")};
  const auto went_wrong = [](const CellResult& cell) {
    return cell.is_object() && !cell.value("error", "").empty();
  };
  if (std::any_of(results.cells().begin(), results.cells().end(), went_wrong))
    table["columns"].push_back(text_column("error", "what went wrong"));
  table["rows"] = Json::array();
  for (size_t i = 0; i < results.plan().cells.size(); ++i) {
    const CellFigures f(results.cells()[i]);
    table["rows"].push_back(
        {{"cell", results.plan().cells[i].id},
         {"state", state_of(results.cells()[i])},
         {"top1", f.top1()},
         {"macro_f1", f.macro_f1()},
         {"selected_on", f.selected_on()},
         {"epochs", f.epochs()},
         {"minutes", f.minutes()},
         {"error", results.cells()[i].is_object() ? results.cells()[i].value("error", "") : ""}});
  }
  return table;
}

// Explains the mark where a row carries it.
Json explained(Json table) {
  for (const Json& row : table["rows"])
    for (const auto& [key, value] : row.items())
      if (value.is_string() && value.get<std::string>().ends_with(kChanceMark)) {
        table["note"] = table["note"].get<std::string>() + kChanceNote;
        return table;
      }
  return table;
}

}  // namespace

Json study_tables(const StudyResults& results) {
  Json tables = Json::array();
  for (const std::string& data : results.data()) {
    tables.push_back(explained(accuracy_table(results, data)));
    tables.push_back(cost_table(results, data));
  }
  if (Json table = starts_table(results); !table["rows"].empty()) tables.push_back(table);
  for (const StudyGroup& group : results.plan().groups)
    if (!group.main && !group.entries.empty()) tables.push_back(explained(ablation_table(results, group)));
  tables.push_back(cells_table(results));
  return tables;
}

}  // namespace plume::tools
