// Which images a run is selected on: those that the best epoch, early stopping and the plateau schedule
// follow.
#pragma once
#include <functional>
#include <memory>
#include <string>

#include "data/dataset.h"
#include "tools/training/config.h"

namespace plume::tools {

struct ValidationWish {
  // val where test is measured, otherwise kUsualShare of the training images; nothing where no class has two
  bool automatic = false;
  double share = 0;   // of the training images
  int64_t count = 0;  // of images; neither: selected on the images that the run is measured on
};
inline constexpr double kUsualShare = 0.1;
// "auto", "0", a share below 1 or a number of images from 2 on. Throws usage.
ValidationWish parse_validation(const std::string& text);

struct Selection {
  std::shared_ptr<const data::Dataset> train_set;       // what remains to train on
  std::shared_ptr<const data::Dataset> validation_set;  // null: selected on the images that are measured
  int64_t train_limit = 0, validation_limit = 0;        // only so many of them; 0: all
  std::string about;                                    // "500 validation images (10 % of the training set)"

  // What metrics are named after: "validation_top1" or "test_top1".
  const char* set() const { return validation_set ? "validation" : "test"; }
  int64_t images() const;  // of the validation set
};
// `val`: opens the split val where the data set has it beside the one that is measured; null otherwise. A
// pure function of the sets' content and the recipe's validation, seed and limits. Throws bad_input where so
// many images cannot be held out.
using OpenValidation = std::function<std::shared_ptr<const data::Dataset>()>;
Selection select_images(const Recipe& recipe, std::shared_ptr<const data::Dataset> train_set,
                        const OpenValidation& val);

}  // namespace plume::tools
