// The images of a training run.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "data/loader.h"
#include "tools/cli/json_type.h"
#include "tools/training/selection.h"

namespace plume::tools {

// {"folder": "d/val", "split": "val", "images": 4, "left_out": {".webp": 12}}
Json to_json(const data::DatasetDescription& description);

// The training images, augmented as the recipe says, those that the run is selected on, and those that it is
// measured on; of both each once, only normalised.
struct RunData {
  Selection selection;  // with the training images
  std::shared_ptr<const data::Dataset> test_set;
  std::string fingerprint;  // of the training images before any were held out
  data::Loader train;
  std::unique_ptr<data::Loader> validation;  // null: selected on the images of `test`
  data::Loader test;
  int64_t image_size = 0;          // of the network's input
  std::vector<std::string> notes;  // for people: where the images come from, what was left out

  const data::Dataset& train_set() const { return *selection.train_set; }
  data::Loader& selecting() { return validation ? *validation : test; }
};
RunData open_run_data(const Recipe& recipe, const RunOptions& options, Device device);

// Lets the device make a batch's images where worker threads have not; before the loader's next().
void make_images(data::Batch& batch, Device device);

}  // namespace plume::tools
