// What the tests of this folder share. They run with PLUME_CUDA_PLUGIN naming the stand-in (CMakeLists.txt).
#pragma once
#include <dlfcn.h>
#include <gtest/gtest.h>

#include <cstdlib>

#include "engine/core/context.h"
#include "engine/core/error.h"
#include "tests/cuda_host/stand_in/control.h"

namespace plume::test {

inline void* stand_in_library() {
  const char* const path = std::getenv("PLUME_CUDA_PLUGIN");
  void* const library = path && cuda_available() ? dlopen(path, RTLD_NOW | RTLD_NOLOAD) : nullptr;
  if (!library) fail(ErrorKind::internal, "the stand-in is not open: {}", cuda_unavailable_reason());
  return library;
}

inline const stand_in::Control& stand_in_control() {
  static const auto* const control = reinterpret_cast<decltype(&plume_stand_in_control)>(
      dlsym(stand_in_library(), "plume_stand_in_control"))();
  return *control;
}

// The runtime's functions, for tests of the stand-in itself.
template <class... Args>
int call_stand_in(const char* name, Args... args) {
  return reinterpret_cast<int (*)(Args...)>(dlsym(stand_in_library(), name))(args...);
}

// Fresh counts, and at the end: nothing was done that a driver would let pass although it is wrong.
class OnStandIn : public testing::Test {
 protected:
  void SetUp() override { stand_in_control().reset(); }
  void TearDown() override {
    stand_in_control().fail_call(0);
    stand_in_control().fail_malloc(0);
    EXPECT_EQ(counts().remarks, expected_remarks_);
  }
  static stand_in::Counts counts() { return stand_in_control().counts(); }
  void expect_remarks(uint64_t n) { expected_remarks_ = n; }

 private:
  uint64_t expected_remarks_ = 0;
};

// The kind and the text of the error that f throws.
struct CaughtError {
  bool thrown = false;
  ErrorKind kind{};
  std::string text;
};
template <class F>
CaughtError caught(F&& f) {
  try {
    f();
  } catch (const Error& error) {
    return {true, error.kind(), error.what()};
  }
  return {};
}

}  // namespace plume::test
