// What a training run is told, as flags and as JSON.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "tools/cli/fields.h"

namespace plume::tools {

// Everything that decides the numbers of a run, and nothing else: a resumed run must agree in all of it.
struct Recipe {
  std::string model = "resnet18", stem = "imagenet";
  std::string data = "synthetic";
  int64_t image_size = 0;  // 0: as the images are
  bool squash = false;
  std::string weights;  // to begin with
  std::string zero_init = "none";
  bool freeze_backbone = false;
  double head_lr_factor = 1;
  int64_t epochs = 10, batch = 128, accumulate = 1;

  std::string optimizer = "sgd";
  double lr = 0.05, momentum = 0.9;
  bool nesterov = false;
  double beta1 = 0.9, beta2 = 0.999, eps = 1e-8, alpha = 0.99;
  double weight_decay = 5e-4;
  bool no_norm_decay = false;
  double clip_norm = 0;
  std::string schedule = "cosine";
  int64_t warmup_epochs = 1, step_epochs = 30;
  std::string milestones;  // epochs, "30,60,80"
  double gamma = 0.1;
  double label_smoothing = 0;

  double mixup = 0, cutmix = 0;
  int64_t crop_padding = 4;
  bool random_resized_crop = false, no_flip = false;
  std::string auto_augment = "none";
  double erasing = 0;
  double ema_decay = 0;
  int64_t precise_bn = 0;  // batches
  std::string precision = "f32";
  bool tf32 = false;
  std::string validation = "auto";  // selection.h
  int64_t early_stopping = 0;
  int64_t seed = 1;
  int64_t limit_train = 0, limit_test = 0;
  bool sync_bn = false, deterministic = false;
};
const Fields<Recipe>& recipe_fields();
// What a complete recipe of a file means by fields that are younger than it: such a run was made without.
Recipe recipe_of_older_files();
// What the fields' own ranges do not say. Throws usage, naming the flags.
void check_recipe(const Recipe& recipe);
// Ascending, each at least 1. Throws usage.
std::vector<int64_t> parse_milestones(const std::string& text);

// What changes where and how a run is made, but none of its numbers.
struct RunOptions {
  std::string data_dir, cache_dir;
  std::string weights_key, ignore;  // which tensors of the recipe's weights; patterns: "a,b"
  int64_t skip_bad = 0;
  int64_t workers = 2;
  int64_t checkpoint_steps = 0;  // 0: after epochs only
  int64_t keep_last = 2;
};
const Fields<RunOptions>& option_fields();

// Reads settings from a file into both structs: {"recipe": {...}, "options": {...}, ...}, as a run's
// config.json is, or one flat object of any of their keys. What it does not name stays as it was. Throws
// bad_input, naming the file, the key and for an unknown one the nearest.
void read_config(const std::string& path, Recipe& recipe, RunOptions& options);

}  // namespace plume::tools
