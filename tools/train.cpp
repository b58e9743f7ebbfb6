// train: trains a network on a data set and keeps checkpoints and metrics in a run folder.
#include "tools/tool_main.h"
#include "tools/tool_signals.h"
#include "tools/tool_training.h"

namespace {

using namespace plume;

int run(tools::Flags& flags) {
  tools::Recipe recipe;
  tools::RunOptions options;
  tools::add_recipe_flags(flags, recipe);
  flags.text("--data-dir", options.data_dir, "folder of the data set's files");
  flags.text("--out", options.out, "run folder")->required();
  flags.whole("--workers", options.workers, 0, 256, "loader threads; 0 loads between the steps");
  flags.on("--resume", options.resume, "go on with the run in --out, with its own settings");
  flags.on("--allow-changes", options.allow_changes, "let --resume change settings");
  flags.on("--overwrite", options.overwrite, "replace the run in --out");
  tools::DeviceFlags device(flags);
  flags.parse();
  tools::catch_signals();
  return tools::train(flags, recipe, options, device.open());
}

}  // namespace

int main(int argc, char** argv) {
  return plume::tools::run_tool(argc, argv, "Trains an image classifier.", run);
}
