// parity: what a network computes from given weights and one batch, to be compared with another framework.
//
// Writes the logits in evaluation mode before training, then takes SGD steps on the same batch and writes the
// logits, gradients and running statistics of the first step and the loss of each.
#include <cmath>
#include <cstdio>

#include "engine/autograd/tape.h"
#include "engine/ops/layer_random.h"
#include "engine/ops/softmax_cross_entropy.h"
#include "engine/optim/sgd.h"
#include "engine/serialization/state_dict.h"
#include "tools/cli/main.h"
#include "tools/cli/model.h"
#include "tools/cli/preprocessing.h"
#include "tools/cli/tensors.h"
#include "tools/training/checkpoint.h"

namespace {

using namespace plume;

struct Request {
  std::string model = "resnet18", stem = "imagenet", weights, batch, out;
  int64_t steps = 1;
  double learning_rate = 0.01, momentum = 0.9, weight_decay = 0;
};

struct Batch {
  Tensor images;  // NHWC
  Tensor labels;  // i32
};

Batch read_batch(const std::string& path, int64_t classes) {
  const tools::TensorMap tensors = tools::read_tensors(path);
  const Tensor& input = tools::find_tensor(tensors, "input", path);
  const Tensor& labels = tools::find_tensor(tensors, "labels", path);
  if (input.rank() != 4 || input.dtype() != DType::f32 || input.dim(1) != 3 || input.size() == 0)
    fail(ErrorKind::bad_input, "{}: 'input' is {}, expected f32 [N, 3, H, W]", path, input);
  if (labels.rank() != 1 || labels.dtype() != DType::i64 || labels.dim(0) != input.dim(0))
    fail(ErrorKind::bad_input, "{}: 'labels' is {}, expected i64 [{}]", path, labels, input.dim(0));
  std::vector<int32_t> narrow;
  for (const int64_t label : labels.to_vector<int64_t>()) {
    if (label < 0 || label >= classes)
      fail(ErrorKind::bad_input, "{}: label {} is not from 0 to {}", path, label, classes - 1);
    narrow.push_back(int32_t(label));
  }
  return {tools::nchw_to_nhwc(input), Tensor::from(narrow, {int64_t(narrow.size())})};
}

// On the host and in PyTorch's layout.
Tensor exported(const Tensor& tensor, bool filter) {
  const Tensor host = tensor.to(Device::cpu);
  return filter ? filter_to_file(host) : host.clone();
}

int run(tools::Flags& flags) {
  Request r;
  flags.choice("--model", r.model, model_names(), "network");
  flags.choice("--stem", r.stem, {"imagenet", "cifar"}, "first layers");
  flags.text("--weights", r.weights, "safetensors or .pth file").required();
  tools::WeightsFlags weights_flags(flags);
  flags.text("--batch", r.batch, "safetensors file: input f32 [N, 3, H, W], normalised; labels i64 [N]")
      .required();
  flags.text("--out", r.out, "safetensors file to write").required();
  flags.whole("--steps", r.steps, 1, 1'000'000, "SGD steps on the batch");
  flags.number("--lr", r.learning_rate, 0, 1e6, "learning rate");
  flags.number("--momentum", r.momentum, 0, 0.999999, "of SGD");
  flags.number("--weight-decay", r.weight_decay, 0, 1e3, "L2, on every parameter");
  tools::DeviceFlags device_flags(flags);
  flags.parse();
  PLUME_CHECK(r.out != r.weights && r.out != r.batch, "--out {}: is an input file", r.out);
  const Device device = device_flags.open();

  const Weights weights = open_weights(r.weights);
  const std::unique_ptr<Module> model =
      tools::model_from_weights(r.model, parse_stem(r.stem), weights, weights_flags.options());
  const tools::NetworkDescription network = tools::describe_weights(weights, r.model);
  const int64_t classes = model->parameters().back().variable.value().dim(0);
  const Batch batch = read_batch(r.batch, classes);
  model->to(device);
  const Variable images(batch.images.to(device));
  const Targets targets{batch.labels.to(device), {}};

  tools::TensorMap out;
  {
    const NoGrad no_grad;
    model->eval();
    out["logits_eval"] = exported((*model)(images).value(), false);
  }
  model->train();
  const NoDropout no_dropout;
  Sgd sgd(model->parameters(), {.momentum = float(r.momentum), .weight_decay = float(r.weight_decay)});
  std::vector<float> losses;
  for (int64_t step = 0; step < r.steps; ++step) {
    const Variable logits = (*model)(images);
    const Variable loss = softmax_cross_entropy(logits, targets);
    losses.push_back(loss.value().item());
    if (!std::isfinite(losses.back()))
      fail(ErrorKind::numeric, "the loss of step {} is {}", step + 1, losses.back());
    sgd.zero_grad();
    backward(loss);
    if (step == 0) {
      out["logits_train"] = exported(logits.value(), false);
      for (const NamedParameter& p : model->parameters())
        out["grad." + p.name] = exported(p.variable.grad(), p.filter);
      for (const NamedTensor& entry : model->state())
        if (entry.name.find("running_") != std::string::npos)
          out["running." + entry.name] = exported(*entry.tensor, false);
    }
    sgd.step(float(r.learning_rate));
  }
  out["loss"] = Tensor::from(losses, {r.steps});
  tools::write_tensors(r.out, out);
  std::printf("images: taken as they are; the network wants %s\n", to_line(network).c_str());
  std::printf("%s: %zu tensors; loss %.6f -> %.6f\n", r.out.c_str(), out.size(), double(losses.front()),
              double(losses.back()));
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  return plume::tools::run_tool(
      argc, argv, "Computes logits, gradients and a loss curve from given weights and one batch.", run);
}
