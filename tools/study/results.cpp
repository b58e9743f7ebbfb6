#include "tools/study/results.h"

#include <algorithm>
#include <cmath>

#include "engine/core/error.h"
#include "tools/study/paper.h"

namespace plume::tools {
namespace {

template <class Name>
void order(std::vector<std::string>& names, Name name_of) {
  const auto rank = [&](const std::string& name) {
    const auto rows = paper_rows();
    return std::find_if(rows.begin(), rows.end(), [&](const PaperRow& row) { return name_of(row) == name; }) -
           rows.begin();
  };
  std::stable_sort(names.begin(), names.end(),
                   [&](const auto& a, const auto& b) { return rank(a) < rank(b); });
}

}  // namespace

void remember(std::vector<std::string>& names, const std::string& name) {
  if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
}

bool CellFigures::at_chance() const {
  if (!done(cell_)) return false;
  const double images = evaluation_.value("images", 0.0);
  const double classes = double(evaluation_.value("per_class", Json::array()).size());
  const Json accuracy = scaled(evaluation_, "top1", 1);
  if (images < 1 || classes < 1 || !accuracy.is_number()) return false;
  const double chance = 1 / classes, deviation = std::sqrt(chance * (1 - chance) / images);
  return accuracy.get<double>() <= chance + 3 * deviation;
}

std::string CellFigures::selected_on() const {
  if (!done(cell_)) return "";
  if (selected_on_test()) return "the test images";
  return message("{} validation images", part("result").value("selection_images", int64_t(0)));
}

std::string marked(std::string_view name, const CellResult& cell) {
  return std::string(name) + (CellFigures(cell).at_chance() ? kChanceMark : "");
}

std::string state_of(const CellResult& cell) {
  if (!cell.is_object()) return "not run yet";
  if (CellFigures(cell).at_chance()) return "done, at chance";
  const std::string state = cell["state"];
  return state == "weights missing" ? "not run: weights missing" : state;
}

StudyResults::StudyResults(const StudyPlan& plan, const std::vector<CellResult>& results)
    : plan_(plan), results_(results) {
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

const CellResult* StudyResults::find(const std::string& id) const {
  for (size_t i = 0; i < plan_.cells.size(); ++i)
    if (plan_.cells[i].id == id) return &results_[i];
  return nullptr;
}

const CellResult* StudyResults::main(const std::string& model, const std::string& data,
                                     bool pretrained) const {
  for (const StudyGroup& group : plan_.groups)
    for (const StudyGroup::Entry& entry : group.entries) {
      const StudyCell* cell = plan_.find(entry.cell);
      if (!group.main || cell->model != model || cell->data != data || cell->pretrained != pretrained)
        continue;
      const CellResult* result = find(entry.cell);
      if (done(*result)) return result;
    }
  return nullptr;
}

const CellResult* StudyResults::best_start(const std::string& model, const std::string& data) const {
  const CellResult* pretrained = main(model, data, true);
  return pretrained ? pretrained : main(model, data, false);
}

int StudyResults::side(const std::string& data) const {
  for (const CellResult& cell : results_)
    if (done(cell) && cell["data"] == data) return cell.value("native_size", 0);
  return 0;
}

}  // namespace plume::tools
