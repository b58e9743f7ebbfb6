#include "tools/training/checkpoint.h"

#include "data/sets/registry.h"
#include "engine/core/context.h"
#include "engine/serialization/checkpoint.h"
#include "tools/cli/json_fields.h"

namespace plume::tools {
namespace {

constexpr uint64_t kMostRanks = 1'000'000;

// The position is described as the settings are. What the numbers can be is checked whatever the checksum
// says.
const Fields<RunState>& state_fields() {
  using S = RunState;
  constexpr int64_t kAny = INT64_MAX;
  constexpr double kHuge = 1e300;
  static const Fields<RunState> fields = {
      {"epoch", WholeField<S>{&S::epoch, 0, 100'000}, ""},
      {"batch", WholeField<S>{&S::batch, 0, kAny}, ""},
      {"step", WholeField<S>{&S::step, 0, kAny}, ""},
      {"loss_sum", NumberField<S>{&S::loss_sum, 0, kHuge}, ""},
      {"images", WholeField<S>{&S::images, 0, kAny}, ""},
      {"correct", WholeField<S>{&S::correct, 0, kAny}, ""},
      {"seconds", NumberField<S>{&S::seconds, 0, kHuge}, ""},
      {"wait_seconds", NumberField<S>{&S::wait_seconds, 0, kHuge}, ""},
      {"best_accuracy", NumberField<S>{&S::best_accuracy, -1, 1}, ""},
      {"epochs_since_best", WholeField<S>{&S::epochs_since_best, 0, 100'000}, ""},
      {"plateau_rate", NumberField<S>{&S::plateau_rate, 0, 1e6}, ""},
      {"plateau_best", NumberField<S>{&S::plateau_best, -1, 1}, ""},
      {"plateau_bad", WholeField<S>{&S::plateau_bad, 0, 100'000}, ""},
      {"fingerprint", TextField<S>{&S::fingerprint}, ""},
      {"image_size", WholeField<S>{&S::image_size, 1, 65'536}, ""},
      {"classes", WholeField<S>{&S::classes, 1, 1'000'000}, ""},
      {"validation_fingerprint", TextField<S>{&S::validation_fingerprint}, "", true},
  };
  return fields;
}

Json describe(const RunDescription& run) {
  Json json;
  json["recipe"] = to_json(recipe_fields(), run.recipe);
  json["state"] = to_json(state_fields(), run.state);
  json["options"] = to_json(option_fields(), run.options);
  json["ranks"] = run.ranks;
  return json;
}

Json parse(const CheckpointFile& file) {
  Json json = parse_json_or_null(file.state());
  if (!json.is_object() || !json.contains("recipe") || !json.contains("state"))
    fail(ErrorKind::bad_input, "{}: holds no training run", file.path());
  return json;
}

// What runs did before their files said so.
NetworkDescription derived_description(const RunDescription& run) {
  const Recipe& r = run.recipe;
  data::DatasetInfo traits = data::dataset_traits(r.data);
  if (traits.height == 0) {  // as they are, they had all one size
    traits.height = traits.width = run.state.image_size;
  }
  return {.preprocessing = data::preprocessing_for(traits, r.image_size, r.squash),
          .class_names = traits.class_names,
          .data = r.data,
          .origin = "derived from the settings of an older version's checkpoint"};
}

RunDescription describe(const CheckpointFile& file) {
  const Json json = parse(file);
  RunDescription run{
      from_complete_json(recipe_fields(), json["recipe"], file.path(), recipe_of_older_files()),
      from_complete_json(state_fields(), json["state"], file.path())};
  if (run.state.epoch > run.recipe.epochs)
    fail(ErrorKind::bad_input, "{}: 'epoch' is {} of {}, which no run has", file.path(), run.state.epoch,
         run.recipe.epochs);
  // Options change no numbers: another version may know others.
  if (const Json options = json.value("options", Json()); options.is_object())
    for (const auto& field : option_fields())
      if (options.contains(field.key)) set_field(field, options[field.key], run.options, file.path());
  if (json.contains("ranks")) {
    const Json& ranks = json["ranks"];
    const int64_t count = ranks.is_number_unsigned() && ranks <= kMostRanks ? ranks.get<int64_t>() : -1;
    if (count < 0)
      fail(ErrorKind::bad_input, "{}: 'ranks' is {}, expected a whole number from 0 to {}", file.path(),
           brief_text(ranks), kMostRanks);
    run.ranks = count;
  }
  const auto& metadata = file.file().metadata();
  if (describes_images(metadata)) {
    run.network = describe_network(file.path(), metadata, run.recipe.model);
    run.network.origin = "as the checkpoint says";
  } else {
    run.network = derived_description(run);
  }
  return run;
}

}  // namespace

void save_weights(const std::string& path, const RunDescription& run,
                  const std::vector<NamedTensor>& weights) {
  save_checkpoint(path, to_text(describe(run)), {{"", weights}}, to_metadata(run.network));
}

void save_run(const std::string& path, const RunDescription& run, const std::vector<NamedTensor>& weights,
              const std::vector<NamedTensor>& rest, const Context& context) {
  Json json = describe(run);
  json["random"] = {{"seed", context.seed}, {"next_counter", context.next_counter}};
  save_checkpoint(path, to_text(json), {{"", weights}, {kOptimizerPrefix, rest}}, to_metadata(run.network));
}

RunDescription describe_run(const std::string& path) { return describe(CheckpointFile(path)); }

NetworkDescription describe_weights(const Weights& weights, const std::string& model,
                                    const std::string& data) {
  if (weights.metadata.contains("plume.format")) return describe_run(weights.path).network;
  return describe_network(weights.path, weights.metadata, model, data);
}

void load_weights(const std::string& path, Module& model) {
  load_weights(path, model.state());
  model.train(model.training());
}

void load_weights(const std::string& path, const std::vector<NamedTensor>& weights) {
  const CheckpointFile file(path);
  describe(file);
  file.load({{"", weights}}, kOptimizerPrefix);
}

void load_run(const std::string& path, const std::vector<NamedTensor>& weights,
              const std::vector<NamedTensor>& rest, Context& context) {
  const CheckpointFile file(path);
  describe(file);
  const Json json = parse(file);
  const Json random = json.value("random", Json());
  const bool complete = random.is_object() && random.contains("seed") && random.contains("next_counter") &&
                        random["seed"].is_number_unsigned() && random["next_counter"].is_number_unsigned();
  if (!complete)
    fail(ErrorKind::bad_input, "{}: holds weights, but not all that --resume needs (no random counters)",
         path);
  file.load({{"", weights}, {kOptimizerPrefix, rest}});
  context.seed = random["seed"];
  context.next_counter = random["next_counter"];
}

}  // namespace plume::tools
