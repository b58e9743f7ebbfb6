// Whole networks under the profiler: names are those of the parameters, multiply-adds those that the networks
// count themselves.
#include <gtest/gtest.h>

#include "engine/ops/softmax_cross_entropy.h"
#include "engine/profiler/cost.h"
#include "engine/profiler/profiler.h"
#include "models/registry.h"

namespace plume::networks_profile_test {
namespace {

Variable images(int64_t batch) {
  Tensor x = Tensor::zeros({batch, 32, 32, 3}, DType::f32, Device::cpu);
  for (int64_t i = 0; i < x.size(); ++i) x.data<float>()[i] = float(i % 17) - 8.0f;
  return Variable(x);
}

// "features.3" for a parameter "features.3.block.0.0.weight", and the whole network.
void expect_parameter_prefix(Module& model, const ProfileCall& call) {
  if (call.scope.empty()) return;
  for (const NamedParameter& p : model.parameters())
    if (p.name.starts_with(call.scope + ".")) return;
  // SqueezeNet's max pools have no parameters, but a place in the numbering.
  EXPECT_EQ(call.cost.kind, CallClass::pooling) << call.scope << " " << call.slot;
}

double macs(const Profiler& profiler) {
  double sum = 0;
  for (const ProfileCall& call : profiler.calls()) sum += call.cost.macs;
  return sum;
}

TEST(NetworksUnderTheProfiler, CallsHaveParameterNamesAndTheNetworksMultiplyAdds) {
  for (const std::string& name : model_names()) {
    SCOPED_TRACE(name);
    const auto model = make_model(name, {.num_classes = 10});
    model->eval();
    const NoGrad no_grad;
    const Variable x = images(1);
    for (const bool fused : {false, true}) {
      if (fused) model->fuse();
      Profiler profiler(context(Device::cpu));
      const CostCounter counter;
      profiler.learn([&] { (*model)(x); });
      EXPECT_EQ(macs(profiler), double(counter.macs())) << (fused ? "fused" : "as trained");
      size_t named = 0;
      for (const ProfileCall& call : profiler.calls()) {
        expect_parameter_prefix(*model, call);
        named += !call.scope.empty();
      }
      EXPECT_GT(named, profiler.calls().size() * 3 / 4);
    }
  }
}

TEST(NetworksUnderTheProfiler, GradientsBelongToTheLayersThatWantThem) {
  for (const char* name : {"mobilenet_v3_small", "squeezenet1_1", "shufflenet_v2_x0_5", "resnet18"}) {
    SCOPED_TRACE(name);
    const auto model = make_model(name, {.num_classes = 10});
    const Variable x = images(2);
    const Tensor labels = Tensor::from(std::vector<int32_t>{1, 2}, {2});
    Profiler profiler(context(Device::cpu));
    profiler.learn([&] { backward(softmax_cross_entropy((*model)(x), {labels, {}})); });
    std::map<std::string, std::pair<int, int>> convolutions;  // forward, weight gradients
    for (const ProfileCall& call : profiler.calls()) {
      const std::string_view slot = call.slot;
      expect_parameter_prefix(*model, call);
      EXPECT_TRUE(call.backward || slot.find("backward") == slot.npos) << slot;
      if (slot.ends_with("conv2d.forward")) ++convolutions[call.scope].first;
      if (slot.ends_with("conv2d.backward_weight")) ++convolutions[call.scope].second;
      if (slot.starts_with("fire_expand")) convolutions[call.scope].first += 2;
    }
    EXPECT_GT(convolutions.size(), 5u);
    // A variant may be made of other slots' calls: at least one each.
    for (const auto& [scope, counts] : convolutions) {
      EXPECT_GT(counts.first, 0) << scope;
      EXPECT_GT(counts.second, 0) << scope;
    }
  }
}

}  // namespace
}  // namespace plume::networks_profile_test
