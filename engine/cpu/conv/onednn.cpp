#include "engine/cpu/conv/onednn.h"

#if PLUME_HAVE_ONEDNN
#if defined(_OPENMP)
#include <omp.h>
#endif

namespace plume::cpu {

dnnl::engine& dnnl_engine() {
  static dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  return engine;
}

dnnl::stream& dnnl_stream() {
  thread_local dnnl::stream stream(dnnl_engine());
  return stream;
}

// The number is the calling thread's own.
#if defined(_OPENMP)
OneDnnOnOneThread::OneDnnOnOneThread() : previous_(omp_get_max_threads()) { omp_set_num_threads(1); }
OneDnnOnOneThread::~OneDnnOnOneThread() { omp_set_num_threads(previous_); }
#else
OneDnnOnOneThread::OneDnnOnOneThread() = default;
OneDnnOnOneThread::~OneDnnOnOneThread() = default;
#endif

}  // namespace plume::cpu
#endif  // PLUME_HAVE_ONEDNN
