// A model's accuracy, loss and latency.
#pragma once
#include <memory>
#include <optional>

#include "data/loader.h"
#include "engine/metrics/classification.h"
#include "engine/modules/module.h"

namespace plume::tools {

struct Evaluation {
  ClassificationMetrics metrics;
  double loss = 0;  // mean plain cross-entropy per sample
  double seconds = 0;
};

// The shorter side that torchvision's presets resize to before they crop (256 for 224), in proportion.
inline int64_t resized_side(int64_t image_size) { return (image_size * 256 + 112) / 224; }

// What the shorter side of a data set's images becomes before they are cropped to image_size, in training and
// evaluation alike; 0 where whole images are resized, because they are of one size, square and no larger.
int64_t shorter_side_for(const data::Dataset& dataset, int64_t image_size);

// A loader that sees every image once, in order, only normalised. limit: the first `limit` images; 0 for all.
// image_size: 0 for images as they are. Larger images and those of a folder are resized and cropped as for
// torchvision's presets (256 -> 224, in proportion), others resized. shared: this rank's part of the images
// (ranks.h).
data::Loader evaluation_loader(std::shared_ptr<const data::Dataset> dataset, int64_t batch, int workers,
                               int64_t limit, int64_t image_size = 0, bool shared = false);

// Puts the model into evaluation mode, fuses it, and runs it over the loader's epoch 0. Stops early, with
// what it has, when a signal asks to.
Evaluation evaluate(Module& model, data::Loader& loader, Device device, DType precision = DType::f32);

// Milliseconds of one forward pass of a whole batch.
struct Latency {
  int64_t batch = 0;
  int samples = 0;
  double median = 0, p95 = 0, p99 = 0;
  std::optional<double> joules_per_image;  // over the timed passes, where the device counts it
};

// Times forward passes over random images [batch, height, width, 3]: a warm-up of half of `seconds`, at most
// one, then `seconds` (at least 10 passes), synchronised around each; inputs rotate.
Latency measure_latency(Module& model, Device device, int64_t batch, int height, int width,
                        double seconds = 2.0, DType precision = DType::f32);

// Multiply-adds of convolutions and linear layers for one image.
int64_t count_model_macs(Module& model, Device device, int height, int width);
// Bytes of parameters and buffers.
int64_t state_bytes(Module& model);

}  // namespace plume::tools
