#include "tools/training/config.h"

#include "data/sets/registry.h"
#include "engine/files/read_file.h"
#include "models/registry.h"
#include "tools/cli/json_fields.h"
#include "tools/training/selection.h"

namespace plume::tools {
namespace {

constexpr int64_t kAny = INT64_MAX;
constexpr double kBelowOne = 0.999999;

}  // namespace

const Fields<Recipe>& recipe_fields() {
  using R = Recipe;
  static const Fields<Recipe> fields = {
      {"model", TextField<R>{&R::model, model_names()}, "network"},
      {"stem", TextField<R>{&R::stem, {"imagenet", "cifar"}},
       "first layers: as published, or for 32x32 images"},
      {"data", TextField<R>{&R::data, data::dataset_names()}, "data set"},
      {"image_size", WholeField<R>{&R::image_size, 0, 4096},
       "side of the network's input; 0: as the images are"},
      {"squash", SwitchField<R>{&R::squash},
       "whole images to the network's input, whatever their shape, in training and evaluation", true},
      {"weights", TextField<R>{&R::weights},
       "file of weights to begin with (safetensors, .pth); another number of "
       "classes, or none, gets a new last layer"},
      {"freeze_backbone", SwitchField<R>{&R::freeze_backbone}, "train the last layer alone"},
      {"zero_init", TextField<R>{&R::zero_init, {"none", "head", "residual", "both"}},
       "what begins at 0, so that a deep network learns from its first steps: the last layer, the scale of "
       "the batch norm that ends each residual branch, or both",
       true},
      {"head_lr_factor", NumberField<R>{&R::head_lr_factor, 1e-6, 1e6}, "times --lr, for the last layer"},
      {"epochs", WholeField<R>{&R::epochs, 1, 100'000}, "passes over the data"},
      {"batch", WholeField<R>{&R::batch, 1, 65'536}, "images per pass"},
      {"accumulate", WholeField<R>{&R::accumulate, 1, 1024}, "passes per step of the optimiser"},
      {"optimizer", TextField<R>{&R::optimizer, {"sgd", "adam", "adamw", "rmsprop", "rmsprop_tf"}},
       "algorithm"},
      {"lr", NumberField<R>{&R::lr, 0, 1e6}, "highest learning rate"},
      {"momentum", NumberField<R>{&R::momentum, 0, kBelowOne}, "of sgd and rmsprop"},
      {"nesterov", SwitchField<R>{&R::nesterov}, "Nesterov momentum"},
      {"beta1", NumberField<R>{&R::beta1, 0, kBelowOne}, "of adam: decay of the mean"},
      {"beta2", NumberField<R>{&R::beta2, 0, kBelowOne}, "of adam: decay of the mean square"},
      {"eps", NumberField<R>{&R::eps, 0, 1}, "of adam and rmsprop"},
      {"alpha", NumberField<R>{&R::alpha, 0, kBelowOne}, "of rmsprop: decay of the mean square"},
      {"weight_decay", NumberField<R>{&R::weight_decay, 0, 1e3}, "L2; decoupled for adamw"},
      {"no_norm_decay", SwitchField<R>{&R::no_norm_decay}, "spare norms and biases the weight decay"},
      {"clip_norm", NumberField<R>{&R::clip_norm, 0, 1e6}, "largest norm of all gradients together; 0: any"},
      {"schedule",
       TextField<R>{&R::schedule, {"constant", "step", "multistep", "cosine", "one_cycle", "plateau"}},
       "of the learning rate"},
      {"warmup_epochs", WholeField<R>{&R::warmup_epochs, 0, 100'000}, "linear warm-up, per step"},
      {"step_epochs", WholeField<R>{&R::step_epochs, 1, 100'000}, "of schedule step; patience of plateau"},
      {"milestones", TextField<R>{&R::milestones}, "epochs of schedule multistep: 30,60,80"},
      {"gamma", NumberField<R>{&R::gamma, 1e-6, kBelowOne},
       "factor of schedules step, multistep and plateau"},
      {"label_smoothing", NumberField<R>{&R::label_smoothing, 0, kBelowOne},
       "share of the uniform distribution"},
      {"mixup", NumberField<R>{&R::mixup, 0, 100}, "MixUp's alpha; 0: off"},
      {"cutmix", NumberField<R>{&R::cutmix, 0, 100}, "CutMix's alpha; 0: off"},
      {"crop_padding", WholeField<R>{&R::crop_padding, 0, 1024},
       "random crop with this many black pixels around; larger images are resized first, as for evaluation"},
      {"random_resized_crop", SwitchField<R>{&R::random_resized_crop},
       "crop of random place, size and shape"},
      {"no_flip", SwitchField<R>{&R::no_flip}, "do not mirror at random"},
      {"auto_augment",
       TextField<R>{&R::auto_augment, {"none", "cifar10", "imagenet", "randaugment", "trivialaugment"}},
       "policy of image operations"},
      {"erasing", NumberField<R>{&R::erasing, 0, 1}, "probability of random erasing"},
      {"precise_bn", WholeField<R>{&R::precise_bn, 0, 1'000'000},
       "training batches over which batch norms' statistics are computed anew before an evaluation; 0: none",
       true},
      {"ema_decay", NumberField<R>{&R::ema_decay, 0, kBelowOne},
       "of averaged weights, which are evaluated; 0: off"},
      {"precision", TextField<R>{&R::precision, {"f32", "bf16", "f16", "auto"}},
       "of activations; weights are f32; auto: bf16 on a GPU, f32 elsewhere"},
      {"tf32", SwitchField<R>{&R::tf32}, "f32 products on tensor cores with 10-bit mantissas (cuda)"},
      {"validation", TextField<R>{&R::validation, {}, true},
       "images to select the best epoch on: a share of the training images or a number of them, held out by "
       "class; 0: selected on the test set; auto: the split val where test is measured, otherwise 0.1",
       true},
      {"early_stopping", WholeField<R>{&R::early_stopping, 0, 100'000},
       "stop after so many epochs without a better validation accuracy; 0: never"},
      {"seed", WholeField<R>{&R::seed, 0, kAny}, "of initial values, order and augmentation"},
      {"limit_train", WholeField<R>{&R::limit_train, 0, kAny},
       "only the first N training images, before validation images are held out; 0: all"},
      {"limit_test", WholeField<R>{&R::limit_test, 0, kAny},
       "only the first N images of test and of the split val; 0: all"},
      {"sync_bn", SwitchField<R>{&R::sync_bn}, "batch norm over all ranks"},
      {"deterministic", SwitchField<R>{&R::deterministic},
       "only kernels whose result does not depend on scheduling"},
  };
  return fields;
}

const Fields<RunOptions>& option_fields() {
  using O = RunOptions;
  static const Fields<RunOptions> fields = {
      {"data_dir", TextField<O>{&O::data_dir}, "folder of the data set's files"},
      {"weights_key", TextField<O>{&O::weights_key},
       "which dictionary of tensors in --weights, where several fit: state_dict, model_ema.module"},
      {"ignore", TextField<O>{&O::ignore}, "leave out tensors of --weights with such names: aux.*,head.*"},
      {"cache_dir", TextField<O>{&O::cache_dir}, "folder for decoded images (default: ~/.cache/plume)"},
      {"skip_bad", WholeField<O>{&O::skip_bad, 0, kAny}, "leave out at most N unreadable images"},
      {"workers", WholeField<O>{&O::workers, 0, 256}, "loader threads; 0 loads between the steps"},
      {"checkpoint_steps", WholeField<O>{&O::checkpoint_steps, 0, kAny},
       "also keep a checkpoint every N steps; 0: after epochs only"},
      {"keep_last", WholeField<O>{&O::keep_last, 1, kAny}, "how many checkpoints to keep"},
  };
  return fields;
}

std::vector<int64_t> parse_milestones(const std::string& text) {
  std::vector<int64_t> epochs;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find(',', begin), text.size());
    epochs.push_back(parse_whole("--milestones", text.substr(begin, end - begin), 1, 100'000));
    PLUME_CHECK(epochs.size() < 2 || epochs.back() > epochs[epochs.size() - 2],
                "--milestones: '{}' is not in ascending order", text);
    begin = end + 1;
  }
  return epochs;
}

Recipe recipe_of_older_files() { return {.validation = "0"}; }

void check_recipe(const Recipe& r) {
  parse_validation(r.validation);
  const bool has_milestones = !parse_milestones(r.milestones).empty();
  PLUME_CHECK(r.schedule != "multistep" || has_milestones, "--schedule multistep: needs --milestones");
  PLUME_CHECK(!r.nesterov || (r.optimizer == "sgd" && r.momentum > 0),
              "--nesterov: needs --optimizer sgd with a --momentum above 0");
  const bool zero_head = r.zero_init == "head" || r.zero_init == "both";
  PLUME_CHECK(!zero_head || !r.model.starts_with("squeezenet"),
              "--zero-init {}: {} has a ReLU after its last layer, which learns nothing from 0", r.zero_init,
              r.model);
  PLUME_CHECK(!r.freeze_backbone || !r.weights.empty(),
              "--freeze-backbone: needs --weights: random features teach nothing");
}

void read_config(const std::string& path, Recipe& recipe, RunOptions& options) {
  constexpr int64_t kMostBytes = 1 << 20;
  const std::vector<uint8_t> text = read_small_file(path, kMostBytes, "settings as JSON");
  const Json json = parse_json({reinterpret_cast<const char*>(text.data()), text.size()}, path);
  if (!json.is_object()) fail(ErrorKind::bad_input, "{}: is not a JSON object", path);
  std::vector<std::string> known;
  for (const auto& field : recipe_fields()) known.emplace_back(field.key);
  for (const auto& field : option_fields()) known.emplace_back(field.key);
  const auto read = [&](const Json& object) {
    if (!object.is_object()) fail(ErrorKind::bad_input, "{}: settings are no object", path);
    for (const auto& [key, value] : object.items()) {
      if (const auto* of_recipe = find_field(recipe_fields(), key))
        set_field(*of_recipe, value, recipe, path);
      else if (const auto* of_options = find_field(option_fields(), key))
        set_field(*of_options, value, options, path);
      else if (key != "comment")
        fail(ErrorKind::bad_input, "{}: there is no setting {}; nearest: '{}'", path, in_quotes(key),
             nearest(key, known));
    }
  };
  if (!json.contains("recipe")) return read(json);
  // The config.json of a run is complete.
  if (json.contains("run") && json["recipe"].is_object() && !json["recipe"].contains("validation"))
    recipe.validation = recipe_of_older_files().validation;
  for (const auto& [key, value] : json.items()) {
    if (key == "recipe" || key == "options")
      read(value);
    else if (key != "run" && key != "comment")
      fail(ErrorKind::bad_input, "{}: there is no setting {} beside 'recipe' and 'options'", path,
           in_quotes(key));
  }
}

}  // namespace plume::tools
