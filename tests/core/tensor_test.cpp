#include "engine/core/tensor.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>

#include "engine/core/error.h"

namespace plume::tensor_test {
namespace {

using testing::Each;
using testing::ElementsAre;
using testing::HasSubstr;

template <class F>
std::string refusal(F&& action) {
  try {
    action();
    return "";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::usage);
    return error.what();
  }
}

Tensor counted(const Shape& shape, Device device = Device::cpu) {
  std::vector<float> values(size_t(shape.elements()));
  std::iota(values.begin(), values.end(), 1.0f);
  return Tensor::from(values, shape, device);
}

TEST(Tensor, KnowsItsSizeInElementsAndBytes) {
  const Tensor t = Tensor::empty({2, 3, 5}, DType::bf16, Device::cpu);
  EXPECT_TRUE(t.defined());
  EXPECT_EQ(t.size(), 30);
  EXPECT_EQ(t.bytes(), 60u);
  EXPECT_EQ(t.rank(), 3);
  EXPECT_EQ(t.dim(-1), 5);
  EXPECT_EQ(to_string(t), "bf16 [2, 3, 5] on cpu");
  EXPECT_FALSE(Tensor().defined());
  EXPECT_EQ(to_string(Tensor()), "undefined tensor");
  EXPECT_EQ(reinterpret_cast<uintptr_t>(t.raw()) % 256, 0u);
}

TEST(Tensor, ZerosAreZeroInMemoryThatWasUsedBefore) {
  for (int round = 0; round < 3; ++round) {
    Tensor t = Tensor::zeros({1000}, DType::i32, Device::cpu);
    EXPECT_THAT(t.to_vector<int32_t>(), Each(0));
    std::fill_n(t.data<int32_t>(), 1000, 7);  // left behind for the next round's allocation
  }
}

TEST(Tensor, FromChecksTheNumberOfValues) {
  EXPECT_THAT(counted({2, 2}).to_vector<float>(), ElementsAre(1, 2, 3, 4));
  EXPECT_EQ(refusal([] {
              Tensor::from(std::vector<float>{1, 2, 3}, {2, 2});
            }),
            "tensor: 3 values for shape [2, 2]");
}

TEST(Tensor, AccessAsAnotherTypeIsRefused) {
  Tensor t = counted({3});
  EXPECT_EQ(refusal([&] { (void)t.data<f16>(); }), "tensor: holds f32, asked for f16");
  EXPECT_EQ(refusal([&] { (void)std::as_const(t).data<int32_t>(); }), "tensor: holds f32, asked for i32");
  EXPECT_EQ(refusal([&] { (void)t.to_vector<uint8_t>(); }), "tensor: holds f32, asked for u8");
}

TEST(Tensor, CopiesShareAndClonesDoNot) {
  Tensor t = counted({4});
  EXPECT_TRUE(t.unique());
  Tensor handle = t;
  EXPECT_FALSE(t.unique());
  EXPECT_TRUE(handle.same_storage(t));
  Tensor copy = t.clone();
  EXPECT_FALSE(copy.same_storage(t));
  EXPECT_TRUE(copy.unique());
  t.data<float>()[0] = 9;
  EXPECT_EQ(handle.to_vector<float>()[0], 9);
  EXPECT_EQ(copy.to_vector<float>()[0], 1);
  handle = Tensor();
  EXPECT_TRUE(t.unique());
}

TEST(Tensor, ReshapeSharesStorageAndKeepsOrder) {
  const Tensor t = counted({2, 6});
  const Tensor r = t.reshape({3, 2, 2});
  EXPECT_TRUE(r.same_storage(t));
  EXPECT_FALSE(t.unique());
  EXPECT_EQ(r.shape(), (Shape{3, 2, 2}));
  EXPECT_EQ(t.shape(), (Shape{2, 6}));
  EXPECT_EQ(r.to_vector<float>(), t.to_vector<float>());
  EXPECT_EQ(refusal([&] { (void)t.reshape({5, 2}); }), "reshape: f32 [2, 6] on cpu does not fit [5, 2]");
}

TEST(Tensor, CopyFromWritesIntoTheSameStorage) {
  Tensor to = Tensor::zeros({3}, DType::f32, Device::simt);
  const Tensor alias = to;
  to.copy_from(counted({3}));
  EXPECT_THAT(alias.to_vector<float>(), ElementsAre(1, 2, 3));
  EXPECT_EQ(refusal([&] { to.copy_from(counted({1, 3})); }), "copy: f32 [1, 3] on cpu into f32 [3] on simt");
  EXPECT_THAT(refusal([&] { to.copy_from(Tensor::zeros({3}, DType::i32, Device::cpu)); }),
              HasSubstr("copy: i32 [3] on cpu into f32 [3] on simt"));
  EXPECT_THAT(alias.to_vector<float>(), ElementsAre(1, 2, 3));
}

TEST(Tensor, ToMovesBetweenDevicesAndIsFreeWhenThere) {
  const Tensor t = counted({5});
  EXPECT_TRUE(t.to(Device::cpu).same_storage(t));
  const Tensor there = t.to(Device::simt);
  EXPECT_EQ(there.device(), Device::simt);
  EXPECT_FALSE(there.same_storage(t));
  EXPECT_EQ(there.to_vector<float>(), t.to_vector<float>());
  EXPECT_FALSE(Tensor().to(Device::simt).defined());
}

TEST(Tensor, ZeroElementsAreOrdinary) {
  Tensor t = Tensor::zeros({3, 0, 2}, DType::f32, Device::cpu);
  EXPECT_TRUE(t.defined());
  EXPECT_EQ(t.size(), 0);
  EXPECT_EQ(t.bytes(), 0u);
  EXPECT_TRUE(t.to_vector<float>().empty());
  EXPECT_TRUE(t.clone().to_vector<float>().empty());
  EXPECT_EQ(t.reshape({0}).rank(), 1);
  t.copy_from(Tensor::from(std::vector<float>{}, {3, 0, 2}, Device::simt));
  EXPECT_EQ(t.to(Device::simt).size(), 0);
}

TEST(Tensor, ItemIsForOneElement) {
  EXPECT_EQ(Tensor::from(std::vector<float>{2.5f}, {}).item(), 2.5f);
  EXPECT_EQ(counted({1, 1, 1}).item(), 1.0f);
  EXPECT_EQ(refusal([] { (void)counted({2}).item(); }), "item: f32 [2] on cpu has more than one element");
  EXPECT_EQ(refusal([] { (void)Tensor::zeros({1}, DType::i64, Device::cpu).item(); }),
            "tensor: holds i64, asked for f32");
}

TEST(Tensor, AdoptKeepsItsOwnerAlive) {
  auto owner = std::make_shared<std::vector<float>>(std::vector<float>{4, 5, 6});
  const std::weak_ptr<std::vector<float>> watch = owner;
  Tensor t = Tensor::adopt({owner, owner->data()}, {3}, DType::f32, Device::cpu);
  EXPECT_FALSE(t.unique());  // the owner is another handle
  owner.reset();
  EXPECT_TRUE(t.unique());
  EXPECT_THAT(t.to_vector<float>(), ElementsAre(4, 5, 6));
  t.data<float>()[1] = 8;
  EXPECT_EQ((*watch.lock())[1], 8);
  t = Tensor();
  EXPECT_TRUE(watch.expired());
}

TEST(Tensor, EmptyLikeTakesDtypeAndDevice) {
  const Tensor like = Tensor::zeros({2}, DType::f16, Device::simt);
  EXPECT_EQ(to_string(empty({4, 4}, like)), "f16 [4, 4] on simt");
  EXPECT_EQ(to_string(empty_like(like)), "f16 [2] on simt");
}

}  // namespace
}  // namespace plume::tensor_test
