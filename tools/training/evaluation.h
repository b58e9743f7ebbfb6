// A model's accuracy, loss and latency.
#pragma once
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "data/loader.h"
#include "data/preprocessing.h"
#include "data/sets/registry.h"
#include "engine/metrics/classification.h"
#include "engine/modules/module.h"

namespace plume::tools {

struct Evaluation {
  ClassificationMetrics metrics;
  double loss = 0;  // mean plain cross-entropy per sample
  double seconds = 0;
};

// Lets the images of a folder be reduced as `how` wants them when they are packed; other sets have no use for
// it. What it makes of the packed images is what it makes of the files.
void reduce_as(data::OpenOptions& options, std::string_view dataset, const data::Preprocessing& how);

// A loader that sees every image once, in order, prepared as `how` says and nothing else. limit: the first
// `limit` images; 0 for all. shared: this rank's part of the images (ranks.h). device: a GPU makes the images
// itself, from bytes that arrive while it works.
data::Loader evaluation_loader(std::shared_ptr<const data::Dataset> dataset, int64_t batch, int workers,
                               int64_t limit, const data::Preprocessing& how, bool shared = false,
                               Device device = Device::cpu);

// Puts the model into evaluation mode, fuses it, and runs it over the loader's epoch 0. Stops early, with
// what it has, when a signal asks to. A GPU replays a recording of whole batches, and what it found is read
// one batch late. take_logits: gets those of each batch.
Evaluation evaluate(Module& model, data::Loader& loader, Device device, DType precision = DType::f32,
                    const std::function<void(const std::vector<float>&)>& take_logits = {});

// Milliseconds of one forward pass of a whole batch.
struct Latency {
  struct Times {
    int samples = 0;
    double median = 0, p95 = 0, p99 = 0;
  };
  int64_t batch = 0;
  Times times;                             // call by call
  std::optional<Times> recorded;           // of replays of a recorded pass, on devices that record
  std::optional<double> joules_per_image;  // over the passes call by call, where the device counts it
};

// Times forward passes over random images [batch, height, width, 3]: a warm-up of half of `seconds`, at most
// one, then `seconds` (at least 10 passes) in each way, synchronised around each. Inputs rotate, but
// for the recorded pass, which has one.
Latency measure_latency(Module& model, Device device, int64_t batch, int height, int width,
                        double seconds = 2.0, DType precision = DType::f32);

// Multiply-adds of convolutions and linear layers for one image.
int64_t count_model_macs(Module& model, Device device, int height, int width);
// Bytes of parameters and buffers.
int64_t state_bytes(Module& model);

}  // namespace plume::tools
