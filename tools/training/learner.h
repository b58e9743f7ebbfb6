// What is trained: a network, its optimiser and its averaged weights, made as a recipe says.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "engine/optim/ema.h"
#include "engine/optim/optimizer.h"
#include "models/registry.h"
#include "tools/cli/model.h"
#include "tools/training/config.h"
#include "tools/training/ranks.h"

namespace plume::tools {

struct Learner {
  std::unique_ptr<Module> model;
  std::unique_ptr<Optimizer> optimizer;
  std::unique_ptr<Ema> ema;  // null when nothing is averaged
  std::unique_ptr<TrainingRanks> ranks;
  std::string note;  // on the weights to begin with; may be empty

  // What is evaluated and kept in best.safetensors, and what a checkpoint holds besides.
  std::vector<NamedTensor> weights();
  std::vector<NamedTensor> rest();
};

// `pretrained`: read recipe.weights, as a run that begins does; one that goes on has all in its checkpoint,
// and the file may have gone. `fit`: which of them.
Learner make_learner(const Recipe& recipe, int classes, Device device, bool pretrained = true,
                     const FitOptions& fit = {});

// Weights of any file (see fit_weights.h), except that a last layer that is missing there or has another
// number of classes is left as it is. Returns what was done, for people. Throws bad_input.
std::string load_pretrained(const std::string& path, Module& model, FitOptions fit = {});

}  // namespace plume::tools
