#include "tools/tool_checkpoint.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "engine/core/context.h"
#include "engine/serialization/checkpoint.h"
#include "models/registry.h"

namespace plume::tools {
namespace {

using Json = nlohmann::ordered_json;

// The one list of fields: f(name, member).
template <class F>
void for_each_field(F&& f) {
  f("epoch", &RunState::epoch);
  f("batch", &RunState::batch);
  f("step", &RunState::step);
  f("loss_sum", &RunState::loss_sum);
  f("images", &RunState::images);
  f("seconds", &RunState::seconds);
  f("wait_seconds", &RunState::wait_seconds);
  f("best_accuracy", &RunState::best_accuracy);
  f("fingerprint", &RunState::fingerprint);
  f("image_size", &RunState::image_size);
  f("classes", &RunState::classes);
}

Context& context_of(Module& model) { return context(model.parameters().front().variable.value().device()); }

std::vector<StateGroup> groups_of(Module& model, Sgd* sgd) {
  std::vector<StateGroup> groups = {{"", model.state()}};
  if (sgd == nullptr) return groups;
  groups.push_back({kOptimizerPrefix, sgd->state()});
  return groups;
}

Json parse(const CheckpointFile& file) {
  // Copying and printing deep values would need as deep a stack.
  constexpr int kMostDepth = 8;
  const auto shallow = [&](int depth, Json::parse_event_t, Json&) {
    if (depth > kMostDepth)
      fail(ErrorKind::bad_input, "{}: holds no training run: nested too deep", file.path());
    return true;
  };
  Json json = Json::parse(file.state(), shallow, false);
  if (!json.is_object() || !json.contains("recipe") || !json.contains("state"))
    fail(ErrorKind::bad_input, "{}: holds no training run", file.path());
  return json;
}

void check(bool holds, const std::string& path, const char* field, const std::string& value) {
  if (!holds) fail(ErrorKind::bad_input, "{}: {} is {}, which no run has", path, field, value);
}

// What no run writes, whatever its checksum says.
void check(const RunDescription& run, const std::string& path) {
  const RunState& s = run.state;
  const Recipe& r = run.recipe;
  const auto whole = [&](const char* field, int64_t value, int64_t least, int64_t most) {
    check(value >= least && value <= most, path, field, std::to_string(value));
  };
  const auto number = [&](const char* field, double value, double least, double most) {
    check(std::isfinite(value) && value >= least && value <= most, path, field, message("{}", value));
  };
  const std::vector<std::string> models = model_names();
  check(std::find(models.begin(), models.end(), r.model) != models.end(), path, "model", in_quotes(r.model));
  check(r.stem == "imagenet" || r.stem == "cifar", path, "stem", in_quotes(r.stem));
  whole("epochs", r.epochs, 1, 100'000);
  whole("batch size", r.batch, 1, 65'536);
  whole("seed", r.seed, 0, INT64_MAX);
  whole("warmup_epochs", r.warmup_epochs, 0, 100'000);
  whole("limit_train", r.limit_train, 0, INT64_MAX);
  whole("limit_test", r.limit_test, 0, INT64_MAX);
  number("learning_rate", r.learning_rate, 0, 1e6);
  number("momentum", r.momentum, 0, 0.999999);
  number("weight_decay", r.weight_decay, 0, 1e3);
  number("label_smoothing", r.label_smoothing, 0, 0.999999);
  whole("epoch", s.epoch, 0, r.epochs);
  whole("step", s.step, 0, INT64_MAX);
  whole("batch", s.batch, 0, s.step);
  whole("images", s.images, 0, INT64_MAX);
  whole("classes", s.classes, 1, 1'000'000);
  whole("image_size", s.image_size, 1, 65'536);
  number("loss_sum", s.loss_sum, 0, INFINITY);
  number("seconds", s.seconds, 0, INFINITY);
  number("wait_seconds", s.wait_seconds, 0, INFINITY);
  number("best_accuracy", s.best_accuracy, -1, 1);
}

// Numbers are converted silently otherwise: 1e300 to some whole number.
void check_types(const Json& recipe, const std::string& path) {
  if (!recipe.is_object()) fail(ErrorKind::bad_input, "{}: the recipe is no object", path);
  const Json model = Json::parse(to_json_text(Recipe{}));
  for (const auto& [name, value] : model.items()) {
    const Json found = recipe.value(name, Json());
    const bool fits = value.is_number_integer() ? found.is_number_integer()
                      : value.is_number()       ? found.is_number()
                                                : found.type() == value.type();
    if (!fits) fail(ErrorKind::bad_input, "{}: {} is missing or of the wrong type", path, name);
  }
}

RunDescription describe(const CheckpointFile& file) {
  const Json json = parse(file);
  RunDescription run;
  check_types(json["recipe"], file.path());
  run.recipe = recipe_from_json(json["recipe"].dump(), file.path());
  try {
    for_each_field([&](const char* name, auto member) {
      const Json& value = json.at("state").at(name);
      auto& field = run.state.*member;
      if constexpr (std::is_same_v<std::remove_reference_t<decltype(field)>, int64_t>)
        if (!value.is_number_integer())
          fail(ErrorKind::bad_input, "{}: {} is not a whole number", file.path(), name);
      value.get_to(field);
    });
  } catch (const Json::exception& error) {
    fail(ErrorKind::bad_input, "{}: not the state of a training run: {}", file.path(), error.what());
  }
  check(run, file.path());
  return run;
}

}  // namespace

void save_run(const std::string& path, const Recipe& recipe, const RunState& state, Module& model, Sgd& sgd) {
  Json json;
  json["recipe"] = Json::parse(to_json_text(recipe));
  for_each_field([&](const char* name, auto member) { json["state"][name] = state.*member; });
  json["random"] = {{"seed", context_of(model).seed}, {"next_counter", context_of(model).next_counter}};
  save_checkpoint(path, json.dump(), groups_of(model, &sgd));
}

RunDescription describe_run(const std::string& path) { return describe(CheckpointFile(path)); }

void load_run(const std::string& path, Module& model, Sgd* sgd) {
  const CheckpointFile file(path);
  describe(file);
  const Json json = parse(file);
  const Json random = json.value("random", Json());
  const bool complete = random.is_object() && random.contains("seed") && random.contains("next_counter") &&
                        random["seed"].is_number_unsigned() && random["next_counter"].is_number_unsigned();
  if (!complete) fail(ErrorKind::bad_input, "{}: has no random counters", path);
  file.load(groups_of(model, sgd), sgd == nullptr ? kOptimizerPrefix : "");
  model.train(model.training());
  if (sgd == nullptr) return;
  context_of(model).seed = random["seed"];
  context_of(model).next_counter = random["next_counter"];
}

}  // namespace plume::tools
