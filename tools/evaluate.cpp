// evaluate: accuracy, per-class figures, confusion matrix, latency and cost of a trained network.
#include <fmt/core.h>

#include <cstdio>

#include "data/sets/registry.h"
#include "engine/core/text.h"
#include "engine/files/atomic_file.h"
#include "models/registry.h"
#include "tools/cli/json.h"
#include "tools/cli/main.h"
#include "tools/cli/model.h"
#include "tools/cli/signals.h"
#include "tools/training/checkpoint.h"
#include "tools/training/evaluation.h"
#include "tools/training/run_data.h"

namespace {

using namespace plume;
using tools::Json;

struct Subject {
  std::string checkpoint, model, stem = "imagenet", weights;
  std::string data, data_dir, cache_dir, split, precision;
};

Json to_json(const tools::Latency& l) {
  Json json = {{"batch", l.batch},      {"samples", l.samples},
               {"median_ms", l.median}, {"p95_ms", l.p95},
               {"p99_ms", l.p99},       {"median_ms_per_image", l.median / double(l.batch)}};
  if (l.joules_per_image) json["energy_mj_per_image"] = *l.joules_per_image * 1e3;
  return json;
}

int64_t support(const ClassificationMetrics& m, int label) {
  int64_t images = 0;
  for (int predicted = 0; predicted < m.classes(); ++predicted) images += m.confusion(label, predicted);
  return images;
}

Json per_class(const ClassificationMetrics& m, const std::vector<std::string>& names) {
  Json rows = Json::array();
  for (int c = 0; c < m.classes(); ++c)
    rows.push_back({{"class", names[size_t(c)]},
                    {"precision", m.precision(c)},
                    {"recall", m.recall(c)},
                    {"f1", m.f1(c)},
                    {"support", support(m, c)}});
  return rows;
}

Json confusion(const ClassificationMetrics& m) {
  Json rows = Json::array();
  for (int label = 0; label < m.classes(); ++label) {
    Json row = Json::array();
    for (int predicted = 0; predicted < m.classes(); ++predicted)
      row.push_back(m.confusion(label, predicted));
    rows.push_back(row);
  }
  return rows;
}

void print_row(const char* what, const std::string& value) { std::printf("%-16s %s\n", what, value.c_str()); }

void print_report(const Json& r, const ClassificationMetrics& m, const data::Dataset& dataset) {
  const std::vector<std::string>& names = dataset.class_names();
  const data::DatasetDescription set = dataset.description();
  constexpr int kMostClasses = 20;  // beyond, per-class figures are in the JSON only
  print_row("model", fmt::format("{} ({})", r["model"].get<std::string>(), r["weights"].get<std::string>()));
  print_row("data", fmt::format("{}, {} split, {} images", r["data"].get<std::string>(),
                                r["split"].get<std::string>(), m.count()));
  if (!set.folder.empty()) print_row("folder", printable(set.folder));
  if (!set.left_out.empty()) print_row("left out", to_line(set.left_out));
  print_row("device",
            fmt::format("{}: {}", r["device"].get<std::string>(), r["device_name"].get<std::string>()));
  print_row("top-1 accuracy", fmt::format("{:.2f} %", 100 * m.accuracy()));
  print_row(fmt::format("top-{} accuracy", m.top_k()).c_str(),
            fmt::format("{:.2f} %", 100 * m.top_k_accuracy()));
  print_row("macro F1",
            fmt::format("{:.4f} (mean over the {} of {} classes that occur among labels or predictions)",
                        m.macro_f1(), m.occurring_classes(), m.classes()));
  print_row("loss", fmt::format("{:.4f}", r["loss"].get<double>()));
  for (const Json& l : r["latency"])
    print_row(
        "time per image",
        fmt::format("{:.3f} ms at batch {} (batch: median {:.3f}, p95 {:.3f}, p99 {:.3f} ms)",
                    l["median_ms_per_image"].get<double>(), l["batch"].get<int64_t>(),
                    l["median_ms"].get<double>(), l["p95_ms"].get<double>(), l["p99_ms"].get<double>()));
  print_row("MACs per image", fmt::format("{:.4f} G (convolutions and linear layers; FLOPs are twice that)",
                                          r["macs"].get<double>() * 1e-9));
  print_row("parameters", fmt::format("{}", r["parameters"].get<int64_t>()));
  print_row("size", fmt::format("{:.2f} MB", r["size_mb"].get<double>()));
  if (m.classes() > kMostClasses) return;
  fmt::print("\n{:<14} {:>9} {:>9} {:>9} {:>7}   predicted as\n", "class", "precision", "recall", "F1",
             "images");
  for (int c = 0; c < m.classes(); ++c) {
    fmt::print("{:<14} {:>9.4f} {:>9.4f} {:>9.4f} {:>7}  ", printable(names[size_t(c)]), m.precision(c),
               m.recall(c), m.f1(c), support(m, c));
    for (int p = 0; p < m.classes(); ++p) fmt::print(" {:>5}", m.confusion(c, p));
    fmt::print("\n");
  }
}

int run(tools::Flags& flags) {
  Subject s;
  std::string json_path;
  int64_t batch = 128, workers = 2, limit = 0, image_size = 0, skip_bad = 0;
  double latency_seconds = 2;
  flags.text("--checkpoint", s.checkpoint, "last.safetensors or best.safetensors of a run folder");
  flags.choice("--model", s.model, model_names(), "network, with --weights");
  flags.choice("--stem", s.stem, {"imagenet", "cifar"}, "first layers, with --model");
  flags.text("--weights", s.weights, "weights of the model: safetensors or .pth file");
  tools::WeightsFlags weights_flags(flags);
  flags.choice("--data", s.data, data::dataset_names(), "data set (default: the checkpoint's)");
  flags.text("--data-dir", s.data_dir, "folder of the data set's files");
  flags.text("--cache-dir", s.cache_dir, "folder for decoded images (default: ~/.cache/plume)");
  flags.whole("--skip-bad", skip_bad, 0, INT64_MAX, "leave out at most N unreadable images");
  flags.choice("--precision", s.precision, {"f32", "bf16", "f16"},
               "of activations (default: the checkpoint's, or f32)");
  flags.choice("--split", s.split, {"train", "val", "test"},
               "which images (default: test where there is one, otherwise val)");
  flags.whole("--image-size", image_size, 0, 4096,
              "side of the network's input (default: the checkpoint's); 0: as the images are");
  flags.whole("--batch", batch, 1, 65'536, "images at once");
  flags.whole("--workers", workers, 0, 256, "loader threads");
  flags.whole("--limit", limit, 0, INT64_MAX, "only the first N images; 0 for all");
  flags.number("--latency-seconds", latency_seconds, 0, 3600, "of timing per batch size; 0 for none");
  flags.text("--json", json_path, "file for the figures");
  tools::DeviceFlags device_flags(flags);
  flags.parse();
  PLUME_CHECK(s.checkpoint.empty() != s.model.empty() && s.model.empty() == s.weights.empty(),
              "give either --checkpoint or --model with --weights");
  for (const char* name : {"--weights-key", "--ignore"})
    PLUME_CHECK(s.checkpoint.empty() || !flags.given(name), "{}: is for --weights", name);
  PLUME_CHECK(json_path.empty() || (json_path != s.checkpoint && json_path != s.weights),
              "--json {}: is the input file", json_path);
  tools::catch_signals();
  const Device device = device_flags.open();

  const std::string source = s.checkpoint.empty() ? s.weights : s.checkpoint;
  std::unique_ptr<Module> model;
  if (s.checkpoint.empty()) {
    PLUME_CHECK(!s.data.empty(), "--data: the data set is not given");
    model = tools::model_from_weights(s.model, parse_stem(s.stem), s.weights, weights_flags.options());
  } else {
    const tools::RunDescription stored = tools::describe_run(s.checkpoint);
    s.model = stored.recipe.model;
    if (s.data.empty()) s.data = stored.recipe.data;
    if (s.precision.empty()) s.precision = stored.recipe.precision;
    if (!flags.given("--image-size")) image_size = stored.recipe.image_size;
    model = make_model(s.model,
                       {.num_classes = int(stored.state.classes), .stem = parse_stem(stored.recipe.stem)});
    tools::load_weights(s.checkpoint, *model);
  }
  const DType precision = tools::parse_precision(s.precision.empty() ? "f32" : s.precision);
  data::MeasuredSplit measured;
  if (s.split.empty())
    measured = data::measured_split(s.data, s.data_dir);
  else
    measured.split = data::parse_split(s.split);
  if (!measured.note.empty()) tools::log_line(measured.note);
  const auto dataset =
      data::open_dataset(s.data, s.data_dir, measured.split,
                         {.count = limit,
                          .skip_bad = skip_bad,
                          .shorter_side = s.data == "imagefolder" ? tools::resized_side(image_size) : 0,
                          .cache_dir = s.cache_dir,
                          .log = tools::log_line});
  const std::vector<NamedParameter> parameters = model->parameters();
  const int64_t classes = parameters.back().variable.value().dim(0);
  if (classes != dataset->classes())
    fail(ErrorKind::bad_input, "{}: tells {} classes apart, {} has {}", source, classes, s.data,
         dataset->classes());
  PLUME_CHECK(image_size > 0 || dataset->uniform(),
              "--image-size: the images of {} are of different sizes: say which one the network takes",
              s.data);
  model->to(device);

  data::Loader loader = tools::evaluation_loader(dataset, batch, int(workers), limit, image_size);
  const tools::Evaluation e = tools::evaluate(*model, loader, device, precision);
  const int height = int(image_size > 0 ? image_size : dataset->height());
  const int width = int(image_size > 0 ? image_size : dataset->width());
  Json report;
  report["model"] = s.model;
  report["weights"] = source;
  report["data"] = s.data;
  const tools::Json described = tools::to_json(dataset->description());
  for (const char* key : {"split", "folder", "left_out"}) report[key] = described[key];
  report["device"] = name(device);
  report["device_name"] = backend(device).describe();
  report["precision"] = name(precision);
  report["height"] = height;
  report["width"] = width;
  report["images"] = e.metrics.count();
  report["top1"] = e.metrics.accuracy();
  report["top" + std::to_string(e.metrics.top_k())] = e.metrics.top_k_accuracy();
  report["macro_f1"] = e.metrics.macro_f1();
  report["macro_f1_definition"] = "mean of F1 over the classes that occur among labels or predictions";
  report["macro_f1_classes"] = e.metrics.occurring_classes();
  report["loss"] = e.loss;
  report["macs"] = tools::count_model_macs(*model, device, height, width);
  report["flops"] = 2 * report["macs"].get<int64_t>();
  report["parameters"] = model->parameter_count();
  report["size_mb"] = double(tools::state_bytes(*model)) * 1e-6;
  report["latency"] = Json::array();
  if (latency_seconds > 0) {
    std::vector<int64_t> batches = {1};
    if (batch > 1) batches.push_back(batch);
    for (const int64_t b : batches)
      report["latency"].push_back(
          to_json(tools::measure_latency(*model, device, b, height, width, latency_seconds, precision)));
  }
  report["per_class"] = per_class(e.metrics, dataset->class_names());
  report["confusion"] = confusion(e.metrics);
  if (const int signal = tools::stop_signal()) {
    tools::log_line("interrupted; nothing is written");
    return 128 + signal;
  }
  print_report(report, e.metrics, *dataset);
  if (!json_path.empty()) {
    write_file_atomically(json_path, tools::to_text(report, 2) + "\n");
    std::printf("\nwrote %s\n", json_path.c_str());
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  return plume::tools::run_tool(argc, argv, "Measures a trained image classifier.", run);
}
