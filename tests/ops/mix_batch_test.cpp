#include "engine/ops/mix_batch.h"

#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <sstream>

#include "tests/support/check_op.h"
#include "tests/support/test_support.h"

namespace plume::test {
namespace {

Fill state_of(const Mix& m) {
  return given(
      {double(m.lambda), double(m.inside), double(m.top), double(m.bottom), double(m.left), double(m.right)});
}
const Mix kCut{.lambda = 0.75f, .inside = 0, .top = 0, .bottom = 3, .left = 1, .right = 30};

TEST(MixBatchTest, Images) {
  for (const Mix& mix : {Mix{}, Mix::mixup(0.3f, 31, 31), kCut})
    for (const Shape& shape : odd_images())
      check_op({.slot = mix_images_forward,
                .label = message("inside {}", mix.inside),
                .inputs = {{"x", shape},
                           {.name = "state", .shape = {6}, .fill = state_of(mix), .dtype = DType::f32}},
                .outputs = {{"y", shape}},
                .run = [](Context& c, Tensors& t) { mix_images_forward(c, t["x"], t["state"], t["y"]); },
                .reference =
                    [=](Arrays& a) {
                      const Array& x = a["x"];
                      for (int64_t n = 0; n < shape[0]; ++n)
                        for (int64_t h = 0; h < shape[1]; ++h)
                          for (int64_t w = 0; w < shape[2]; ++w)
                            for (int64_t c = 0; c < shape[3]; ++c) {
                              const bool in =
                                  h >= mix.top && h < mix.bottom && w >= mix.left && w < mix.right;
                              const double own = in ? double(mix.inside) : 1;
                              const int64_t other = (n + shape[0] - 1) % shape[0];
                              a["y"].at(n, h, w, c) =
                                  x.at(n, h, w, c) * own + x.at(other, h, w, c) * (1 - own);
                            }
                    }});
}

TEST(MixBatchTest, Targets) {
  const Mix mix = Mix::mixup(0.3f, 1, 1);
  for (const int64_t batch : {1, 3, 64})
    for (const int classes : {1, 10, 17})
      check_op({.slot = mix_targets_forward,
                .inputs = {{.name = "labels", .shape = {batch}, .fill = labels(classes), .dtype = DType::i32},
                           {.name = "state", .shape = {6}, .fill = state_of(mix), .dtype = DType::f32}},
                .outputs = {{.name = "t", .shape = {batch, classes}, .dtype = DType::f32}},
                .run =
                    [=](Context& c, Tensors& t) {
                      mix_targets_forward(c, t["labels"], t["state"], {classes, 0.1f}, t["t"]);
                    },
                .reference =
                    [=](Arrays& a) {
                      const auto smoothed = [&](int64_t n, int64_t k) {
                        const double share = double(0.1f) / classes;
                        return Real(int64_t(a["labels"][n].value) == k ? 1 - double(0.1f) + share : share);
                      };
                      const double own = double(mix.lambda);
                      for (int64_t n = 0; n < batch; ++n)
                        for (int64_t k = 0; k < classes; ++k)
                          a["t"].at(n, k) =
                              smoothed(n, k) * own + smoothed((n + batch - 1) % batch, k) * (1 - own);
                    }});
}

// Columns that must agree to the bit: a run on one device continues on another.
TEST(MixBatchTest, CpuAndSimtAgreeBitForBit) {
  RandomSequence random(5);
  const Shape shape{4, 9, 11, 3};
  std::vector<float> values;
  for (int64_t i = 0; i < shape.elements(); ++i) values.push_back(random.normal());
  const std::vector<int32_t> classes{3, 0, 6, 6};
  BatchMixer mixer({.mixup_alpha = 0.4f, .cutmix_alpha = 1}, 3);
  for (int64_t step = 0; step < 8; ++step) {
    mixer.begin_step(step, 9, 11);
    std::vector<std::vector<float>> images, targets;
    for (const Device d : {Device::cpu, Device::simt}) {
      images.push_back(mix_images(Tensor::from(values, shape, d), mixer.state(d)).to_vector<float>());
      targets.push_back(
          mix_targets(Tensor::from(classes, {4}, d), 7, 0.1f, mixer.state(d)).to_vector<float>());
    }
    EXPECT_EQ(images[0], images[1]);
    EXPECT_EQ(targets[0], targets[1]);
  }
}

std::vector<std::string> fields(const std::string& line) {
  std::vector<std::string> all;
  std::istringstream text(line);
  for (std::string part; std::getline(text, part, '|');) all.push_back(part);
  return all;
}
std::vector<float> floats(const std::string& text) {
  std::istringstream in(text);
  std::vector<float> all;
  for (float v; in >> v;) all.push_back(v);
  return all;
}

TEST(MixBatchTest, IsTorchvisions) {
  std::ifstream file(fixture("mix_torchvision.txt"));
  int boxes = 0, batches = 0;
  for (std::string line; std::getline(file, line);) {
    const std::vector<std::string> parts = fields(line);
    std::istringstream head(parts[0]);
    std::string kind;
    int height, width, y, x;
    double lambda;
    head >> kind >> height >> width >> y >> x >> lambda;
    const Mix mix = kind == "mixup" ? Mix::mixup(float(lambda), height, width)
                                    : Mix::cutmix(float(lambda), y, x, height, width);
    if (kind == "box") {
      const std::vector<float> want = floats(parts[1]);
      EXPECT_EQ((std::vector<float>{float(mix.top), float(mix.bottom), float(mix.left), float(mix.right),
                                    mix.lambda}),
                want)
          << line;
      ++boxes;
      continue;
    }
    BatchMixer mixer({}, 0);
    mixer.set(mix);
    const Tensor images = Tensor::from(floats(parts[1]), {3, height, width, 1});
    const std::vector<float> mixed = mix_images(images, mixer.state(Device::cpu)).to_vector<float>();
    const std::vector<float> targets =
        mix_targets(Tensor::from(std::vector<int32_t>{0, 2, 1}, {3}), 3, 0.1f, mixer.state(Device::cpu))
            .to_vector<float>();
    const std::vector<float> want_images = floats(parts[2]), want_targets = floats(parts[3]);
    ASSERT_EQ(mixed.size(), want_images.size());
    for (size_t i = 0; i < mixed.size(); ++i) EXPECT_NEAR(mixed[i], want_images[i], 3e-7f) << line;
    ASSERT_EQ(targets.size(), want_targets.size());
    for (size_t i = 0; i < targets.size(); ++i) EXPECT_NEAR(targets[i], want_targets[i], 2e-7f) << line;
    ++batches;
  }
  EXPECT_EQ(boxes, 48);
  EXPECT_EQ(batches, 4);
}

// Mean 1/2 and variance 1 / (4 (2 a + 1)), and for a = 1 the uniform distribution's quartiles.
TEST(MixBatchTest, LambdaIsBetaDistributed) {
  constexpr int kDraws = 20'000;
  for (const double a : {0.1, 0.2, 1.0, 4.0}) {
    RandomSequence random(9, uint64_t(a * 10));
    double sum = 0, squares = 0;
    int below = 0;
    for (int i = 0; i < kDraws; ++i) {
      const double v = draw_beta(random, a);
      ASSERT_TRUE(v >= 0 && v <= 1);
      sum += v, squares += (v - 0.5) * (v - 0.5), below += v < 0.25;
    }
    const double variance = 1 / (4 * (2 * a + 1));
    EXPECT_NEAR(sum / kDraws, 0.5, 4 * std::sqrt(variance / kDraws)) << a;
    EXPECT_NEAR(squares / kDraws, variance, 0.03 * variance) << a;
    if (a == 1) {
      EXPECT_NEAR(below, kDraws / 4, 4 * std::sqrt(kDraws * 3 / 16.0));
    }
  }
}

TEST(MixBatchTest, EachKindAsOftenAndTheSameForTheSameStep) {
  const MixParams both{.mixup_alpha = 0.2f, .cutmix_alpha = 1};
  int cut = 0;
  constexpr int kSteps = 2000;
  for (int step = 0; step < kSteps; ++step) {
    const Mix mix = draw_mix(both, 11, step, 32, 32);
    EXPECT_EQ(mix, draw_mix(both, 11, step, 32, 32));
    cut += mix.inside == 0;
  }
  EXPECT_NEAR(cut, kSteps / 2, 90);
  EXPECT_FALSE(draw_mix(both, 11, 0, 32, 32) == draw_mix(both, 12, 0, 32, 32));
  EXPECT_EQ(draw_mix({}, 11, 0, 32, 32), Mix{});
  EXPECT_NE(draw_mix({.mixup_alpha = 1}, 1, 1, 8, 8).inside, 0);
  EXPECT_THROW(draw_mix({.mixup_alpha = -1}, 1, 1, 8, 8), Error);
}

TEST(MixBatchTest, StateStaysInPlace) {
  BatchMixer mixer({.mixup_alpha = 1}, 1);
  const void* before = mixer.state(Device::cpu).raw();
  mixer.begin_step(1, 4, 4);
  EXPECT_EQ(mixer.state(Device::cpu).raw(), before);
  EXPECT_EQ(mixer.state(Device::cpu).to_vector<float>()[0], mixer.mix().lambda);
  EXPECT_THROW(mix_images(Tensor::zeros({2, 3}, DType::f32, Device::cpu), mixer.state(Device::cpu)), Error);
  EXPECT_THROW(mix_targets(Tensor::zeros({2}, DType::i64, Device::cpu), 3, 0, mixer.state(Device::cpu)),
               Error);
}

}  // namespace
}  // namespace plume::test
