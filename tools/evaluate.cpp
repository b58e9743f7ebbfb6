// evaluate: accuracy, per-class figures, confusion matrix, latency and cost of a trained network.
#include <fmt/core.h>

#include <algorithm>
#include <cstdio>
#include <utility>

#include "data/sets/registry.h"
#include "engine/core/text.h"
#include "engine/core/thread_pool.h"
#include "engine/files/atomic_file.h"
#include "models/registry.h"
#include "tools/cli/json.h"
#include "tools/cli/main.h"
#include "tools/cli/model.h"
#include "tools/cli/preprocessing.h"
#include "tools/cli/signals.h"
#include "tools/cli/tensors.h"
#include "tools/training/checkpoint.h"
#include "tools/training/evaluation.h"
#include "tools/training/run_data.h"

namespace {

using namespace plume;
using tools::Json;

struct Request {
  std::string checkpoint, model, stem = "imagenet", weights, labels;
  std::string data, data_dir, cache_dir, split, precision, json, logits;
  int64_t batch = 128, workers = 2, limit = 0, skip_bad = 0;
  double latency_seconds = 2;

  const std::string& source() const { return checkpoint.empty() ? weights : checkpoint; }
};

// A network and what its weights say about it.
struct Subject {
  std::unique_ptr<Module> model;
  std::string name;
  tools::NetworkDescription network;
  int64_t classes = 0;
  // Images as they are, whatever their size: an older checkpoint says no more.
  bool own_size = false;
};

Json to_json(const tools::Latency& l) {
  const auto of = [&](const tools::Latency::Times& t) {
    return Json{{"samples", t.samples},
                {"median_ms", t.median},
                {"p95_ms", t.p95},
                {"p99_ms", t.p99},
                {"median_ms_per_image", t.median / double(l.batch)}};
  };
  Json json = of(l.times);
  json["batch"] = l.batch;
  if (l.recorded) json["recorded"] = of(*l.recorded);
  if (l.joules_per_image) json["energy_mj_per_image"] = *l.joules_per_image * 1e3;
  return json;
}

void print_row(const char* what, const std::string& value) { std::printf("%-16s %s\n", what, value.c_str()); }

void print_latency(const char* what, const Json& times, int64_t batch) {
  print_row(what,
            fmt::format("{:.3f} ms at batch {} (batch: median {:.3f}, p95 {:.3f}, p99 {:.3f} ms)",
                        times["median_ms_per_image"].get<double>(), batch, times["median_ms"].get<double>(),
                        times["p95_ms"].get<double>(), times["p99_ms"].get<double>()));
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

void print_report(const Json& r, const ClassificationMetrics& m, const data::Dataset& dataset,
                  const tools::NetworkDescription& network) {
  const std::vector<std::string>& names = dataset.class_names();
  const data::DatasetDescription set = dataset.description();
  constexpr int kMostClasses = 20;  // beyond, per-class figures are in the JSON only
  print_row("model", fmt::format("{} ({})", r["model"].get<std::string>(), r["weights"].get<std::string>()));
  print_row("data", fmt::format("{}, {} split, {} images", r["data"].get<std::string>(),
                                r["split"].get<std::string>(), m.count()));
  if (!set.folder.empty()) print_row("folder", printable(set.folder));
  if (!set.left_out.empty()) print_row("left out", to_line(set.left_out));
  print_row("images", to_line(network));
  print_row("device",
            fmt::format("{}: {}", r["device"].get<std::string>(), r["device_name"].get<std::string>()));
  print_row("top-1 accuracy", fmt::format("{:.2f} %", 100 * m.accuracy()));
  print_row(fmt::format("top-{} accuracy", m.top_k()).c_str(),
            fmt::format("{:.2f} %", 100 * m.top_k_accuracy()));
  print_row("macro F1",
            fmt::format("{:.4f} (mean over the {} of {} classes that occur among labels or predictions)",
                        m.macro_f1(), m.occurring_classes(), m.classes()));
  print_row("loss", fmt::format("{:.4f}", r["loss"].get<double>()));
  for (const Json& l : r["latency"]) {
    const int64_t batch = l["batch"];
    print_latency("time per image", l, batch);
    if (l.contains("recorded")) print_latency("  recorded", l["recorded"], batch);
  }
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

void check_request(const Request& r, const tools::Flags& flags) {
  PLUME_CHECK(r.checkpoint.empty() != r.model.empty() && r.model.empty() == r.weights.empty(),
              "give either --checkpoint or --model with --weights");
  for (const char* name : {"--weights-key", "--ignore"})
    PLUME_CHECK(r.checkpoint.empty() || !flags.given(name), "{}: is for --weights", name);
  for (const auto& [flag, path] : {std::pair{"--json", r.json}, {"--logits", r.logits}})
    PLUME_CHECK(path.empty() || (path != r.checkpoint && path != r.weights), "{} {}: is the input file", flag,
                path);
  PLUME_CHECK(r.json.empty() || r.json != r.logits, "--logits {}: is the file for the figures", r.logits);
}

// What is not given is as the checkpoint says; so are the request's data set and precision then.
Subject open_subject(Request& r, const FitOptions& fit) {
  Subject s;
  if (r.checkpoint.empty()) {
    const Weights weights = open_weights(r.weights);
    s.name = r.model;
    s.network = tools::describe_weights(weights, r.model, r.data);
    if (r.data.empty() && std::ranges::count(data::dataset_names(), s.network.data) > 0)
      r.data = s.network.data;
    PLUME_CHECK(!r.data.empty(), "--data: the data set is not given");
    s.model = tools::model_from_weights(r.model, parse_stem(r.stem), weights, fit);
  } else {
    const tools::RunDescription stored = tools::describe_run(r.checkpoint);
    s.name = stored.recipe.model;
    s.network = stored.network;
    s.own_size = !stored.network.stated && stored.recipe.image_size == 0;
    if (r.data.empty()) r.data = stored.recipe.data;
    if (r.precision.empty()) r.precision = stored.recipe.precision;
    s.model = make_model(s.name, {.num_classes = int(stored.state.classes),
                                  .stem = parse_stem(stored.recipe.stem),
                                  .initialize = false});
    tools::load_weights(r.checkpoint, *s.model);
  }
  const std::vector<NamedParameter> parameters = s.model->parameters();
  s.classes = parameters.back().variable.value().dim(0);
  if (!r.labels.empty()) s.network.class_names = tools::read_labels(r.labels, s.classes);
  tools::check_class_names(r.source(), s.network, s.classes);
  return s;
}

// The images that it is measured on, and their labels by the network's own names of classes.
std::shared_ptr<const data::Dataset> open_images(const Request& r, Subject& s,
                                                 const tools::PreprocessingFlags& preprocessing) {
  data::MeasuredSplit measured;
  if (r.split.empty())
    measured = data::measured_split(r.data, r.data_dir);
  else
    measured.split = data::parse_split(r.split);
  if (!measured.note.empty()) tools::log_line(measured.note);
  data::OpenOptions options = {
      .count = r.limit, .skip_bad = r.skip_bad, .cache_dir = r.cache_dir, .log = tools::log_line};
  data::Preprocessing& how = s.network.preprocessing;
  const bool own_size = preprocessing.as_they_are() || (s.own_size && preprocessing.given().empty());
  preprocessing.overrule(s.network);
  if (!own_size) tools::reduce_as(options, r.data, how);
  if (r.data == "imagefolder") options.class_names = s.network.class_names;
  auto dataset = data::open_dataset(r.data, r.data_dir, measured.split, options);
  if (own_size) {
    const data::Preprocessing own = data::preprocessing_for(dataset->info(), 0);
    how.resize = own.resize;
    how.crop = own.crop;
  }
  if (s.classes != dataset->classes())
    fail(ErrorKind::bad_input, "{}: tells {} classes apart, {} has {}", r.source(), s.classes, r.data,
         dataset->classes());
  const std::vector<std::string>& names = s.network.class_names;
  if (s.network.data != r.data && r.labels.empty() &&
      std::ranges::count(data::dataset_names(), s.network.data) > 0 && !names.empty() &&
      names != dataset->class_names())
    fail(ErrorKind::bad_input,
         "{}: was trained on {} with the classes {}; those of {} are {}; --labels gives the network's others",
         r.source(), s.network.data, brief_list(names), r.data, brief_list(dataset->class_names()));
  return dataset;
}

int run(tools::Flags& flags) {
  Request r;
  flags.text("--checkpoint", r.checkpoint, "last.safetensors or best.safetensors of a run folder");
  flags.choice("--model", r.model, model_names(), "network, with --weights");
  flags.choice("--stem", r.stem, {"imagenet", "cifar"}, "first layers, with --model");
  flags.text("--weights", r.weights, "weights of the model: safetensors or .pth file");
  tools::WeightsFlags weights_flags(flags);
  flags.choice("--data", r.data, data::dataset_names(), "data set (default: the one that was trained on)");
  flags.text("--data-dir", r.data_dir, "folder of the data set's files");
  flags.text("--cache-dir", r.cache_dir, "folder for decoded images (default: ~/.cache/plume)");
  flags.whole("--skip-bad", r.skip_bad, 0, INT64_MAX, "leave out at most N unreadable images");
  flags.text("--labels", r.labels,
             "file with the classes' names, one per line (default: as the weights say)");
  flags.choice("--precision", r.precision, {"f32", "bf16", "f16"},
               "of activations (default: the checkpoint's, or f32)");
  flags.choice("--split", r.split, {"train", "val", "test"},
               "which images (default: test where there is one, otherwise val)");
  tools::PreprocessingFlags preprocessing(flags);
  flags.whole("--batch", r.batch, 1, 65'536, "images at once");
  flags.whole("--workers", r.workers, 0, 256, "loader threads");
  flags.whole("--limit", r.limit, 0, INT64_MAX, "only the first N images; 0 for all");
  flags.number("--latency-seconds", r.latency_seconds, 0, 3600, "of timing per batch size; 0 for none");
  flags.text("--json", r.json, "file for the figures");
  flags.text("--logits", r.logits, "safetensors file to write: logits f32 [images, classes]");
  tools::DeviceFlags device_flags(flags);
  flags.parse();
  check_request(r, flags);
  tools::catch_signals();
  const Device device = device_flags.open();

  Subject s = open_subject(r, weights_flags.options());
  const DType precision = tools::parse_precision(r.precision.empty() ? "f32" : r.precision);
  const auto dataset = open_images(r, s, preprocessing);
  const data::Preprocessing& how = s.network.preprocessing;
  s.model->to(device);

  data::Loader loader =
      tools::evaluation_loader(dataset, r.batch, int(r.workers), r.limit, how, false, device);
  std::vector<float> logits;
  const tools::Evaluation e =
      tools::evaluate(*s.model, loader, device, precision, [&](const std::vector<float>& more) {
        if (!r.logits.empty()) logits.insert(logits.end(), more.begin(), more.end());
      });
  const int height = int(how.crop.height), width = int(how.crop.width);
  Json report;
  report["model"] = s.name;
  report["weights"] = r.source();
  report["data"] = r.data;
  const tools::Json described = tools::to_json(dataset->description());
  for (const char* key : {"split", "folder", "left_out"}) report[key] = described[key];
  report["device"] = name(device);
  report["device_name"] = backend(device).describe();
  if (device == Device::cpu) report["cpu_threads"] = compute_threads();
  report["precision"] = name(precision);
  report["preprocessing"] = tools::to_json(how);
  report["height"] = height;
  report["width"] = width;
  report["images"] = e.metrics.count();
  report["top1"] = e.metrics.accuracy();
  report["top" + std::to_string(e.metrics.top_k())] = e.metrics.top_k_accuracy();
  report["macro_f1"] = e.metrics.macro_f1();
  report["macro_f1_definition"] = "mean of F1 over the classes that occur among labels or predictions";
  report["macro_f1_classes"] = e.metrics.occurring_classes();
  report["loss"] = e.loss;
  report["macs"] = tools::count_model_macs(*s.model, device, height, width);
  report["flops"] = 2 * report["macs"].get<int64_t>();
  report["parameters"] = s.model->parameter_count();
  report["size_mb"] = double(tools::state_bytes(*s.model)) * 1e-6;
  report["latency"] = Json::array();
  if (r.latency_seconds > 0) {
    std::vector<int64_t> batches = {1};
    if (r.batch > 1) batches.push_back(r.batch);
    for (const int64_t b : batches)
      report["latency"].push_back(
          to_json(tools::measure_latency(*s.model, device, b, height, width, r.latency_seconds, precision)));
  }
  report["per_class"] = per_class(e.metrics, dataset->class_names());
  report["confusion"] = confusion(e.metrics);
  if (const int signal = tools::stop_signal()) {
    tools::log_line("interrupted; nothing is written");
    return 128 + signal;
  }
  print_report(report, e.metrics, *dataset, s.network);
  if (!r.logits.empty())
    tools::write_tensors(r.logits, {{"logits", Tensor::from(logits, {e.metrics.count(), s.classes})}});
  if (!r.json.empty()) {
    write_file_atomically(r.json, tools::to_text(report, 2) + "\n");
    std::printf("\nwrote %s\n", r.json.c_str());
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  return plume::tools::run_tool(argc, argv, "Measures a trained image classifier.", run);
}
