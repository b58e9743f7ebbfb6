// train: trains a network on a data set and keeps checkpoints and metrics in a run folder.
#include <filesystem>

#include "engine/core/text.h"
#include "engine/distributed/launch.h"
#include "tools/cli/main.h"
#include "tools/cli/paths.h"
#include "tools/cli/signals.h"
#include "tools/training/training.h"

namespace {

using namespace plume;

struct Wishes {
  tools::Recipe recipe;
  tools::RunOptions options;
  std::string out, config;
  bool resume = false, overwrite = false, allow_changes = false;
  bool graph = false, no_graph = false, quiet = false, json = false;
};

// So that the run can be resumed from another working folder.
void make_absolute(tools::Recipe& recipe, tools::RunOptions& options) {
  for (std::string* path : {&recipe.weights, &options.data_dir, &options.cache_dir})
    *path = tools::absolute_path(*path);
}

// A run keeps what it began with, wherever it goes on.
void choose_precision(tools::Recipe& recipe, Device device) {
  if (recipe.precision == "auto") recipe.precision = is_host(device) ? "f32" : "bf16";
}

tools::TrainingRequest request_of(const Wishes& w, Device device) {
  using Style = tools::Progress::Style;
  return {.recipe = {},
          .options = {},
          .network = {},
          .device = device,
          .graph = w.graph || (device == Device::cuda && !w.no_graph),
          .style = w.json    ? Style::json
                   : w.quiet ? Style::quiet
                             : Style::automatic};
}

int start(const tools::Flags& flags, const Wishes& w, const tools::RunFolder& folder,
          tools::TrainingRequest request) {
  if (!w.config.empty()) tools::read_config(w.config, request.recipe, request.options);
  request.recipe = tools::overlay(tools::recipe_fields(), request.recipe, w.recipe, flags);
  request.options = tools::overlay(tools::option_fields(), request.options, w.options, flags);
  choose_precision(request.recipe, request.device);
  tools::check_recipe(request.recipe);
  make_absolute(request.recipe, request.options);
  return tools::train(request, folder);
}

// Where the data lies may have changed; what is not said is as it was. The settings' file is newer than the
// checkpoint where the run was resumed since.
tools::RunOptions options_of_run(const tools::RunFolder& folder, const tools::RunDescription& stored) {
  const std::string config = folder.file("config.json");
  std::error_code error;
  if (!std::filesystem::exists(config, error)) return stored.options;
  try {
    tools::Recipe ignored;
    tools::RunOptions options = stored.options;
    tools::read_config(config, ignored, options);
    return options;
  } catch (const Error& damage) {
    tools::log_line(message("{}; goes on with what the checkpoint says", damage.what()));
    return stored.options;
  }
}

// What differs between a stored run and what shall go on.
std::vector<std::string> changes_of(tools::RunDescription stored, const tools::TrainingRequest& request) {
  make_absolute(stored.recipe, stored.options);  // of older versions' runs
  std::vector<std::string> changes =
      tools::differences(tools::recipe_fields(), stored.recipe, request.recipe);
  if (stored.ranks > 0 && stored.ranks != launch().world)
    changes.push_back(message("ranks: {} -> {}", stored.ranks, launch().world));
  return changes;
}

int go_on(const tools::Flags& flags, const Wishes& w, const tools::RunFolder& folder,
          tools::TrainingRequest request) {
  tools::RunDescription stored;
  std::vector<std::string> damaged;
  const std::string checkpoint = folder.newest_checkpoint(stored, damaged);
  for (const std::string& line : damaged) tools::log_line(message("{}; goes on from {}", line, checkpoint));
  request.recipe = tools::overlay(tools::recipe_fields(), stored.recipe, w.recipe, flags);
  request.options = tools::overlay(tools::option_fields(), options_of_run(folder, stored), w.options, flags);
  choose_precision(request.recipe, request.device);
  make_absolute(request.recipe, request.options);
  const std::string changes = brief_list(changes_of(stored, request), "");
  PLUME_CHECK(
      changes.empty() || w.allow_changes,
      "--resume: the run was started otherwise ({}); give --allow-changes to go on with the new values",
      changes);
  tools::check_recipe(request.recipe);
  std::error_code error;
  PLUME_CHECK(!tools::has_lost_bytes(request.options.data_dir) ||
                  std::filesystem::exists(request.options.data_dir, error),
              "--resume: {}: the name of this folder holds bytes that are no UTF-8 and could not be "
              "remembered; give --data-dir",
              request.options.data_dir);
  if (!changes.empty()) tools::log_line("goes on with changes: " + changes);
  request.network = stored.network;
  return tools::resume(request, folder, checkpoint, stored.state, w.allow_changes);
}

int run(tools::Flags& flags) {
  Wishes w;
  flags.text("--config", w.config, "settings as JSON, a run's config.json for one; flags come on top");
  tools::add_flags(flags, tools::recipe_fields(), w.recipe);
  tools::add_flags(flags, tools::option_fields(), w.options);
  flags.on("--graph", w.graph, "record a step once and replay it (default on cuda)");
  flags.on("--no-graph", w.no_graph, "run every step call by call");
  flags.text("--out", w.out, "run folder").required();
  flags.on("--resume", w.resume, "go on with the run in --out, with its own settings");
  flags.on("--allow-changes", w.allow_changes, "let --resume change settings");
  flags.on("--overwrite", w.overwrite, "replace the run in --out");
  flags.on("--quiet", w.quiet, "say nothing but warnings and errors");
  flags.on("--json", w.json, "one JSON line per epoch and one of the test on stdout, nothing else");
  tools::DeviceFlags device(flags);
  flags.parse();
  PLUME_CHECK(!(w.resume && w.overwrite), "--resume and --overwrite exclude each other");
  PLUME_CHECK(!(w.resume && !w.config.empty()), "--resume and --config exclude each other");
  PLUME_CHECK(!(w.graph && w.no_graph), "--graph and --no-graph exclude each other");
  const tools::RunFolder folder(w.out);
  // By the first rank: another may come when it has written already.
  if (launch().rank == 0) folder.check_free(w.resume || w.overwrite);
  tools::catch_signals();
  const tools::TrainingRequest request = request_of(w, device.open());
  return w.resume ? go_on(flags, w, folder, request) : start(flags, w, folder, request);
}

}  // namespace

int main(int argc, char** argv) {
  return plume::tools::run_tool(argc, argv, "Trains an image classifier.", run);
}
