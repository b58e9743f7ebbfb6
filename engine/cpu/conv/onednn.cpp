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

Tensor widened(const Tensor& tensor) {
  if (!tensor.defined() || tensor.dtype() == DType::f32) return tensor;
  Tensor wide = Tensor::empty(tensor.shape(), DType::f32, tensor.device(), "workspace");
  float* out = wide.data<float>();
  dispatch_floating(tensor.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const T* in = tensor.data<T>();
    parallel_for(tensor.size(), kElementGrain, [=](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) out[i] = float(in[i]);
    });
  });
  return wide;
}

void narrow(const Tensor& from, Tensor& to) {
  const float* in = from.data<float>();
  dispatch_floating(to.dtype(), [&](auto zero) {
    using T = decltype(zero);
    T* out = to.data<T>();
    parallel_for(to.size(), kElementGrain, [=](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) out[i] = T(in[i]);
    });
  });
}

}  // namespace plume::cpu
#endif  // PLUME_HAVE_ONEDNN
