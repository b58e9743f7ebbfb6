// Trains a small convolutional network on the embedded data set.
#include <cstdio>

#include "data/loader.h"
#include "data/sets/registry.h"
#include "engine/modules/layers.h"
#include "engine/ops/global_avg_pool.h"
#include "engine/ops/softmax_cross_entropy.h"
#include "engine/optim/sgd.h"

using namespace plume;

struct SmallNet : Module {
  Conv2d conv1{3, 32, 3, {.stride = 2, .padding = 1, .bias = false}};
  BatchNorm2d norm1{32, {.activation = Activation::relu}};
  Conv2d conv2{32, 64, 3, {.stride = 2, .padding = 1, .bias = false}};
  BatchNorm2d norm2{64, {.activation = Activation::relu}};
  Linear head{64, data::kSyntheticClasses};
  SmallNet() {
    register_module("conv1", conv1), register_module("norm1", norm1);
    register_module("conv2", conv2), register_module("norm2", norm2);
    register_module("head", head);
  }
  Variable forward(const Variable& images) override {
    const Variable x = norm2(conv2(norm1(conv1(images))));
    return head(global_avg_pool(x));
  }
};

int main() {
  const Device device = default_device();
  const auto images = data::open_dataset("synthetic", "", data::Split::train, {.count = 2000});
  data::Loader loader(images, {.batch_size = 50, .sampler = {.shuffle = true}});
  SmallNet net;
  RandomSequence random(1);
  net.initialize(random);
  net.to(device);
  Sgd sgd(net.parameters(), {.momentum = 0.9f});
  for (int epoch = 0; epoch < 5; ++epoch) {
    double sum = 0;
    loader.start(epoch);
    while (const auto batch = loader.next()) {
      const Variable logits = net(Variable(batch->images.to(device)));
      const Variable loss = softmax_cross_entropy(logits, {batch->labels.to(device), {}});
      sgd.zero_grad();
      backward(loss);
      sgd.step(0.1f);
      sum += double(loss.value().item());
    }
    std::printf("epoch %d: loss %.3f\n", epoch + 1, sum / double(loader.batches_per_epoch()));
  }
}
