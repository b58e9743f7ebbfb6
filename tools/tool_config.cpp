#include "tools/tool_config.h"

#include <nlohmann/json.hpp>

#include "data/registry.h"
#include "models/registry.h"

namespace plume::tools {
namespace {

// The one list of fields: f(name, flag, member).
template <class F>
void for_each_field(F&& f) {
  f("model", "--model", &Recipe::model);
  f("stem", "--stem", &Recipe::stem);
  f("data", "--data", &Recipe::data);
  f("epochs", "--epochs", &Recipe::epochs);
  f("batch", "--batch", &Recipe::batch);
  f("learning_rate", "--lr", &Recipe::learning_rate);
  f("momentum", "--momentum", &Recipe::momentum);
  f("weight_decay", "--weight-decay", &Recipe::weight_decay);
  f("nesterov", "--nesterov", &Recipe::nesterov);
  f("label_smoothing", "--label-smoothing", &Recipe::label_smoothing);
  f("warmup_epochs", "--warmup-epochs", &Recipe::warmup_epochs);
  f("seed", "--seed", &Recipe::seed);
  f("limit_train", "--limit-train", &Recipe::limit_train);
  f("limit_test", "--limit-test", &Recipe::limit_test);
}

}  // namespace

void add_recipe_flags(Flags& flags, Recipe& r) {
  flags.choice("--model", r.model, model_names(), "network");
  flags.choice("--stem", r.stem, {"imagenet", "cifar"}, "first layers: as published, or for 32x32 images");
  flags.choice("--data", r.data, data::dataset_names(), "data set");
  flags.whole("--epochs", r.epochs, 1, 100'000, "passes over the data");
  flags.whole("--batch", r.batch, 1, 65'536, "images per step");
  flags.number("--lr", r.learning_rate, 0, 1e6, "highest learning rate; cosine schedule");
  flags.number("--momentum", r.momentum, 0, 0.999999, "of SGD");
  flags.number("--weight-decay", r.weight_decay, 0, 1e3, "L2, on every parameter");
  flags.on("--nesterov", r.nesterov, "Nesterov momentum");
  flags.number("--label-smoothing", r.label_smoothing, 0, 0.999999, "share of the uniform distribution");
  flags.whole("--warmup-epochs", r.warmup_epochs, 0, 100'000, "linear warm-up, per step");
  flags.whole("--seed", r.seed, 0, INT64_MAX, "of initial values, order and augmentation");
  flags.whole("--limit-train", r.limit_train, 0, INT64_MAX, "only the first N training images; 0 for all");
  flags.whole("--limit-test", r.limit_test, 0, INT64_MAX, "only the first N test images; 0 for all");
}

Recipe overlay(const Recipe& stored, const Recipe& now, const Flags& flags) {
  Recipe result = stored;
  for_each_field([&](const char*, const char* flag, auto member) {
    if (flags.given(flag)) result.*member = now.*member;
  });
  return result;
}

std::vector<std::string> differences(const Recipe& before, const Recipe& after) {
  std::vector<std::string> lines;
  for_each_field([&](const char* name, const char*, auto member) {
    if (before.*member != after.*member)
      lines.push_back(message("{}: {} -> {}", name, before.*member, after.*member));
  });
  return lines;
}

std::string to_json_text(const Recipe& recipe) {
  nlohmann::ordered_json json;
  for_each_field([&](const char* name, const char*, auto member) { json[name] = recipe.*member; });
  return json.dump(2);
}

Recipe recipe_from_json(const std::string& text, const std::string& source) {
  Recipe recipe;
  try {
    const nlohmann::json json = nlohmann::json::parse(text);
    for_each_field([&](const char* name, const char*, auto member) { json.at(name).get_to(recipe.*member); });
  } catch (const nlohmann::json::exception& error) {
    fail(ErrorKind::bad_input, "{}: not a training configuration: {}", source, error.what());
  }
  return recipe;
}

}  // namespace plume::tools
