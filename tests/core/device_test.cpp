#include "engine/core/device.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "engine/core/context.h"
#include "engine/core/error.h"
#include "engine/core/tensor.h"
#include "engine/memory/allocator.h"
#include "tests/support/test_support.h"

namespace plume::test::device_test {
namespace {

// What was mapped before the first test asked for the cuda device.
const std::string libraries_at_start = [] {
  std::ifstream maps("/proc/self/maps");
  std::stringstream text;
  text << maps.rdbuf();
  return text.str();
}();

constexpr const char* kGpuLibraries[] = {"libcuda.so", "libcudart", "libcudnn", "libcublas", "libplume_cuda"};

std::string output_of(const std::string& command) {
  std::string text;
  std::array<char, 4096> buffer;
  FILE* pipe = popen((command + " 2>&1").c_str(), "r");
  if (!pipe) return {};
  while (fgets(buffer.data(), int(buffer.size()), pipe)) text += buffer.data();
  return pclose(pipe) == 0 ? text : std::string();
}

TEST(DeviceTest, NamesReadBack) {
  for (const Device d : {Device::cpu, Device::cuda, Device::simt}) EXPECT_EQ(parse_device(name(d)), d);
  EXPECT_TRUE(is_host(Device::cpu) && is_host(Device::simt) && !is_host(Device::cuda));
}

TEST(DeviceTest, UnknownNameIsAUsageErrorThatListsTheDevices) {
  try {
    parse_device("gpu");
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::usage);
    EXPECT_STREQ(error.what(), "device 'gpu' is not one of cpu, cuda, simt");
  }
}

TEST(DeviceTest, StartLoadsNoGpuLibrary) {
  for (const char* library : kGpuLibraries)
    EXPECT_THAT(libraries_at_start, testing::Not(testing::HasSubstr(library)));
}

TEST(DeviceTest, NoProgramLinksAGpuLibrary) {
  if (is_emulated()) GTEST_SKIP() << "ldd reads no programs of another architecture";
  const std::string own = std::filesystem::read_symlink("/proc/self/exe");
  int seen = 0;
  for (const auto& entry : std::filesystem::directory_iterator(std::filesystem::path(own).parent_path())) {
    const std::string linked = output_of("ldd '" + entry.path().string() + "'");
    if (linked.empty()) continue;
    ++seen;
    for (const char* library : kGpuLibraries)
      EXPECT_THAT(linked, testing::Not(testing::HasSubstr(library))) << entry.path();
  }
  EXPECT_GT(seen, 0) << "ldd could not read any program";
}

TEST(DeviceTest, HostDevicesDescribeThemselves) {
  for (const Device d : {Device::cpu, Device::simt}) {
    EXPECT_THAT(backend(d).describe(), testing::HasSubstr("threads"));
    EXPECT_EQ(context(d).stream(), nullptr);
    EXPECT_EQ(backend(d).begin_capture, nullptr);
  }
}

TEST(DeviceTest, WithoutAGpuTheCudaDeviceSaysWhyInOneLine) {
  if (cuda_available()) GTEST_SKIP() << "a GPU answers";
  EXPECT_EQ(default_device(), Device::cpu);
  const std::string reason = cuda_unavailable_reason();
  EXPECT_FALSE(reason.empty());
  EXPECT_EQ(reason.find('\n'), std::string::npos);
  try {
    Tensor::zeros({1}, DType::f32, Device::cuda);
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::resource);
    EXPECT_EQ(std::string(error.what()), "device cuda is not available: " + reason);
  }
}

TEST(DeviceTest, PlugInThatCannotBeOpenedIsAReasonNotACrash) {
  if (is_emulated()) GTEST_SKIP() << "starts a program";
  const std::string own = std::filesystem::read_symlink("/proc/self/exe");
  const std::string said = output_of("PLUME_CUDA_PLUGIN=/nowhere.so '" + own +
                                     "' --gtest_filter=DeviceTest.WithoutAGpuTheCudaDeviceSaysWhyInOneLine");
  EXPECT_THAT(said, testing::HasSubstr("[  PASSED  ] 1 test"));
}

// ---- with a GPU ------------------------------------------------------------------------------------------

class CudaTest : public testing::Test {
 protected:
  void SetUp() override {
    if (!cuda_available()) GTEST_SKIP() << cuda_unavailable_reason();
  }
  std::vector<float> numbers() const {
    std::vector<float> values(100003);
    for (size_t i = 0; i < values.size(); ++i) values[i] = float(i) * 0.5f - 7;
    return values;
  }
};

TEST_F(CudaTest, IsTheDefaultAndDescribesItself) {
  EXPECT_EQ(default_device(), Device::cuda);
  EXPECT_THAT(backend(Device::cuda).describe(), testing::MatchesRegex(".+ \\(sm_[0-9]+\\)"));
  EXPECT_NE(context(Device::cuda).stream(), nullptr);
}

TEST_F(CudaTest, CopiesInEveryDirection) {
  const std::vector<float> values = numbers();
  const Tensor host = Tensor::from(values, {int64_t(values.size())});
  const Tensor device = host.to(Device::cuda);
  EXPECT_EQ(device.device(), Device::cuda);
  EXPECT_EQ(device.clone().to(Device::cpu).to_vector<float>(), values);
  EXPECT_EQ(device.to(Device::simt).to_vector<float>(), values);
  Tensor back = Tensor::zeros(host.shape(), DType::f32, Device::cpu);
  back.copy_from(device);
  EXPECT_EQ(back.to_vector<float>(), values);
}

TEST_F(CudaTest, PinnedMemoryCopiesToo) {
  const std::vector<float> values = numbers();
  const size_t bytes = values.size() * sizeof(float);
  CachingAllocator& pinned = pinned_allocator();
  ASSERT_NE(&pinned, &host_allocator());
  const std::shared_ptr<void> block(pinned.allocate(bytes, "test"), [&](void* p) { pinned.release(p); });
  Tensor staged = Tensor::adopt(block, {int64_t(values.size())}, DType::f32, Device::cpu);
  staged.copy_from(Tensor::from(values, staged.shape()));
  EXPECT_EQ(staged.to(Device::cuda).to_vector<float>(), values);
}

TEST_F(CudaTest, FillsBytesAndAcceptsEmptyTensors) {
  Tensor x = Tensor::from(std::vector<float>(1000, 3.0f), {1000}, Device::cuda);
  x.fill_zero();
  EXPECT_EQ(x.to_vector<float>(), std::vector<float>(1000, 0.0f));
  const Tensor none = Tensor::zeros({0, 3}, DType::f32, Device::cuda);
  EXPECT_TRUE(none.to_vector<float>().empty());
}

TEST_F(CudaTest, MemoryIsCountedAndReused) {
  CachingAllocator& memory = device_allocator(Device::cuda);
  ASSERT_NE(&memory, &host_allocator());
  const MemoryStatistics before = memory.statistics();
  const void* first = nullptr;
  {
    const Tensor x = Tensor::empty({1 << 20}, DType::f32, Device::cuda, "parameter");
    first = x.raw();
    EXPECT_EQ(memory.statistics().current, before.current + (size_t(4) << 20));
    EXPECT_EQ(reinterpret_cast<uintptr_t>(first) % 256, 0u);
  }
  EXPECT_EQ(memory.statistics().current, before.current);
  const Tensor again = Tensor::empty({1 << 20}, DType::f32, Device::cuda);
  EXPECT_EQ(again.raw(), first);
  EXPECT_GT(memory.statistics().cache_hits, before.cache_hits);
}

TEST_F(CudaTest, AskingForTooMuchIsAResourceErrorAndLeavesTheDeviceUsable) {
  try {
    Tensor::empty({int64_t(1) << 50}, DType::f32, Device::cuda);
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::resource);
    EXPECT_THAT(error.what(), testing::HasSubstr("out of device memory"));
  }
  EXPECT_EQ(Tensor::from(std::vector<float>{1, 2}, {2}, Device::cuda).to_vector<float>(),
            (std::vector<float>{1, 2}));
}

}  // namespace
}  // namespace plume::test::device_test
