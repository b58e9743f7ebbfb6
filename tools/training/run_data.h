// The images of a training run.
#pragma once
#include <memory>

#include "data/loader.h"
#include "tools/training/config.h"

namespace plume::tools {

// The training images, augmented as the recipe says, and the test images, each once.
struct RunData {
  std::shared_ptr<const data::Dataset> train_set, test_set;
  data::Loader train, test;
  int64_t image_size = 0;  // of the network's input
};
RunData open_run_data(const Recipe& recipe, const RunOptions& options, Device device);

// Lets the device make a batch's images where worker threads have not; before the loader's next().
void make_images(data::Batch& batch, Device device);

}  // namespace plume::tools
