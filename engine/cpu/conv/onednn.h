// What the oneDNN variants share: the engine, plans kept per problem.
//
// oneDNN is used through its version 2 interface, in position_gemm.cpp and the files named onednn* only.
#pragma once
#if PLUME_HAVE_ONEDNN
#include <array>
#include <dnnl.hpp>
#include <map>
#include <memory>

#include "engine/core/tensor.h"
#include "engine/cpu/parallel.h"
#include "engine/cpu/widened.h"

namespace plume::cpu {

dnnl::engine& dnnl_engine();
dnnl::stream& dnnl_stream();  // one per thread: executions on it run at once, on the calling thread

// While alive, oneDNN runs on the calling thread alone. Debian's oneDNN is built for OpenMP, whose threads
// spin for each other without end: where other programs use the same cores that multiplies its time by ten
// and more. So no plan is made and nothing is executed without one of these.
class OneDnnOnOneThread {
 public:
  OneDnnOnOneThread();
  ~OneDnnOnOneThread();
  OneDnnOnOneThread(const OneDnnOnOneThread&) = delete;
  OneDnnOnOneThread& operator=(const OneDnnOnOneThread&) = delete;

 private:
  int previous_ = 1;
};

// Calls f(i) for 0 <= i < count: pieces of work, each of which calls oneDNN on one thread.
template <class F>
void for_each_onednn_piece(int64_t count, const F& f) {
  parallel_for(count, 1, [&](int64_t begin, int64_t end) {
    const OneDnnOnOneThread guard;
    for (int64_t i = begin; i < end; ++i) f(i);
  });
}

// Planes of output up to which position_gemm.cpp takes forward passes and gradients of inputs.
inline constexpr int64_t kLargestPositionPlane = 16;

inline dnnl::memory wrap(const dnnl::memory::desc& layout, const void* data) {
  return dnnl::memory(layout, dnnl_engine(), const_cast<void*>(data));
}

// Plans are made once per problem and calling thread, since choosing and compiling a primitive costs more
// than a small layer: by the caller of a loop, for all threads that help with it. The key holds all that a
// plan depends on.
template <class Plan, size_t kSize, class Make>
Plan& cached_plan(const std::array<int64_t, kSize>& key, const Make& make) {
  thread_local std::map<std::array<int64_t, kSize>, std::unique_ptr<Plan>> plans;
  std::unique_ptr<Plan>& plan = plans[key];
  if (!plan) plan = make();
  return *plan;
}

}  // namespace plume::cpu
#endif  // PLUME_HAVE_ONEDNN
