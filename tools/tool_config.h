// What a training run is told, as flags and as JSON.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "tools/tool_main.h"

namespace plume::tools {

// Everything that decides the numbers of a run, and nothing else: a resumed run must agree in all of it.
struct Recipe {
  std::string model = "resnet18";
  std::string stem = "imagenet";
  std::string data = "synthetic";
  int64_t epochs = 10;
  int64_t batch = 128;
  double learning_rate = 0.05;
  double momentum = 0.9;
  double weight_decay = 5e-4;
  bool nesterov = false;
  double label_smoothing = 0;
  int64_t warmup_epochs = 1;
  int64_t seed = 1;
  int64_t limit_train = 0;  // 0: all
  int64_t limit_test = 0;
};

void add_recipe_flags(Flags& flags, Recipe& recipe);
// The recipe of a resumed run: what was stored, with the flags given this time in `now` on top.
Recipe overlay(const Recipe& stored, const Recipe& now, const Flags& flags);
// One "name: old -> new" per field that differs.
std::vector<std::string> differences(const Recipe& before, const Recipe& after);

std::string to_json_text(const Recipe& recipe);
// Throws bad_input, naming `source`, on anything but a complete recipe.
Recipe recipe_from_json(const std::string& text, const std::string& source);

}  // namespace plume::tools
