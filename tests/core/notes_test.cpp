#include "engine/core/notes.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

namespace plume::notes_test {
namespace {

using testing::ElementsAre;
using testing::UnorderedElementsAre;

TEST(Notes, AreKeptOnceInOrder) {
  const size_t before = notes().size();
  note("no kernel for a");
  note("no kernel for b");
  note("no kernel for a");
  const std::vector<std::string> all = notes();
  EXPECT_THAT(std::vector<std::string>(all.begin() + std::ptrdiff_t(before), all.end()),
              ElementsAre("no kernel for a", "no kernel for b"));
}

TEST(Notes, FromAnyThread) {
  const size_t before = notes().size();
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i)
    threads.emplace_back([i] { note(i % 2 ? "from an odd thread" : "from an even thread"); });
  for (std::thread& t : threads) t.join();
  const std::vector<std::string> all = notes();
  EXPECT_THAT(std::vector<std::string>(all.begin() + std::ptrdiff_t(before), all.end()),
              UnorderedElementsAre("from an odd thread", "from an even thread"));
}

}  // namespace
}  // namespace plume::notes_test
