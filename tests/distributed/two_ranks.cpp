// What needs two ranks: run by mpirun as two processes, each of which makes all the checks.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "data/loader.h"
#include "data/sets/registry.h"
#include "data/sets/synthetic.h"
#include "engine/distributed/data_parallel.h"
#include "engine/modules/layers.h"
#include "engine/ops/add.h"
#include "engine/ops/global_avg_pool.h"
#include "engine/ops/relu.h"
#include "engine/ops/softmax_cross_entropy.h"
#include "engine/ops/sync_batch_norm.h"
#include "engine/optim/sgd.h"
#include "tests/support/preprocessed.h"

namespace plume {
namespace {

using testing::Each;
using testing::ElementsAre;

Communicator& ranks() { return Communicator::world(); }
int mine() { return ranks().rank(); }
Tensor values(const std::vector<float>& v) { return Tensor::from(v, {int64_t(v.size())}); }
Tensor random_tensor(RandomSequence& random, const Shape& shape, Device device) {
  std::vector<float> v(size_t(shape.elements()));
  for (float& one : v) one = random.normal();
  return Tensor::from(v, shape, device);
}

TEST(TwoRanks, AreTwo) {
  ASSERT_EQ(ranks().size(), 2);
  EXPECT_THAT(ranks().all_gather(std::vector<int64_t>{mine() + 10}), ElementsAre(10, 11));
}

TEST(TwoRanks, ReduceGatherAndBroadcast) {
  Tensor t = values({1, float(mine())});
  ranks().all_reduce(t);
  EXPECT_THAT(t.to_vector<float>(), ElementsAre(2, 1));
  ranks().all_reduce(t = values({float(mine()), -float(mine())}), Reduction::max);
  EXPECT_THAT(t.to_vector<float>(), ElementsAre(1, 0));
  Tensor counts = Tensor::from(std::vector<int64_t>{int64_t(1) << 40}, {1});
  ranks().all_reduce(counts);
  EXPECT_EQ(*counts.data<int64_t>(), int64_t(1) << 41);
  std::vector<double> doubles{0.1 * (mine() + 1)};
  ranks().all_reduce(doubles);
  EXPECT_DOUBLE_EQ(doubles[0], 0.1 + 0.2);
  std::vector<int64_t> whole{mine(), 3};
  ranks().all_reduce(whole, Reduction::max);
  EXPECT_THAT(whole, ElementsAre(1, 3));

  Tensor all = Tensor::empty({2, 1, 2}, DType::f32, Device::cpu);
  ranks().all_gather(values({float(mine()), 5}).reshape({1, 2}), all);
  EXPECT_THAT(all.to_vector<float>(), ElementsAre(0, 5, 1, 5));
  ranks().broadcast(t = values({float(mine()), 7}), 1);
  EXPECT_THAT(t.to_vector<float>(), ElementsAre(1, 7));
  ranks().barrier();
}

TEST(TwoRanks, BackgroundReductionsKeepTheirOrder) {
  std::vector<Tensor> tensors;
  std::vector<std::future<void>> sums;
  for (int i = 0; i < 20; ++i) {
    tensors.push_back(
        Tensor::from(std::vector<float>(size_t(1000 * i + 1), float(i + mine())), {1000 * i + 1}));
    sums.push_back(ranks().start_all_reduce(tensors.back()));
  }
  std::vector<int64_t> between{1};
  ranks().all_reduce(between);
  EXPECT_EQ(between[0], 2);
  for (int i = 0; i < 20; ++i) {
    sums[size_t(i)].get();
    EXPECT_THAT(tensors[size_t(i)].to_vector<float>(), Each(float(2 * i + 1)));
  }
}

TEST(TwoRanks, WhatIsNoNumberIsRefused) {
  Tensor bytes = Tensor::zeros({1}, DType::u8, Device::cpu);
  EXPECT_THROW(ranks().all_reduce(bytes), Error);
}

// Buckets of one parameter, of several, and one for all; some parameters get no gradient on rank 1.
TEST(TwoRanks, BucketsSumGradients) {
  for (const int64_t bytes : {4, 600, 1 << 20}) {
    std::vector<Variable> parameters;
    for (int i = 0; i < 7; ++i)
      parameters.emplace_back(values(std::vector<float>(size_t(10 * i + 1), 1)), true);
    GradientBuckets buckets(ranks(), parameters, {.first_bytes = bytes, .other_bytes = bytes});
    EXPECT_EQ(buckets.count(), bytes == 4 ? 7u : bytes == 600 ? 4u : 1u);
    for (int step = 0; step < 2; ++step) {
      for (int i = 0; i < 7; ++i) {
        Variable& p = parameters[size_t(i)];
        p.clear_grad();
        if (i == 3 && mine() == 1) continue;
        if (i == 5) continue;
        const Tensor dy =
            Tensor::from(std::vector<float>(size_t(10 * i + 1), float(i + mine() + step)), p.shape());
        backward(relu(add(p, p)), dy, [&](Variable& leaf) { buckets.ready(leaf); });
      }
      buckets.finish();
      for (int i = 0; i < 7; ++i) {
        const float both = i == 5   ? 0.0f
                           : i == 3 ? 2.0f * float(3 + step)
                                    : 2.0f * float(2 * i + 1 + 2 * step);
        EXPECT_THAT(parameters[size_t(i)].grad().to_vector<float>(), Each(both)) << i << " of " << bytes;
      }
    }
  }
}

TEST(TwoRanks, DataParallelBeginsWithRank0sValuesAndAgrees) {
  std::vector<Variable> parameters{Variable(values({float(mine()), 2}), true), Variable(values({3}), false)};
  Tensor buffer = values({float(10 + mine())});
  DataParallel training(ranks(), parameters, {&buffer});
  EXPECT_THAT(parameters[0].value().to_vector<float>(), ElementsAre(0, 2));
  EXPECT_THAT(buffer.to_vector<float>(), ElementsAre(10));

  const SharedStep uneven = training.begin_step(mine() == 0 ? 30 : 10);
  EXPECT_EQ(uneven.samples, 40);
  EXPECT_FALSE(uneven.even);
  EXPECT_EQ(uneven.weight, mine() == 0 ? 0.75f : 0.25f);
  EXPECT_EQ(uneven.stop_signal, 0);
  EXPECT_EQ(training.begin_step(1, mine() == 1 ? 15 : 0).stop_signal, 15);
  EXPECT_TRUE(training.begin_step(7).even);
}

TEST(TwoRanks, NetworksThatDifferAreRefused) {
  std::vector<Variable> parameters(size_t(1 + mine()), Variable(values({1}), true));
  try {
    DataParallel training(ranks(), parameters, {});
    ADD_FAILURE() << "no error";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), testing::HasSubstr(mine() == 0 ? "rank 0 has 1 parameters, rank 1 has 2"
                                                             : "rank 1 has 2 parameters, rank 0 has 1"));
  }
}

// Shares of different sizes, against batch_norm of the whole batch.
TEST(TwoRanks, SyncBatchNormEqualsBatchNormOfTheWholeBatch) {
  for (const Device device : {Device::cpu, Device::simt})
    for (const Activation activation : {Activation::identity, Activation::relu, Activation::silu}) {
      RandomSequence random(7);
      const int64_t sizes[] = {3, 5}, c = 9, row = 4 * 4 * c, total = 8;
      const bool extra = activation != Activation::silu;
      const auto share = [&](const Tensor& whole) {
        const std::vector<float> all = whole.to_vector<float>();
        const int64_t first = mine() == 0 ? 0 : sizes[0] * row;
        return Tensor::from(
            std::vector<float>(all.begin() + first, all.begin() + first + sizes[mine()] * row),
            {sizes[mine()], 4, 4, c}, device);
      };
      const Tensor x = random_tensor(random, {total, 4, 4, c}, device),
                   residual = random_tensor(random, x.shape(), device),
                   dy = random_tensor(random, x.shape(), device), gamma = random_tensor(random, {c}, device),
                   beta = random_tensor(random, {c}, device);
      const BatchNormParams params{.activation = activation};
      struct Result {
        Variable x, gamma, beta, residual, y;
        Tensor running_mean, running_var;
      };
      const auto run = [&](const Tensor& images, const Tensor& skip, const Tensor& gradient, bool sync) {
        Result r{Variable(images, true),
                 Variable(gamma, true),
                 Variable(beta, true),
                 {},
                 {},
                 Tensor::zeros({c}, DType::f32, device),
                 Tensor::zeros({c}, DType::f32, device)};
        if (extra) r.residual = Variable(skip, true);
        r.y = sync
                  ? sync_batch_norm_train(r.x, r.gamma, r.beta, r.residual, r.running_mean, r.running_var,
                                          params, ranks())
                  : batch_norm_train(r.x, r.gamma, r.beta, r.residual, r.running_mean, r.running_var, params);
        backward(r.y, gradient);
        return r;
      };
      const Result whole = run(x, residual, dy, false),
                   part = run(share(x), share(residual), share(dy), true);
      const auto expect_near = [&](const Tensor& got, const Tensor& expected, const char* what) {
        const std::vector<float> a = got.to_vector<float>(), b = expected.to_vector<float>();
        ASSERT_EQ(a.size(), b.size());
        for (size_t i = 0; i < a.size(); ++i)
          ASSERT_NEAR(a[i], b[i], 3e-6 * (1 + std::fabs(double(b[i])))) << what << " on " << name(device);
      };
      expect_near(part.y.value(), share(whole.y.value()), "y");
      expect_near(part.x.grad(), share(whole.x.grad()), "dx");
      if (extra) expect_near(part.residual.grad(), share(whole.residual.grad()), "dresidual");
      expect_near(part.running_mean, whole.running_mean, "running mean");
      expect_near(part.running_var, whole.running_var, "running variance");
      Tensor dgamma = part.gamma.grad().clone(), dbeta = part.beta.grad().clone();
      ranks().all_reduce(dgamma);
      ranks().all_reduce(dbeta);
      expect_near(dgamma, whole.gamma.grad(), "dgamma");
      expect_near(dbeta, whole.beta.grad(), "dbeta");
    }
}

// Smooth: at a kink of relu the last bit of a sum would decide between two gradients.
struct SmoothNet : Module {
  Conv2d stem{3, 16, 3, {.stride = 2, .padding = 1, .bias = false}};
  BatchNorm2d norm1{16, {.activation = Activation::silu}};
  Conv2d depthwise{16, 16, 3, {.stride = 2, .padding = 1, .bias = false, .depthwise = true}};
  BatchNorm2d norm2{16};
  Conv2d expand{16, 48, 1, {.bias = false}};
  BatchNorm2d norm3{48, {.activation = Activation::silu}};
  Linear head{48, data::kSyntheticClasses};
  explicit SmoothNet(uint64_t seed) {
    register_module("stem", stem), register_module("norm1", norm1);
    register_module("depthwise", depthwise), register_module("norm2", norm2);
    register_module("expand", expand), register_module("norm3", norm3);
    register_module("head", head);
    RandomSequence random(seed);
    initialize(random);
  }
  Variable forward(const Variable& images) override {
    const Variable x = norm2(depthwise(norm1(stem(images))));
    return head(global_avg_pool(norm3(expand(x))));
  }
};

struct Curve {
  std::vector<double> losses;           // of the whole batch, per step
  std::vector<float> parameter, state;  // the first parameter and the first running mean at the end
};

// Two epochs of the embedded data set with a last batch that the ranks share unevenly.
Curve train(int64_t batch, bool parallel, bool sync) {
  const auto images = data::open_dataset("synthetic", "", data::Split::train, {.count = 53});
  data::LoaderParams params{.batch_size = batch, .workers = 0};
  params.sampler = {.shuffle = true, .seed = 3};
  if (parallel) params.sampler.rank = mine(), params.sampler.world = 2;
  params.augment = test::cifar_augmentation(images->statistics(), 5);
  data::Loader loader(images, params);
  SmoothNet net(parallel ? 1 + uint64_t(mine()) : 1);
  std::vector<Variable> parameters;
  std::vector<Tensor*> buffers;
  for (const NamedParameter& p : net.parameters()) parameters.push_back(p.variable);
  for (const NamedTensor& entry : net.state())
    if (entry.name.find("running") != std::string::npos) buffers.push_back(entry.tensor);
  if (sync) net.synchronize_batch_norms(&ranks());
  Communicator alone;
  DataParallel training(parallel ? ranks() : alone, parameters, buffers,
                        {.first_bytes = 1024, .other_bytes = 2048});
  Sgd sgd(net.parameters(), {.momentum = 0.9f});
  Curve curve;
  for (int epoch = 0; epoch < 2; ++epoch) {
    loader.start(epoch);
    while (const auto b = loader.next()) {
      const SharedStep step = training.begin_step(b->count);
      const Variable loss = softmax_cross_entropy(net(Variable(b->images)), {b->labels, {}});
      std::vector<double> sum{double(loss.value().item()) * double(b->count)};
      training.communicator().all_reduce(sum);
      curve.losses.push_back(sum[0] / double(step.samples));
      sgd.zero_grad();
      training.backward(loss, Tensor::from(std::vector<float>{step.weight}, loss.shape()));
      sgd.step(0.05f);
    }
  }
  training.share_buffers();
  curve.parameter = parameters[0].value().to_vector<float>();
  curve.state = buffers[0]->to_vector<float>();
  return curve;
}

TEST(TwoRanks, TrainLikeOneRankWithTheDoubledBatch) {
  const Curve one = train(16, false, false);
  const Curve two = train(8, true, true);
  ASSERT_EQ(one.losses.size(), 8u);
  ASSERT_EQ(two.losses.size(), 8u);
  const Curve apart = train(8, true, false);
  EXPECT_GT(std::fabs(apart.losses[1] - one.losses[1]), 1e-4) << "the comparison could not fail";
  for (size_t i = 0; i < one.losses.size(); ++i)
    EXPECT_NEAR(two.losses[i], one.losses[i], 1e-5) << "step " << i;
  for (size_t i = 0; i < one.state.size(); ++i) EXPECT_NEAR(two.state[i], one.state[i], 1e-5);
}

TEST(TwoRanks, HoldTheSameWeightsAndRepeatBitForBit) {
  for (const bool sync : {false, true}) {
    const Curve first = train(8, true, sync);
    const Curve again = train(8, true, sync);
    EXPECT_EQ(first.parameter, again.parameter);
    EXPECT_EQ(first.losses, again.losses);
    for (const std::vector<float>& v : {first.parameter, first.state}) {
      Tensor other = values(v);
      ranks().broadcast(other, 1);
      EXPECT_EQ(other.to_vector<float>(), v) << "rank 1 differs from rank " << mine();
    }
  }
}

}  // namespace
}  // namespace plume

// "fail": rank 1 gives up while rank 0 waits for it.
int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  if (argc > 1 && std::string(argv[1]) == "fail") {
    plume::Communicator& ranks = plume::Communicator::world();
    if (ranks.rank() == 1) {
      std::fprintf(stderr, "rank 1 gives up\n");
      plume::Communicator::abort_world(5);
    }
    ranks.barrier();
    return 0;
  }
  return RUN_ALL_TESTS();
}
