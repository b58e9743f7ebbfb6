#include "engine/memory/allocator.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <set>

#include "engine/core/error.h"

namespace plume::test::allocator_test {
namespace {

// A source that knows what it gave out, and runs dry after `limit` bytes.
struct Source {
  static inline std::map<void*, size_t> given;
  static inline size_t limit = 0;
  static size_t total() {
    size_t sum = 0;
    for (const auto& [pointer, bytes] : given) sum += bytes;
    return sum;
  }
  static MemorySource get(size_t bytes) {
    given.clear();
    limit = bytes;
    return {[](size_t n) -> void* {
              if (total() + n > limit) return nullptr;
              void* pointer = std::aligned_alloc(256, (n + 255) / 256 * 256);
              given[pointer] = n;
              return pointer;
            },
            [](void* pointer) {
              given.erase(pointer);
              std::free(pointer);
            },
            "test"};
  }
};

constexpr size_t kPlenty = size_t(1) << 30;

TEST(AllocatorTest, CountsBytesInUsePerTagAndTheirPeak) {
  CachingAllocator allocator(Source::get(kPlenty));
  void* a = allocator.allocate(1000, "activation");
  void* b = allocator.allocate(3000, "gradient");
  allocator.release(a);
  MemoryStatistics s = allocator.statistics();
  EXPECT_EQ(s.current, 3000u);
  EXPECT_EQ(s.peak, 4000u);
  EXPECT_EQ(s.requests, 2u);
  EXPECT_EQ(s.by_tag["activation"], 0u);
  EXPECT_EQ(s.by_tag["gradient"], 3000u);
  EXPECT_EQ(s.peak_by_tag["activation"], 1000u);
  allocator.reset_peak();
  EXPECT_EQ(allocator.statistics().peak, 3000u);
  allocator.release(b);
  EXPECT_EQ(allocator.statistics().current, 0u);
  allocator.release_cached();
  EXPECT_EQ(allocator.statistics().reserved, 0u);
  EXPECT_THAT(Source::given, testing::IsEmpty());
}

TEST(AllocatorTest, BlocksAreAlignedAndDistinctEvenWithoutBytes) {
  CachingAllocator allocator(Source::get(kPlenty));
  std::set<void*> blocks;
  for (const size_t bytes : {0, 0, 1, 255, 256, 257, 5000}) {
    void* block = allocator.allocate(bytes, "test");
    EXPECT_EQ(reinterpret_cast<uintptr_t>(block) % 256, 0u);
    EXPECT_TRUE(blocks.insert(block).second);
  }
  for (void* block : blocks) allocator.release(block);
}

TEST(AllocatorTest, ErrorNamesSourceBytesAndTag) {
  CachingAllocator allocator(Source::get(1000));
  try {
    allocator.allocate(5000, "activation");
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::resource);
    EXPECT_THAT(error.what(), testing::AllOf(testing::HasSubstr("test memory"), testing::HasSubstr("5000"),
                                             testing::HasSubstr("activation")));
  }
}

TEST(AllocatorTest, CachedBlocksOfOtherSizesAreGivenUpBeforeMemoryRunsOut) {
  CachingAllocator allocator(Source::get(10000));
  allocator.release(allocator.allocate(8192, "test"));
  void* block = allocator.allocate(4096, "test");
  EXPECT_LE(Source::total(), 10000u);
  allocator.release(block);
}

// A GPU that records may not give memory back to the driver.
TEST(AllocatorTest, NothingIsGivenUpUnderAHold) {
#if !defined(__SANITIZE_ADDRESS__)
  CachingAllocator allocator(Source::get(64 << 10));
  allocator.release(allocator.allocate(40 << 10, "activation"));
  {
    const std::shared_ptr<void> hold = allocator.begin_hold();
    EXPECT_THROW(allocator.allocate(48 << 10, "activation"), Error);
    allocator.release_cached();
    EXPECT_EQ(Source::given.size(), 1u);
    allocator.end_hold();
  }
  void* const block = allocator.allocate(48 << 10, "activation");
  EXPECT_EQ(Source::given.size(), 1u);
  allocator.release(block);
#endif
}

TEST(AllocatorTest, HoldKeepsFreedBlocksToItself) {
  CachingAllocator allocator(Source::get(kPlenty));
  void* before = allocator.allocate(4096, "test");
  std::shared_ptr<void> hold = allocator.begin_hold();
  void* during = allocator.allocate(4096, "test");
  allocator.release(during);
  EXPECT_EQ(allocator.allocate(4096, "test"), during) << "inside the hold, freed blocks are reused";
  allocator.release(before);  // recorded work may use it, so it is held too
  allocator.end_hold();
  EXPECT_EQ(allocator.statistics().held, 4096u);

  void* after = allocator.allocate(4096, "test");
  EXPECT_NE(after, before);
  EXPECT_NE(after, during);
  allocator.release(during);  // made under the hold, freed later
  EXPECT_EQ(allocator.statistics().held, 8192u);
  void* later = allocator.allocate(4096, "test");
  EXPECT_NE(later, before);
  EXPECT_NE(later, during);
  allocator.release(after);
  allocator.release(later);

  hold.reset();
  EXPECT_EQ(allocator.statistics().held, 0u);
  allocator.release_cached();
  EXPECT_THAT(Source::given, testing::IsEmpty()) << "everything returned to everybody";
}

TEST(AllocatorTest, BlockUsedByTwoHoldsIsFreeWhenBothAreGone) {
  CachingAllocator allocator(Source::get(kPlenty));
  std::shared_ptr<void> first = allocator.begin_hold();
  void* block = allocator.allocate(4096, "test");
  allocator.end_hold();
  std::shared_ptr<void> second = allocator.begin_hold();
  allocator.release(block);
  void* other = allocator.allocate(4096, "test");
  EXPECT_NE(other, block) << "the first hold's block is not the second's to reuse";
  allocator.end_hold();
  first.reset();
  EXPECT_EQ(allocator.statistics().held, 4096u) << "the second still needs it";
  second.reset();
  EXPECT_EQ(allocator.statistics().held, 0u);
  allocator.release(other);
}

TEST(AllocatorTest, OneHoldAtATime) {
  CachingAllocator allocator(Source::get(kPlenty));
  const std::shared_ptr<void> hold = allocator.begin_hold();
  EXPECT_THROW(allocator.begin_hold(), Error);
  allocator.end_hold();
}

}  // namespace
}  // namespace plume::test::allocator_test
