// The folder of a training run.
//
//   config.json          settings, complete: train --config reads it
//   environment.json     machine, libraries, revision
//   metrics.jsonl, .csv  one line per epoch, at last one of the test; events.out.tfevents.plume holds the
//                        same for TensorBoard
//   result.json          of a finished run: what the best and the last epoch came to on the images that it is
//                        measured on, and what the best one was selected on (epoch_report.h)
//   console.log          what was said
//   last.safetensors     weights after the last epoch, best.safetensors those of the best one, by what the
//                        run is selected on: plain state dictionaries (of averaged weights, where the run
//                        averages) that say what they are of, how their images are prepared and what their
//                        classes are called
//   checkpoints/         step-00001234.safetensors: all that --resume needs, each complete by itself
#pragma once
#include <string>
#include <vector>

#include "tools/training/checkpoint.h"

namespace plume::tools {

class RunFolder {
 public:
  explicit RunFolder(std::string path) : path_(std::move(path)) {}

  const std::string& path() const { return path_; }
  std::string file(const std::string& name) const;
  std::string checkpoint(int64_t step) const;
  void remove(const std::string& name) const;

  // Throws usage when the path is something else than a folder, or holds a run already and `replace` is
  // false.
  void check_free(bool replace) const;
  // Makes the folder and removes what a run before left in it. Throws resource.
  void make() const;

  // The newest checkpoint that is whole; newer ones that are damaged are named in `damaged`, one line each.
  // Throws bad_input when there is none.
  std::string newest_checkpoint(RunDescription& found, std::vector<std::string>& damaged) const;
  // Removes checkpoints of steps before `step` until, with it, `keep` are left, and what a killed run left
  // half written.
  void prune(int64_t step, int64_t keep) const;

 private:
  std::vector<std::pair<int64_t, std::string>> checkpoints() const;  // step and path, newest first

  std::string path_;
};

}  // namespace plume::tools
