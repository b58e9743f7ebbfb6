#include "tools/tool_training.h"

#include <chrono>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "data/registry.h"
#include "engine/autograd/tape.h"
#include "engine/ops/layer_random.h"
#include "engine/ops/softmax_cross_entropy.h"
#include "engine/optim/schedule.h"
#include "engine/serialization/atomic_file.h"
#include "models/registry.h"
#include "tools/tool_checkpoint.h"
#include "tools/tool_evaluation.h"
#include "tools/tool_progress.h"
#include "tools/tool_signals.h"

namespace plume::tools {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;
using Json = nlohmann::ordered_json;

constexpr const char* kFiles[] = {"config.json", "metrics.jsonl", "last.safetensors", "best.safetensors"};

// The complete lines of metrics.jsonl that belong to the first `epochs` epochs.
std::string metrics_until(const std::string& path, int64_t epochs) {
  std::ifstream in(path, std::ios::binary);
  std::string line, kept;
  while (std::getline(in, line)) {
    const Json entry = Json::parse(line, nullptr, false);
    if (entry.is_object() && entry.value("epoch", INT64_MAX) <= epochs) kept += line + "\n";
  }
  return kept;
}

class Run {
 public:
  Run(const Recipe& recipe, const RunOptions& options, Device device)
      : recipe_(recipe),
        options_(options),
        device_(device),
        train_set_(open(data::Split::train, recipe.limit_train)),
        test_set_(open(data::Split::test, recipe.limit_test)),
        loader_(train_set_, loader_params()),
        test_loader_(evaluation_loader(test_set_, recipe.batch, int(options.workers), recipe.limit_test)),
        model_(make_model(recipe.model, {.num_classes = train_set_->classes(),
                                         .stem = parse_stem(recipe.stem),
                                         .seed = uint64_t(recipe.seed)})),
        steps_per_epoch_(loader_.batches_per_epoch()),
        schedule_{.base = float(recipe.learning_rate),
                  .warmup_steps = recipe.warmup_epochs * steps_per_epoch_,
                  .total_steps = recipe.epochs * steps_per_epoch_} {
    layer_random().seed(uint64_t(recipe.seed));
    model_->to(device);
    sgd_ =
        std::make_unique<Sgd>(model_->parameters(), Sgd::Options{.momentum = float(recipe.momentum),
                                                                 .weight_decay = float(recipe.weight_decay),
                                                                 .nesterov = recipe.nesterov});
    state_.fingerprint = train_set_->fingerprint();
    state_.image_size = train_set_->height();
    state_.classes = train_set_->classes();
  }

  void restore(const std::string& checkpoint, const RunState& state) {
    if (state.fingerprint != state_.fingerprint)
      fail(ErrorKind::bad_input, "{}: was trained on other data (fingerprint {}, this data has {})",
           checkpoint, state.fingerprint, state_.fingerprint);
    load_run(checkpoint, *model_, sgd_.get());
    state_ = state;
    metrics_ = metrics_until(file("metrics.jsonl"), state.epoch);
    progress_.line(message("resumes {} at epoch {}, step {}", checkpoint, state.epoch + 1, state.step));
  }

  int run() {
    write_file_atomically(file("config.json"), configuration());
    write_file_atomically(file("metrics.jsonl"), metrics_);
    while (state_.epoch < recipe_.epochs) {
      if (!train_epoch()) return interrupted();
      check_weights();
      const Evaluation evaluation = evaluate_epoch();
      if (stop_signal()) return interrupted();  // the evaluation is repeated when the run is resumed
      finish_epoch(evaluation);
    }
    progress_.line(message("wrote {} and {}", file("last.safetensors"), file("best.safetensors")));
    return 0;
  }

 private:
  std::shared_ptr<const data::Dataset> open(data::Split split, int64_t limit) const {
    return data::open_dataset(recipe_.data, options_.data_dir, split, {.count = limit});
  }

  data::LoaderParams loader_params() const {
    data::LoaderParams params;
    params.batch_size = recipe_.batch;
    params.workers = int(options_.workers);
    params.sampler.shuffle = true;
    params.sampler.seed = uint64_t(recipe_.seed);
    params.sampler.limit = recipe_.limit_train;
    const int64_t images =
        recipe_.limit_train ? std::min(recipe_.limit_train, train_set_->size()) : train_set_->size();
    // A last batch of one image would leave batch norm without a variance.
    params.sampler.drop_last = images >= recipe_.batch;
    params.augment = data::training_augmentation(train_set_->statistics(), uint64_t(recipe_.seed));
    return params;
  }

  std::string file(const char* name) const { return (fs::path(options_.out) / name).string(); }

  std::string configuration() const {
    Json json;
    json["recipe"] = Json::parse(to_json_text(recipe_));
    json["data"] = {{"folder", options_.data_dir},
                    {"fingerprint", train_set_->fingerprint()},
                    {"train_images", loader_.samples_per_epoch()},
                    {"test_images", test_loader_.samples_per_epoch()},
                    {"classes", train_set_->class_names()},
                    {"mean", train_set_->statistics().mean},
                    {"std", train_set_->statistics().std}};
    json["augmentation"] = {{"crop_padding", loader_.params().augment.crop_padding},
                            {"flip", loader_.params().augment.flip}};
    json["optimizer"] = "sgd";
    json["schedule"] = "cosine with linear warm-up, per step";
    json["steps_per_epoch"] = steps_per_epoch_;
    json["parameters"] = model_->parameter_count();
    json["device"] = name(device_);
    json["device_name"] = backend(device_).describe();
    json["loader_workers"] = options_.workers;
    json["compiler"] = __VERSION__;
    return json.dump(2) + "\n";
  }

  // False when a signal asked to stop; the state is then that after a whole step.
  bool train_epoch() {
    model_->train();
    loader_.start(state_.epoch, state_.batch);
    const std::string label = message("epoch {}/{}", state_.epoch + 1, recipe_.epochs);
    const double waited_before = loader_.wait_seconds() - state_.wait_seconds;
    while (!stop_signal()) {
      const Clock::time_point start = Clock::now();
      const std::optional<data::Batch> batch = loader_.next();
      if (!batch) return true;
      const double loss = step(*batch);
      state_.loss_sum += loss * double(batch->count);
      state_.images += batch->count;
      ++state_.batch;
      ++state_.step;
      state_.seconds += std::chrono::duration<double>(Clock::now() - start).count();
      state_.wait_seconds = loader_.wait_seconds() - waited_before;
      progress_.update(label, state_.batch, steps_per_epoch_, schedule_.total_steps - state_.step,
                       double(state_.images) / state_.seconds, state_.seconds / double(state_.batch), loss);
    }
    return false;
  }

  double step(const data::Batch& batch) {
    layer_random().begin_step(state_.step);
    const Variable logits = (*model_)(Variable(batch.images.to(device_)));
    const Variable loss = softmax_cross_entropy(logits, {batch.labels.to(device_), {}},
                                                {.label_smoothing = float(recipe_.label_smoothing)});
    const float value = loss.value().item();
    if (!std::isfinite(value)) stop_on(value);
    sgd_->zero_grad();
    backward(loss);
    sgd_->step(schedule_.at(state_.step));
    return double(value);
  }

  // The first parameter that holds an infinity or a NaN; empty when there is none.
  std::string spoiled_parameter() {
    for (const NamedParameter& p : model_->parameters()) {
      const std::vector<float> values = p.variable.value().to_vector<float>();
      if (!std::all_of(values.begin(), values.end(), [](float v) { return std::isfinite(v); })) return p.name;
    }
    return "";
  }

  [[noreturn]] void stop_on(float loss) {
    const std::string name = spoiled_parameter();
    fail(ErrorKind::numeric, "the loss is {} at epoch {}, step {}; {}; try a learning rate below {}", loss,
         state_.epoch + 1, state_.step + 1,
         name.empty() ? "all parameters are finite: activations overflow"
                      : "the first parameter that is not finite is " + name,
         recipe_.learning_rate);
  }

  Evaluation evaluate_epoch() try {
    return evaluate(*model_, test_loader_, device_);
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::numeric) throw;
    fail(ErrorKind::numeric, "evaluation after epoch {}, step {}: {}; try a learning rate below {}",
         state_.epoch + 1, state_.step, error.what(), recipe_.learning_rate);
  }

  // The last step of an epoch has no loss after it that would tell.
  void check_weights() {
    const std::string name = spoiled_parameter();
    if (!name.empty())
      fail(ErrorKind::numeric, "{} is not finite after epoch {}, step {}; try a learning rate below {}", name,
           state_.epoch + 1, state_.step, recipe_.learning_rate);
  }

  void finish_epoch(const Evaluation& evaluation) {
    const double accuracy = evaluation.metrics.accuracy();
    const double loss = state_.loss_sum / double(state_.images);
    const double rate = double(schedule_.at(state_.step - 1));
    const double speed = double(state_.images) / state_.seconds;
    Json line;
    line["epoch"] = state_.epoch + 1;
    line["step"] = state_.step;
    line["train_loss"] = loss;
    line["test_loss"] = evaluation.loss;
    line["test_top1"] = accuracy;
    line["test_macro_f1"] = evaluation.metrics.macro_f1();
    line["learning_rate"] = rate;
    line["images_per_second"] = speed;
    line["data_wait_seconds"] = state_.wait_seconds;
    line["train_seconds"] = state_.seconds;
    line["test_seconds"] = evaluation.seconds;
    metrics_ += line.dump() + "\n";
    char text[160];
    std::snprintf(text, sizeof text,
                  "epoch %lld/%lld: loss %.4f, test top-1 %.2f %%, macro F1 %.4f, lr %.5f, %.0f images/s, "
                  "waited %.1f s for data",
                  (long long)(state_.epoch + 1), (long long)recipe_.epochs, loss, 100 * accuracy,
                  evaluation.metrics.macro_f1(), rate, speed, state_.wait_seconds);

    const bool best = accuracy > state_.best_accuracy;
    RunState next = state_;
    ++next.epoch;
    next.batch = next.images = 0;
    next.loss_sum = next.seconds = next.wait_seconds = 0;
    if (best) next.best_accuracy = accuracy;
    state_ = next;
    // In this order, so that a run that is killed between two writes repeats the epoch and loses nothing.
    write_file_atomically(file("metrics.jsonl"), metrics_);
    if (best) save("best.safetensors");
    save("last.safetensors");
    progress_.line(text);
  }

  void save(const char* name) { save_run(file(name), recipe_, state_, *model_, *sgd_); }

  int interrupted() {
    const int signal = stop_signal();
    save("last.safetensors");
    progress_.line("");
    log_line(message("stopped by signal {} after step {}; saved {}; continue with --resume --out {}", signal,
                     state_.step, file("last.safetensors"), options_.out));
    return 128 + signal;
  }

  Recipe recipe_;
  RunOptions options_;
  Device device_;
  std::shared_ptr<const data::Dataset> train_set_, test_set_;
  data::Loader loader_, test_loader_;
  std::unique_ptr<Module> model_;
  std::unique_ptr<Sgd> sgd_;
  int64_t steps_per_epoch_;
  CosineSchedule schedule_;
  RunState state_;
  std::string metrics_;  // the content of metrics.jsonl
  Progress progress_;
};

void check_folder(const RunOptions& options) {
  PLUME_CHECK(!options.out.empty(), "--out: the run folder is not given");
  PLUME_CHECK(!(options.resume && options.overwrite), "--resume and --overwrite exclude each other");
  const fs::path folder = options.out;
  std::error_code error;
  PLUME_CHECK(!fs::exists(folder, error) || fs::is_directory(folder, error), "--out {}: is not a folder",
              options.out);
  if (options.resume || options.overwrite) return;
  for (const char* name : kFiles)
    PLUME_CHECK(!fs::exists(folder / name, error),
                "--out {}: holds a run already ({}); give --resume or --overwrite", options.out, name);
}

void make_folder(const RunOptions& options) {
  std::error_code error;
  fs::create_directories(options.out, error);
  if (error) fail(ErrorKind::resource, "--out {}: cannot be made: {}", options.out, error.message());
  if (!options.overwrite) return;
  for (const char* name : kFiles) fs::remove(fs::path(options.out) / name, error);
}

// last.safetensors; or, when that is missing or damaged, best.safetensors, which is said.
std::pair<std::string, RunDescription> newest_checkpoint(const std::string& folder) {
  const std::string last = (fs::path(folder) / "last.safetensors").string();
  const std::string best = (fs::path(folder) / "best.safetensors").string();
  try {
    return {last, describe_run(last)};
  } catch (const Error& error) {
    std::error_code ignored;
    if (error.kind() != ErrorKind::bad_input || !fs::exists(best, ignored)) throw;
    log_line(message("{}; goes on from {}", error.what(), best));
    return {best, describe_run(best)};
  }
}

}  // namespace

int train(const Flags& flags, const Recipe& recipe, const RunOptions& options, Device device) {
  check_folder(options);
  if (!options.resume) {
    Run run(recipe, options, device);
    make_folder(options);
    return run.run();
  }
  const auto [checkpoint, stored] = newest_checkpoint(options.out);
  const Recipe wanted = overlay(stored.recipe, recipe, flags);
  std::string changes;
  for (const std::string& change : differences(stored.recipe, wanted))
    changes += (changes.empty() ? "" : ", ") + change;
  PLUME_CHECK(
      changes.empty() || options.allow_changes,
      "--resume: the run was started otherwise ({}); give --allow-changes to go on with the new values",
      changes);
  if (!changes.empty()) log_line("goes on with changes: " + changes);
  Run run(wanted, options, device);
  run.restore(checkpoint, stored.state);
  return run.run();
}

}  // namespace plume::tools
