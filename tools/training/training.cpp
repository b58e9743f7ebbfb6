#include "tools/training/training.h"

#include <fmt/core.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <optional>

#include "engine/files/atomic_file.h"
#include "engine/memory/allocator.h"
#include "engine/ops/layer_random.h"
#include "tools/cli/clock.h"
#include "tools/cli/environment.h"
#include "tools/cli/json_fields.h"
#include "tools/cli/model.h"
#include "tools/cli/paths.h"
#include "tools/cli/signals.h"
#include "tools/training/rate.h"
#include "tools/training/run_evaluation.h"
#include "tools/training/step.h"

namespace plume::tools {
namespace {

FitOptions fit_options(const RunOptions& options) {
  return {.key = options.weights_key, .ignore = split_patterns(options.ignore)};
}

class Run {
 public:
  // `fresh`: the run begins, with weights from elsewhere if the recipe says so.
  Run(const TrainingRequest& request, const RunFolder& folder, bool fresh)
      : recipe_(request.recipe),
        options_(request.options),
        device_(request.device),
        folder_(folder),
        data_(open_run_data(recipe_, options_, device_,
                            fresh ? wanted_preprocessing(recipe_) : request.network.preprocessing)),
        network_{
            .preprocessing = data_.how, .class_names = data_.train_set().class_names(), .data = recipe_.data},
        learner_(make_learner(recipe_, data_.train_set().classes(), device_, fresh, fit_options(options_))),
        progress_(learner_.ranks->first() ? request.style : Progress::Style::quiet),
        step_(learner_, step_params(request), device_,
              [this](const std::string& line) { progress_.warning(line); }),
        evaluation_(recipe_, learner_, data_, device_),
        metrics_(folder.path()),
        batches_per_epoch_(data_.train.batches_per_epoch()),
        steps_per_epoch_((batches_per_epoch_ + recipe_.accumulate - 1) / recipe_.accumulate),
        schedule_(recipe_, steps_per_epoch_) {
    layer_random().seed(seed_of_rank(uint64_t(recipe_.seed)));
    Context& ctx = context(device_);
    ctx.allow_tf32 = recipe_.tf32;
    ctx.deterministic = recipe_.deterministic;
    state_.fingerprint = data_.fingerprint;
    if (data_.validation) state_.validation_fingerprint = data_.selection.validation_set->fingerprint();
    state_.image_size = data_.how.crop.height;
    state_.classes = data_.train_set().classes();
    schedule_.store(state_);
  }

  int begin() {
    if (learner_.ranks->first()) folder_.make();
    open_folder();
    for (const std::string& note : data_.notes) progress_.line(note);
    if (!learner_.note.empty()) progress_.line(learner_.note);
    return run();
  }

  int resume(const std::string& checkpoint, const RunState& state, bool changed) {
    if (state.fingerprint != state_.fingerprint)
      fail(ErrorKind::bad_input, "{}: was trained on other data (fingerprint {}, this data has {})",
           checkpoint, state.fingerprint, state_.fingerprint);
    const std::string validation = state_.validation_fingerprint;
    if (state.validation_fingerprint != validation && !changed)
      fail(ErrorKind::bad_input, "{}: was selected on other validation images; give --allow-changes to go on",
           checkpoint);
    load_run(checkpoint, learner_.weights(), learner_.rest(), context(device_));
    state_ = state;
    const bool other_images = state.validation_fingerprint != validation;
    if (other_images) forget_best(validation);
    // With other batches or ranks an epoch may have fewer.
    state_.batch = std::min(state_.batch, batches_per_epoch_);
    if (recipe_.schedule == "plateau") schedule_.restore(state_);
    metrics_.restore(state.epoch);
    // A result stands for the whole run.
    if (other_images || !finished()) {
      if (metrics_.has_result())
        progress_.warning("this run was tested already: its result goes, and the new end is tested again");
      metrics_.forget_result();
      if (learner_.ranks->first()) folder_.remove("result.json");
    }
    open_folder();
    progress_.line(data_.notes.back());
    progress_.line(message("resumes {} at epoch {}, step {}", checkpoint, state.epoch + 1, state.step));
    return run();
  }

 private:
  RunDescription description() const { return {recipe_, state_, options_, learner_.ranks->size(), network_}; }

  StepParams step_params(const TrainingRequest& request) const {
    StepParams params{.batch = recipe_.batch, .passes = recipe_.accumulate, .graph = request.graph};
    params.label_smoothing = float(recipe_.label_smoothing);
    params.precision = parse_precision(recipe_.precision);
    params.mix = {float(recipe_.mixup), float(recipe_.cutmix)};
    params.seed = seed_of_rank(uint64_t(recipe_.seed));
    params.classes = data_.train_set().classes();
    if (learner_.ema)
      params.ema_decay =
          scaled_ema_decay(recipe_.ema_decay, recipe_.batch * recipe_.accumulate * learner_.ranks->size(), 1,
                           recipe_.epochs, data_.train.samples_per_epoch() * learner_.ranks->size());
    return params;
  }

  void open_folder() {
    if (!learner_.ranks->first()) return;
    progress_.log_to(folder_.file("console.log"));
    write_file_atomically(folder_.file("config.json"), to_text(configuration(), 2) + "\n");
    write_file_atomically(folder_.file("environment.json"), to_text(describe_environment(device_), 2) + "\n");
    metrics_.write();
  }

  // Accuracies on other images are no measure for what comes.
  void forget_best(const std::string& validation) {
    PLUME_CHECK(state_.epoch < recipe_.epochs,
                "--resume: no epoch is left to select on other images than before; give more --epochs");
    state_.validation_fingerprint = validation;
    state_.best_accuracy = -1;
    state_.epochs_since_best = 0;
    state_.plateau_best = -1;
    state_.plateau_bad = 0;
    progress_.warning("selects on other images than before: the best epoch is looked for anew");
  }

  Json configuration() {
    Json json;
    json["recipe"] = to_json(recipe_fields(), recipe_);
    json["options"] = to_json(option_fields(), options_);
    json["run"] = {{"folder", absolute_path(folder_.path())},
                   {"data_fingerprint", state_.fingerprint},
                   {"train_images", data_.train.samples_per_epoch() * learner_.ranks->size()},
                   {"test_images", data_.test_set->size()},
                   {"selected_on", data_.selection.set()},
                   {"validation_images", data_.selection.images()},
                   {"selection", data_.selection.about},
                   {"data",
                    {{"train", to_json(data_.train_set().description())},
                     {"measured", to_json(data_.test_set->description())}}},
                   {"ranks", learner_.ranks->size()},
                   {"classes", data_.train_set().class_names()},
                   {"preprocessing", to_json(data_.how)},
                   {"steps_per_epoch", steps_per_epoch_},
                   {"parameters", learner_.model->parameter_count()}};
    return json;
  }

  int run() {
    while (!finished()) {
      if (const int signal = train_epoch()) return interrupted(signal);
      check_weights();
      const Evaluation evaluation = evaluation_.select(state_);
      // The evaluation is repeated when the run is resumed.
      if (const int signal = learner_.ranks->stop_signal()) return interrupted(signal);
      finish_epoch(evaluation);
    }
    if (stopped_early())
      progress_.line(fmt::format("stopped early: {} epochs without a better {} top-1 than {:.2f} %",
                                 state_.epochs_since_best, data_.selection.set(),
                                 100 * state_.best_accuracy));
    if (const int signal = test()) return interrupted_in_test(signal);
    progress_.line(
        message("wrote {} and {}", folder_.file("last.safetensors"), folder_.file("best.safetensors")));
    return 0;
  }

  bool stopped_early() const {
    return recipe_.early_stopping > 0 && state_.epochs_since_best >= recipe_.early_stopping;
  }

  // Whether an image shows more than its label, so that a training accuracy would say little.
  bool mixed() const { return recipe_.mixup > 0 || recipe_.cutmix > 0; }

  // The batches of the next step; none at the end of the epoch.
  std::vector<data::Batch> next_batches() {
    std::vector<data::Batch> batches;
    while (int64_t(batches.size()) < recipe_.accumulate) {
      std::optional<data::Batch> batch = data_.train.next();
      if (!batch) break;
      make_images(*batch, device_);
      batches.push_back(std::move(*batch));
    }
    return batches;
  }

  // The signal that asked to stop, or 0; the state is then that after a whole step. The next batches are
  // fetched while the device is at work.
  int train_epoch() {
    learner_.model->train();
    Clock::time_point before = Clock::now();
    data_.train.start(state_.epoch, state_.batch);
    const double waited_before = data_.train.wait_seconds() - state_.wait_seconds;
    for (std::vector<data::Batch> batches = next_batches(); !batches.empty();) {
      if (const int signal = learner_.ranks->stop_signal()) return take_results(0), signal;
      rate_ = schedule_.at(state_.step);
      step_.start(batches, state_.step, rate_);
      std::vector<data::Batch> next = next_batches();
      const bool last = next.empty();
      const bool saves =
          !last && options_.checkpoint_steps > 0 && (state_.step + 1) % options_.checkpoint_steps == 0;
      // One step late where the device need not stop for it.
      take_results(is_host(device_) || last || saves ? 0 : 1);
      state_.batch += int64_t(batches.size());
      ++state_.step;
      const Clock::time_point now = Clock::now();
      state_.seconds += std::chrono::duration<double>(now - before).count();
      before = now;
      state_.wait_seconds = data_.train.wait_seconds() - waited_before;
      report();
      if (saves) {
        check_weights();
        save();
      }
      batches = std::move(next);
    }
    return learner_.ranks->stop_signal();
  }

  // Of all steps but the latest `left`.
  void take_results(int left) {
    while (step_.unread() > left) take(step_.result());
  }

  void take(const TrainingStep::Result& result) {
    const double loss = result.loss_sum / double(result.images);
    // With loss scaling such a step is skipped, unless there are too many. Asking waits for the device.
    if (learner_.optimizer->options().loss_scaling.enabled) {
      if (is_host(device_) || result.step % kMostSkippedInARow == 0) learner_.optimizer->check();
    } else if (!std::isfinite(loss)) {
      stop_on(loss, result.step);
    }
    if (!std::isfinite(loss)) return;
    state_.loss_sum += result.loss_sum;
    state_.images += result.images;
    if (result.correct >= 0) state_.correct += result.correct;
  }

  void report() {
    if (!progress_.due() || state_.images == 0) return;
    const int64_t left = recipe_.epochs * steps_per_epoch_ - state_.step;
    const int64_t done = state_.step - state_.epoch * steps_per_epoch_;
    progress_.update({.label = message("epoch {}/{}", state_.epoch + 1, recipe_.epochs),
                      .done = done,
                      .total = steps_per_epoch_,
                      .seconds_left = double(left) * state_.seconds / double(std::max<int64_t>(done, 1)),
                      .loss = state_.loss_sum / double(state_.images),
                      .accuracy = mixed() ? -1 : double(state_.correct) / double(state_.images),
                      .learning_rate = double(rate_),
                      .images_per_second = double(state_.images) / state_.seconds,
                      .wait_share = state_.wait_seconds / state_.seconds,
                      .memory = device_allocator(device_).statistics().peak});
  }

  // The first parameter or buffer that holds an infinity or a NaN; empty when there is none.
  std::string spoiled_tensor() {
    for (const NamedTensor& entry : learner_.model->state()) {
      if (entry.tensor->dtype() != DType::f32) continue;
      const std::vector<float> values = entry.tensor->to_vector<float>();
      if (!std::all_of(values.begin(), values.end(), [](float v) { return std::isfinite(v); }))
        return entry.name;
    }
    return "";
  }

  [[noreturn]] void stop_on(double loss, int64_t step) {
    const std::string spoiled = spoiled_tensor(), layer = step_.first_bad_layer();
    const std::string where = !spoiled.empty() ? "the first weights that are not finite are " + spoiled
                              : !layer.empty() ? "the first layer whose output is not finite is " + layer
                                               : "weights and activations are finite";
    fail(ErrorKind::numeric, "the loss is {} at epoch {}, step {}; {}; try a learning rate below {}",
         std::isnan(loss) ? std::fabs(loss) : loss, state_.epoch + 1, step + 1, where, recipe_.lr);
  }

  // The last step of an epoch has no loss after it that would tell.
  void check_weights() {
    const std::string name = spoiled_tensor();
    if (!name.empty())
      fail(ErrorKind::numeric, "{} is not finite after epoch {}, step {}; try a learning rate below {}", name,
           state_.epoch + 1, state_.step, recipe_.lr);
  }

  void finish_epoch(const Evaluation& evaluation) {
    const RunState done = state_;
    ++state_.epoch;
    state_.batch = state_.images = state_.correct = 0;
    state_.loss_sum = state_.seconds = state_.wait_seconds = 0;
    const double accuracy = evaluation.metrics.accuracy();
    const bool best = accuracy > state_.best_accuracy;
    state_.epochs_since_best = best ? 0 : state_.epochs_since_best + 1;
    if (best) state_.best_accuracy = accuracy;
    schedule_.observe(accuracy);
    schedule_.store(state_);
    if (!learner_.ranks->first()) return;
    const Json line = epoch_line({.done = done,
                                  .evaluation = evaluation,
                                  .selection = data_.selection,
                                  .best_accuracy = state_.best_accuracy,
                                  .learning_rate = double(rate_),
                                  .mixed = mixed(),
                                  .peak_memory = device_allocator(device_).statistics().peak,
                                  .scaling = scaling()});
    // In this order, so that a run that is killed between two writes repeats the epoch and loses nothing.
    metrics_.add(line);
    if (best) save_weights(folder_.file("best.safetensors"), description(), learner_.weights());
    save_weights(folder_.file("last.safetensors"), description(), learner_.weights());
    save();
    progress_.line(epoch_text(line, recipe_.epochs));
    progress_.json(to_text(line));
  }

  std::optional<StepControl> scaling() const {
    if (!learner_.optimizer->options().loss_scaling.enabled) return std::nullopt;
    return learner_.optimizer->status();
  }

  void save() {
    if (!learner_.ranks->first()) return;
    save_run(folder_.checkpoint(state_.step), description(), learner_.weights(), learner_.rest(),
             context(device_));
    folder_.prune(state_.step, options_.keep_last);
  }

  int interrupted(int signal) {
    check_weights();
    save();
    learner_.ranks->barrier();  // a launcher ends the others when one has left
    progress_.warning(message("stopped by signal {} after step {}; saved {}; continue with --resume --out {}",
                              signal, state_.step, folder_.checkpoint(state_.step), folder_.path()));
    return 128 + signal;
  }

  bool finished() const { return state_.epoch >= recipe_.epochs || stopped_early(); }

  // Once, at the end. The signal that stopped it, or 0; nothing is written then, and a resumed run does it.
  int test() {
    const std::string file = folder_.file("result.json");
    const bool first = learner_.ranks->first();
    if (learner_.ranks->any(first && metrics_.has_result())) {
      progress_.line(message("was tested before: {} has the result", file));
      return 0;
    }
    const RunResult result = evaluation_.test(state_, metrics_, folder_.file("best.safetensors"));
    if (const int signal = learner_.ranks->stop_signal()) return signal;
    if (!first) return 0;
    write_file_atomically(file, to_text(to_json(result), 2) + "\n");
    progress_.line(result_text(to_json(result)));
    if (!data_.validation) return 0;
    const Json line = result_line(result, state_);
    metrics_.add(line);
    progress_.json(to_text(line));
    return 0;
  }

  int interrupted_in_test(int signal) {
    learner_.ranks->barrier();
    progress_.warning(message("stopped by signal {} before the test; continue with --resume --out {}", signal,
                              folder_.path()));
    return 128 + signal;
  }

  Recipe recipe_;
  RunOptions options_;
  Device device_;
  RunFolder folder_;
  RunData data_;
  NetworkDescription network_;
  Learner learner_;
  Progress progress_;
  TrainingStep step_;
  RunEvaluation evaluation_;
  MetricsFiles metrics_;
  int64_t batches_per_epoch_, steps_per_epoch_;
  LearningRate schedule_;
  RunState state_;
  float rate_ = 0;  // of the latest step
};

}  // namespace

int train(const TrainingRequest& request, const RunFolder& folder) {
  return Run(request, folder, true).begin();
}

int resume(const TrainingRequest& request, const RunFolder& folder, const std::string& checkpoint,
           const RunState& state, bool changes_allowed) {
  return Run(request, folder, false).resume(checkpoint, state, changes_allowed);
}

}  // namespace plume::tools
