#include "engine/memory/staging.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>
#include <functional>

#include "engine/core/context.h"

namespace plume::staging_test {
namespace {

// A device whose streams do as little as they may: what a stream was given runs only when the host or another
// stream must wait for it. The side stream may also be eager: it then runs whatever does not have to wait.
struct Stream {
  std::vector<std::function<void()>> work;
  size_t done = 0;
  bool running = false;
};
struct Event {
  Stream* stream;
  size_t position;
};
Stream main_stream, copy_stream;
bool eager_copies = false;

void run_until(Stream& stream, size_t position) {
  while (stream.done < position) {
    ASSERT_FALSE(stream.running) << "streams wait for each other";
    stream.running = true;
    stream.work[stream.done]();
    stream.running = false;
    ++stream.done;
  }
}
void give(Stream& stream, std::function<void()> work) {
  stream.work.push_back(std::move(work));
  if (eager_copies && &stream == &copy_stream) run_until(stream, stream.work.size());
}
Stream& as_stream(void* stream) { return *static_cast<Stream*>(stream); }

const DeviceBackend kLazy = {
    .allocate = [](size_t bytes, const char*) { return std::malloc(bytes + 1); },
    // Memory is handed to others in the main stream's order.
    .release = [](void* p) { give(main_stream, [=] { std::free(p); }); },
    .copy = [](void* to, const void* from, size_t bytes,
               void* stream) { give(as_stream(stream), [=] { std::memcpy(to, from, bytes); }); },
    .fill = [](void*, int, size_t, void*) {},
    .synchronize = [](void* stream) { run_until(as_stream(stream), as_stream(stream).work.size()); },
    .describe = [] { return std::string("a lazy device"); },
    .side_stream = []() -> void* { return &copy_stream; },
    .record_event = [](void* stream) -> std::shared_ptr<void> {
      return std::make_shared<Event>(&as_stream(stream), as_stream(stream).work.size());
    },
    .wait_event =
        [](void* stream, void* event) {
          const Event e = *static_cast<Event*>(event);
          give(as_stream(stream), [e] { run_until(*e.stream, e.position); });
        },
    .await_event =
        [](void* event) {
          const Event e = *static_cast<Event*>(event);
          run_until(*e.stream, e.position);
        },
};

class StagingTest : public testing::TestWithParam<bool> {
 protected:
  void SetUp() override {
    register_backend(kDevice, kLazy);
    context(kDevice).set_stream(&main_stream);
    main_stream = copy_stream = Stream();
    eager_copies = GetParam();
  }
  void TearDown() override {
    run_until(main_stream, main_stream.work.size());
    register_backend(kDevice, host_);
    context(kDevice).set_stream(nullptr);
  }
  static constexpr Device kDevice = Device::simt;  // stands in for the lazy device

 private:
  const DeviceBackend host_ = backend(kDevice);
};

Tensor numbers(int32_t first, int64_t count) {
  Tensor t = pinned_tensor({count}, DType::i32);
  for (int64_t i = 0; i < count; ++i) t.data<int32_t>()[i] = first + int32_t(i);
  return t;
}

// Work that reads a staged tensor when the stream gets there.
void give_reader(const Tensor& staged, std::vector<std::vector<int32_t>>& seen) {
  const auto* from = static_cast<const int32_t*>(staged.raw());
  const int64_t count = staged.size();
  give(main_stream, [&seen, from, count] { seen.emplace_back(from, from + count); });
}

TEST_P(StagingTest, EveryBatchArrivesWholeInWhateverOrderStreamsRun) {
  std::vector<std::vector<int32_t>> seen, expected;
  {
    Staging staging(kDevice);
    constexpr int kBatches = 20;
    const auto size = [](int i) { return int64_t(5 + 3 * (i % 4) + i / 10); };  // grows now and then
    const auto begin = [&](int i) { staging.begin({numbers(100 * i, size(i)), Tensor()}); };
    begin(0);
    for (int i = 0; i < kBatches; ++i) {
      EXPECT_TRUE(staging.pending());
      const std::vector<Tensor>& here = staging.take();
      ASSERT_EQ(here.size(), 2u);
      EXPECT_FALSE(here[1].defined());
      EXPECT_EQ(here[0].device(), kDevice);
      give_reader(here[0], seen);
      expected.push_back(numbers(100 * i, size(i)).to_vector<int32_t>());
      if (i + 1 < kBatches) begin(i + 1);
    }
    EXPECT_FALSE(staging.pending());
  }
  run_until(main_stream, main_stream.work.size());
  EXPECT_EQ(seen, expected);
}

TEST_P(StagingTest, NeitherCopiesNorReadersAreWaitedForWhileBatchesFollow) {
  std::vector<std::vector<int32_t>> seen;
  Staging staging(kDevice);
  staging.begin({numbers(0, 4)});
  give_reader(staging.take()[0], seen);
  staging.begin({numbers(4, 4)});
  give_reader(staging.take()[0], seen);
  EXPECT_TRUE(eager_copies || seen.empty());  // the host ran ahead of the stream
  staging.clear();
  EXPECT_EQ(seen, (std::vector<std::vector<int32_t>>{{0, 1, 2, 3}, {4, 5, 6, 7}}));
}

TEST_P(StagingTest, RefusesAThirdBatch) {
  Staging staging(kDevice);
  staging.begin({numbers(0, 4)});
  staging.begin({numbers(4, 4)});
  EXPECT_THROW(staging.begin({numbers(8, 4)}), Error);
  staging.take();
  EXPECT_THROW(staging.begin({numbers(8, 4)}), Error);  // the first may still be read
  staging.take();
  staging.begin({numbers(8, 4)});
  staging.clear();
  EXPECT_THROW(staging.take(), Error);
}

INSTANTIATE_TEST_SUITE_P(Copies, StagingTest, testing::Bool(),
                         [](const auto& p) { return p.param ? "eager" : "lazy"; });

TEST(StagingOnTheHost, HandsTheTensorsOver) {
  for (const Device device : {Device::cpu, Device::simt}) {
    Staging staging(device);
    staging.begin({numbers(3, 2)});
    EXPECT_EQ(staging.take()[0].to_vector<int32_t>(), (std::vector<int32_t>{3, 4}));
    EXPECT_FALSE(staging.pending());
  }
}

}  // namespace
}  // namespace plume::staging_test
