#include "tools/training/epoch_report.h"

#include <fmt/core.h>

#include <ctime>

#include "tools/cli/json.h"

namespace plume::tools {
namespace {

Json json_of(const TestedWeights& w) {
  return {{"epoch", w.epoch},
          {"selected_top1", w.selected_top1},
          {"test_loss", w.loss},
          {"test_top1", w.top1},
          {"test_macro_f1", w.macro_f1}};
}

std::string percent(const Json& from, const char* key) {
  const Json share = from.value(key, Json());
  return share.is_number() ? fmt::format("{:.2f} %", 100 * share.get<double>()) : "unknown";
}

}  // namespace

Json epoch_line(const EpochFigures& f) {
  const double images = double(f.done.images);
  const std::string set = f.selection.set();
  Json line;
  line["epoch"] = f.done.epoch + 1;
  line["step"] = f.done.step;
  line["train_loss"] = f.done.loss_sum / images;
  line["train_top1"] = f.mixed ? Json() : Json(double(f.done.correct) / images);
  line[set + "_loss"] = f.evaluation.loss;
  line[set + "_top1"] = f.evaluation.metrics.accuracy();
  line[set + "_macro_f1"] = f.evaluation.metrics.macro_f1();
  line["best_top1"] = f.best_accuracy;
  line["selected_on"] = set;
  line["learning_rate"] = f.learning_rate;
  line["images_per_second"] = images / f.done.seconds;
  line["data_wait_seconds"] = f.done.wait_seconds;
  line["data_wait_percent"] = 100 * f.done.wait_seconds / f.done.seconds;
  line["train_seconds"] = f.done.seconds;
  line[set + "_seconds"] = f.evaluation.seconds;
  line["peak_memory_bytes"] = f.peak_memory;
  if (f.scaling) {
    line["skipped_steps"] = int64_t(f.scaling->skipped);
    line["loss_scale"] = f.scaling->loss_scale;
  }
  line["unix_time"] = std::time(nullptr);
  return line;
}

std::string epoch_text(const Json& line, int64_t epochs) {
  const auto number = [&](const std::string& key) { return line[key].get<double>(); };
  const std::string set = line["selected_on"];
  std::string text =
      fmt::format("epoch {}/{}: loss {:.4f}", line["epoch"].get<int64_t>(), epochs, number("train_loss"));
  if (line["train_top1"].is_number()) text += fmt::format(", top-1 {:.2f} %", 100 * number("train_top1"));
  if (line.contains("skipped_steps"))
    text += fmt::format(", {} steps skipped so far", line["skipped_steps"].get<int64_t>());
  return text +
         fmt::format(
             "; {0} loss {1:.4f}, {0} top-1 {2:.2f} %, macro F1 {3:.4f}; lr {4:.3g}, {5:.0f} images/s, data "
             "wait {6:.1f} %",
             set, number(set + "_loss"), 100 * number(set + "_top1"), number(set + "_macro_f1"),
             number("learning_rate"), number("images_per_second"), number("data_wait_percent"));
}

void TestedWeights::take(const Evaluation& tested) {
  loss = tested.loss;
  top1 = tested.metrics.accuracy();
  macro_f1 = tested.metrics.macro_f1();
}

Json to_json(const RunResult& r) {
  return {{"selected_on", r.selected_on},
          {"selection", r.about},
          {"selection_images", r.selection_images},
          {"test_split", r.test_split},
          {"test_images", r.test_images},
          {"test_seconds", r.test_seconds},
          {"best", json_of(r.best)},
          {"last", json_of(r.last)}};
}

Json result_line(const RunResult& r, const RunState& state) {
  Json line;
  line["epoch"] = state.epoch;
  line["step"] = state.step;
  line["selected_on"] = r.selected_on;
  line["best_epoch"] = r.best.epoch;
  line["test_images"] = r.test_images;
  for (const auto& [name, weights] : {std::pair("best", &r.best), std::pair("last", &r.last)}) {
    const std::string before = std::string("test_") + name;
    line[before + "_loss"] = weights->loss;
    line[before + "_top1"] = weights->top1;
    line[before + "_macro_f1"] = weights->macro_f1;
  }
  line["test_seconds"] = r.test_seconds;
  line["unix_time"] = std::time(nullptr);
  return line;
}

std::string result_text(const Json& r) {
  const Json &best = r["best"], &last = r["last"];
  const int64_t images = r.value("test_images", int64_t(0));
  const bool peeked = r.value("selected_on", "") == "test";
  const std::string head =
      peeked ? fmt::format("selected and measured on the same {} images of {} (--validation 0)", images,
                           r.value("test_split", "test"))
             : fmt::format("selected on {}, tested once on {}{}", r.value("selection", ""), images,
                           r.value("test_split", "test") == "test" ? "" : " of val");
  return fmt::format("{}: best (epoch {}{}) {}, last {}", head, best.value("epoch", int64_t(0)),
                     peeked ? ", flattered by the choice" : "", percent(best, "test_top1"),
                     percent(last, "test_top1"));
}

}  // namespace plume::tools
