// predict: what a network sees in images, or its logits for given tensors.
#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <numeric>

#include "data/images/png.h"
#include "data/sets/imagenet_labels.h"
#include "data/sets/registry.h"
#include "engine/autograd/tape.h"
#include "engine/files/atomic_file.h"
#include "engine/serialization/checkpoint.h"
#include "models/grad_cam.h"
#include "models/registry.h"
#include "tools/cli/json.h"
#include "tools/cli/main.h"
#include "tools/cli/model.h"
#include "tools/cli/preprocessing.h"
#include "tools/cli/signals.h"
#include "tools/cli/tensors.h"
#include "tools/pictures/overlay.h"
#include "tools/training/checkpoint.h"

namespace {

using namespace plume;
using tools::Json;
namespace fs = std::filesystem;

struct Request {
  std::vector<std::string> images;
  std::string model, stem = "imagenet", weights, labels, data;
  std::string tensor, logits;
  std::string explain, explain_layer;
  int64_t explain_class = -1;
  int64_t top = 5, batch = 16, skip_bad = 0;
  bool json = false;
};

void check_request(const Request& r, const tools::Flags& flags,
                   const tools::PreprocessingFlags& preprocessing) {
  PLUME_CHECK(!r.images.empty() || !r.tensor.empty(), "give images, or --tensor and --logits");
  PLUME_CHECK(r.images.empty() || r.tensor.empty(), "give either images or --tensor, not both");
  PLUME_CHECK(r.tensor.empty() || !r.logits.empty(), "--tensor: give --logits too, the file to write");
  if (!r.tensor.empty()) {
    for (const char* name : {"--json", "--top", "--labels", "--skip-bad", "--explain"})
      PLUME_CHECK(!flags.given(name), "{}: is for images, not for --tensor", name);
    for (const std::string& name : preprocessing.given())
      PLUME_CHECK(false, "{}: is for images; the tensor is taken as it is", name);
  }
  PLUME_CHECK(!preprocessing.as_they_are(), "--image-size 0: is for a data set whose images are of one size");
  for (const char* name : {"--explain-layer", "--explain-class"})
    PLUME_CHECK(!r.explain.empty() || !flags.given(name), "{}: give --explain too, where the overlay goes",
                name);
  if (r.logits.empty()) return;
  std::vector<std::string> inputs = r.images;
  for (const std::string& path : {r.tensor, r.weights, r.labels})
    if (!path.empty()) inputs.push_back(path);
  std::error_code ignored;
  for (const std::string& path : inputs)
    PLUME_CHECK(path != r.logits && !fs::equivalent(path, r.logits, ignored), "--logits {}: is an input file",
                r.logits);
  PLUME_CHECK(!fs::is_directory(r.logits, ignored), "--logits {}: is a folder", r.logits);
}

// A network that is ready to evaluate, and what its weights say about its inputs and outputs.
struct Subject {
  std::unique_ptr<Module> model;
  std::string name;
  tools::NetworkDescription network;
  std::vector<std::string> labels;
  int64_t classes = 0;
};

Subject open_subject(Request& r, const tools::Flags& flags, const FitOptions& fit) {
  Subject s;
  const Weights weights = open_weights(r.weights);
  std::optional<tools::RunDescription> run;
  if (weights.metadata.contains("plume.format")) {
    run = tools::describe_run(r.weights);
    if (!flags.given("--model")) r.model = run->recipe.model;
    if (!flags.given("--stem")) r.stem = run->recipe.stem;
  }
  PLUME_CHECK(!r.model.empty(), "--model: the network is not given");
  s.name = r.model;
  s.network = run ? run->network : tools::describe_network(weights.path, weights.metadata, r.model, r.data);
  PLUME_CHECK(r.data.empty() || (!run && !s.network.stated),
              "--data: {} says itself how its images are prepared", r.weights);
  s.model = tools::model_from_weights(r.model, parse_stem(r.stem), weights, fit);
  s.classes = s.model->parameters().back().variable.value().dim(0);
  tools::check_class_names(r.weights, s.network, s.classes);
  s.labels = s.network.class_names;
  if (!r.labels.empty()) s.labels = tools::read_labels(r.labels, s.classes);
  const auto imagenet = data::imagenet_labels();
  if (s.labels.empty() && s.classes == int64_t(imagenet.size()))
    s.labels.assign(imagenet.begin(), imagenet.end());
  for (int64_t c = int64_t(s.labels.size()); c < s.classes; ++c)
    s.labels.push_back(fmt::format("class {}", c));
  return s;
}

// images [N, H, W, 3] -> [N x classes]
std::vector<float> logits_of(Subject& subject, const Tensor& images, Device device) {
  const NoGrad no_grad;
  return (*subject.model)(Variable(images.to(device))).value().to_vector<float>();
}

void check_finite(std::span<const float> logits, const std::string& what) {
  for (size_t c = 0; c < logits.size(); ++c)
    if (!std::isfinite(logits[c])) fail(ErrorKind::numeric, "{}: logit {} is {}", what, c, logits[c]);
}

struct Guess {
  int64_t label;
  float logit;
  double probability;
};

std::vector<Guess> best(std::span<const float> logits, int64_t count) {
  const double most = *std::max_element(logits.begin(), logits.end());
  const double sum = std::accumulate(logits.begin(), logits.end(), 0.0,
                                     [&](double s, float z) { return s + std::exp(double(z) - most); });
  std::vector<int64_t> order(logits.size());
  std::iota(order.begin(), order.end(), int64_t{0});
  count = std::min(count, int64_t(order.size()));
  const auto higher = [&](int64_t a, int64_t b) {
    const float za = logits[size_t(a)], zb = logits[size_t(b)];
    return za != zb ? za > zb : a < b;
  };
  std::partial_sort(order.begin(), order.begin() + count, order.end(), higher);
  std::vector<Guess> guesses;
  for (int64_t i = 0; i < count; ++i) {
    const float z = logits[size_t(order[size_t(i)])];
    guesses.push_back({order[size_t(i)], z, std::exp(double(z) - most) / sum});
  }
  return guesses;
}

void print_text(const std::string& path, const std::vector<Guess>& guesses, const Subject& s) {
  fmt::print("{}\n", path);
  for (const Guess& g : guesses)
    fmt::print("  {:6.2f} %  {:>4}  {}\n", 100 * g.probability, g.label, s.labels[size_t(g.label)]);
}

Json to_json(const std::string& path, const std::vector<Guess>& guesses, const Subject& s) {
  Json top = Json::array();
  for (const Guess& g : guesses)
    top.push_back({{"class", g.label},
                   {"label", s.labels[size_t(g.label)]},
                   {"probability", g.probability},
                   {"logit", g.logit}});
  return {{"image", path}, {"top", top}};
}

// Images, prepared, until there are `most` or none is left.
class ImageReader {
 public:
  ImageReader(const std::vector<std::string>& paths, const data::Preprocessing& how, int64_t skip_bad)
      : paths_(paths), how_(how), skip_bad_(skip_bad) {}

  struct Batch {
    std::vector<std::string> paths;
    std::vector<float> pixels;
  };
  Batch next(int64_t most) {
    Batch batch;
    const size_t each = size_t(how_.crop.height * how_.crop.width * data::kChannels);
    while (next_ < paths_.size() && int64_t(batch.paths.size()) < most) {
      const std::string& path = paths_[next_++];
      batch.pixels.resize(batch.pixels.size() + each);
      try {
        data::preprocess(load(path), how_, batch.pixels.data() + batch.pixels.size() - each);
        batch.paths.push_back(path);
      } catch (const Error& error) {
        if (error.kind() != ErrorKind::bad_input || int64_t(skipped_.size()) >= skip_bad_) throw;
        batch.pixels.resize(batch.pixels.size() - each);
        tools::log_line(message("skipped: {}", error.what()));
        skipped_.push_back({{"image", path}, {"error", error.what()}});
      }
    }
    return batch;
  }
  const Json& skipped() const { return skipped_; }

 private:
  static data::Image load(const std::string& path) {
    data::Image image = data::load_image(path);
    if (std::max(image.height, image.width) > data::kMostResizeSide)
      fail(ErrorKind::bad_input, "{}: has {}x{} pixels, expected sides of at most {}", path, image.height,
           image.width, data::kMostResizeSide);
    return image;
  }

  const std::vector<std::string>& paths_;
  const data::Preprocessing& how_;
  int64_t skip_bad_;
  size_t next_ = 0;
  Json skipped_ = Json::array();
};

void write_logits(const std::string& path, const std::vector<float>& logits, int64_t classes) {
  const int64_t rows = int64_t(logits.size()) / classes;
  tools::write_tensors(path, {{"logits", Tensor::from(logits, {rows, classes})}});
}

// The logits of a batch and, where asked for, its Grad-CAM overlays.
GradCam look_at(const Request& r, Subject& s, const Tensor& images, Device device) {
  if (r.explain.empty()) return {{}, logits_of(s, images, device), {}};
  const std::string layer = r.explain_layer.empty() ? grad_cam_layer(s.name) : r.explain_layer;
  std::vector<int> classes;
  if (r.explain_class >= 0) classes.assign(size_t(images.dim(0)), int(r.explain_class));
  return grad_cam(*s.model, layer, images.to(device), classes);
}

void write_overlay(const std::string& path, const float* prepared, const data::Preprocessing& how,
                   const Tensor& maps, size_t i) {
  const size_t plane = size_t(maps.dim(1) * maps.dim(2));
  const std::span<const float> map(maps.data<float>() + i * plane, plane);
  data::Image overlay =
      tools::overlay_heat(data::as_seen(prepared, how), map, int(maps.dim(1)), int(maps.dim(2)));
  if (how.rotate180) overlay = tools::rotated180(overlay);  // upright again
  write_file_atomically(path, data::encode_png(overlay));
}

int predict_images(const Request& r, Subject& s, Device device) {
  const data::Preprocessing& how = s.network.preprocessing;
  ImageReader reader(r.images, how, r.skip_bad);
  const std::map<std::string, std::string> overlays = tools::overlay_paths(r.explain, r.images);
  Json images = Json::array();
  std::vector<float> all;
  while (true) {
    if (const int signal = tools::stop_signal()) return 128 + signal;
    const ImageReader::Batch batch = reader.next(r.batch);
    if (batch.paths.empty()) break;
    const Tensor input = Tensor::from(batch.pixels, {int64_t(batch.paths.size()), how.crop.height,
                                                     how.crop.width, int64_t(data::kChannels)});
    const GradCam seen = look_at(r, s, input, device);
    const std::vector<float>& logits = seen.logits;
    const size_t each = batch.pixels.size() / batch.paths.size();
    for (size_t i = 0; i < batch.paths.size(); ++i) {
      const auto row = std::span(logits).subspan(i * size_t(s.classes), size_t(s.classes));
      check_finite(row, batch.paths[i]);
      const std::vector<Guess> guesses = best(row, r.top);
      if (r.json)
        images.push_back(to_json(batch.paths[i], guesses, s));
      else
        print_text(batch.paths[i], guesses, s);
      if (r.explain.empty()) continue;
      const std::string& overlay = overlays.at(batch.paths[i]);
      write_overlay(overlay, batch.pixels.data() + i * each, how, seen.maps, i);
      if (r.json)
        images.back()["explained"] = {{"class", seen.explained[i]}, {"overlay", overlay}};
      else
        fmt::print("  explains '{}' in {}\n", s.labels[size_t(seen.explained[i])], overlay);
    }
    if (!r.logits.empty()) all.insert(all.end(), logits.begin(), logits.end());
  }
  if (!r.logits.empty()) write_logits(r.logits, all, s.classes);
  if (r.json) {
    const Json report = {{"model", s.name},
                         {"weights", r.weights},
                         {"device", name(device)},
                         {"classes", s.classes},
                         {"preprocessing", tools::to_json(how)},
                         {"images", images},
                         {"skipped", reader.skipped()}};
    // A path need not be UTF-8, JSON must.
    fmt::print("{}\n", tools::to_text(report, 2));
  }
  std::fflush(stdout);
  tools::log_line("images: " + to_line(s.network));
  return 0;
}

int predict_tensor(const Request& r, Subject& s, Device device) {
  const tools::TensorMap tensors = tools::read_tensors(r.tensor);
  const Tensor& input = tools::find_tensor(tensors, "input", r.tensor);
  if (input.rank() != 4 || input.dtype() != DType::f32 || input.dim(1) != data::kChannels ||
      input.size() == 0)
    fail(ErrorKind::bad_input, "{}: 'input' is {}, expected f32 [N, 3, H, W]", r.tensor, input);
  const int64_t count = input.dim(0), height = input.dim(2), width = input.dim(3);
  const int64_t each = data::kChannels * height * width;
  // An activation like max(x, 0) may hide it from the logits.
  for (int64_t i = 0; i < input.size(); ++i)
    if (!std::isfinite(input.data<float>()[i]))
      fail(ErrorKind::numeric, "{}: 'input': image {} has the value {}", r.tensor, i / each,
           input.data<float>()[i]);
  std::vector<float> all;
  for (int64_t first = 0; first < count; first += r.batch) {
    if (const int signal = tools::stop_signal()) return 128 + signal;
    const int64_t n = std::min(r.batch, count - first);
    const Tensor part = Tensor::from(std::span(input.data<float>() + first * each, size_t(n * each)),
                                     {n, int64_t(data::kChannels), height, width});
    const std::vector<float> logits = logits_of(s, tools::nchw_to_nhwc(part), device);
    for (int64_t i = 0; i < n; ++i)
      check_finite(std::span(logits).subspan(size_t(i * s.classes), size_t(s.classes)),
                   message("{}: input {}", r.tensor, first + i));
    all.insert(all.end(), logits.begin(), logits.end());
  }
  write_logits(r.logits, all, s.classes);
  fmt::print("{}: logits [{}, {}]\n", r.logits, count, s.classes);
  return 0;
}

int run(tools::Flags& flags) {
  Request r;
  flags.words("IMAGE", r.images, "image files (JPEG, PNG, BMP, PBM, PGM, PPM)");
  flags.choice("--model", r.model, model_names(), "network (default: that of a training run's checkpoint)");
  flags.choice("--stem", r.stem, {"imagenet", "cifar"}, "its first layers");
  flags.text("--weights", r.weights, "safetensors or .pth file with torchvision's names, or a checkpoint")
      .required();
  tools::WeightsFlags weights_flags(flags);
  flags.whole("--top", r.top, 1, 1'000'000, "guesses per image");
  flags.on("--json", r.json, "print JSON");
  flags.text("--labels", r.labels, "file with the classes' names, one per line");
  flags.whole("--skip-bad", r.skip_bad, 0, 1'000'000'000, "go on past this many unreadable images");
  flags.choice("--data", r.data, data::dataset_names(),
               "what the network was trained on, where its weights do not say how images are prepared");
  tools::PreprocessingFlags preprocessing(flags);
  flags.whole("--batch", r.batch, 1, 65'536, "images at once");
  flags.text("--tensor", r.tensor, "instead of images: safetensors file, input f32 [N, 3, H, W], normalised");
  flags.text("--logits", r.logits, "safetensors file to write: logits f32 [N, classes]");
  flags.text("--explain", r.explain,
             "Grad-CAM: where each image speaks for the class; x.png, or a folder for many");
  flags.text("--explain-layer", r.explain_layer,
             "whose activation is weighed (default: the last convolutional one)");
  flags.whole("--explain-class", r.explain_class, 0, 999'999, "instead of the best guess");
  tools::DeviceFlags device_flags(flags);
  flags.parse();
  check_request(r, flags, preprocessing);
  tools::catch_signals();
  const Device device = device_flags.open();

  Subject subject = open_subject(r, flags, weights_flags.options());
  preprocessing.overrule(subject.network);
  subject.model->to(device);
  subject.model->eval();
  PLUME_CHECK(r.explain_class < subject.classes, "--explain-class: {} of {} classes", r.explain_class,
              subject.classes);
  // A fused network records no gradients.
  if (r.explain.empty()) subject.model->fuse();
  return r.tensor.empty() ? predict_images(r, subject, device) : predict_tensor(r, subject, device);
}

}  // namespace

int main(int argc, char** argv) {
  return plume::tools::run_tool(argc, argv, "Tells what a network sees in images.", run);
}
