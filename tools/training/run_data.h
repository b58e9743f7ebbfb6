// The images of a training run.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "data/loader.h"
#include "tools/cli/json_type.h"
#include "tools/training/config.h"

namespace plume::tools {

// {"folder": "d/val", "split": "val", "images": 4, "left_out": {".webp": 12}}
Json to_json(const data::DatasetDescription& description);

// The training images, augmented as the recipe says, and those that the run is measured on, each once.
struct RunData {
  std::shared_ptr<const data::Dataset> train_set, test_set;
  data::Loader train, test;
  int64_t image_size = 0;          // of the network's input
  std::vector<std::string> notes;  // for people: where the images come from, what was left out
};
RunData open_run_data(const Recipe& recipe, const RunOptions& options, Device device);

// Lets the device make a batch's images where worker threads have not; before the loader's next().
void make_images(data::Batch& batch, Device device);

}  // namespace plume::tools
