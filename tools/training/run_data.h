// The images of a training run.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "data/loader.h"
#include "data/preprocessing.h"
#include "tools/cli/json_type.h"
#include "tools/training/selection.h"

namespace plume::tools {

// {"folder": "d/val", "split": "val", "images": 4, "left_out": {".webp": 12}}
Json to_json(const data::DatasetDescription& description);

// The training images, augmented as the recipe says, those that the run is selected on, and those that it is
// measured on; of both each once, without augmentation.
struct RunData {
  Selection selection;  // with the training images
  std::shared_ptr<const data::Dataset> test_set;
  std::string fingerprint;  // of the training images before any were held out
  data::Loader train;
  std::unique_ptr<data::Loader> validation;  // null: selected on the images of `test`
  data::Loader test;
  data::Preprocessing how;  // of all of them
  // For people: where the images come from, what was left out, how they are prepared (the last one).
  std::vector<std::string> notes;

  const data::Dataset& train_set() const { return *selection.train_set; }
  data::Loader& selecting() { return validation ? *validation : test; }
};
// How images are prepared that the weights know with which a new run begins.
data::Preprocessing wanted_preprocessing(const Recipe& recipe);
// `wanted`: what the weights that the run begins with (or went on from) want, of which it keeps the
// interpolation and the rotation; sizes are the recipe's, statistics the data set's.
RunData open_run_data(const Recipe& recipe, const RunOptions& options, Device device,
                      const data::Preprocessing& wanted = {});

// Lets the device make a batch's images where worker threads have not; before the loader's next().
void make_images(data::Batch& batch, Device device);

}  // namespace plume::tools
