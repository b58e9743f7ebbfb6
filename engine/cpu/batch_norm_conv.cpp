// batch_norm_conv: a first pass over x for the statistics, then parts of it are normalised by the thread that
// convolves them, while they are in its cache. Dense convolutions by oneDNN, a few images at a time;
// depthwise ones some rows at a time.
#include "engine/ops/batch_norm_conv.h"

#include "engine/cpu/batch_norm.h"
#include "engine/cpu/conv/onednn_conv2d.h"
#include "engine/cpu/conv/own_conv2d.h"

namespace plume::cpu {
namespace {

// Calls f(normaliser) once the statistics are known; each call of it normalises a multiple of `unit` pixels.
template <class F>
void with_statistics(const Tensor& x, const Tensor& gamma, const Tensor& beta, const BatchNormParams& params,
                     const Statistics& out, int64_t unit, const F& f) {
  batch_statistics(x, params, out);
  f(Normaliser({gamma, beta, out.mean, out.inv_std, params.activation}, unit));
}

int64_t row(const Tensor& x) { return x.dim(2); }

bool fits_rows(const Context&, const Tensor& x, const Tensor&, const Tensor&, const BatchNormParams&,
               const Tensor& w, const Conv2dParams& conv, Tensor&, Tensor&, Tensor&, Tensor&, Tensor&) {
  return is_depthwise(w.shape()) && x.dtype() == DType::f32 &&
         fits_depthwise_rows(x.shape(), w.shape(), conv);
}
void run_rows(Context&, const Tensor& x, const Tensor& gamma, const Tensor& beta,
              const BatchNormParams& params, const Tensor& w, const Conv2dParams& conv, Tensor& y,
              Tensor& mean, Tensor& inv_std, Tensor& running_mean, Tensor& running_var) {
  with_statistics(x, gamma, beta, params, {mean, inv_std, running_mean, running_var}, row(x),
                  [&](const Normaliser& norm) { normalised_depthwise_rows(x, norm, w, conv, y); });
}

bool fits_weight_rows(const Context&, const Tensor& x, const KnownNorm&, const Tensor&,
                      const Conv2dParams& conv, Tensor& dw) {
  return is_depthwise(dw.shape()) && x.dtype() == DType::f32 && dw.dtype() == DType::f32 &&
         fits_depthwise_rows(x.shape(), dw.shape(), conv);
}
void run_weight_rows(Context&, const Tensor& x, const KnownNorm& norm, const Tensor& dy,
                     const Conv2dParams& conv, Tensor& dw) {
  normalised_depthwise_backward_weight(x, Normaliser(norm, row(x)), dy, conv, dw);
}

const bool rows_registered =
    batch_norm_conv_forward.add(Device::cpu, {{"rows", fits_rows, run_rows}}, KernelSlotBase::kSpecial) &&
    batch_norm_conv_backward_weight.add(Device::cpu, {{"rows", fits_weight_rows, run_weight_rows}},
                                        KernelSlotBase::kSpecial);

#if PLUME_HAVE_ONEDNN
int64_t image(const Tensor& x) { return x.dim(1) * x.dim(2); }

bool fits_parts(const Context&, const Tensor& x, const Tensor&, const Tensor&, const BatchNormParams&,
                const Tensor& w, const Conv2dParams& conv, Tensor&, Tensor&, Tensor&, Tensor&, Tensor&) {
  return !is_depthwise(w.shape()) && fits_normalised_conv2d(x, w.shape(), conv);
}
void run_parts(Context&, const Tensor& x, const Tensor& gamma, const Tensor& beta,
               const BatchNormParams& params, const Tensor& w, const Conv2dParams& conv, Tensor& y,
               Tensor& mean, Tensor& inv_std, Tensor& running_mean, Tensor& running_var) {
  with_statistics(x, gamma, beta, params, {mean, inv_std, running_mean, running_var}, image(x),
                  [&](const Normaliser& norm) { normalised_conv2d(x, norm, w, conv, y); });
}

bool fits_weight_parts(const Context&, const Tensor& x, const KnownNorm&, const Tensor&,
                       const Conv2dParams& conv, Tensor& dw) {
  return !is_depthwise(dw.shape()) && fits_normalised_conv2d(x, dw.shape(), conv);
}
void run_weight_parts(Context&, const Tensor& x, const KnownNorm& norm, const Tensor& dy,
                      const Conv2dParams& conv, Tensor& dw) {
  normalised_conv2d_backward_weight(x, Normaliser(norm, image(x)), dy, conv, dw);
}

const bool parts_registered =
    batch_norm_conv_forward.add(Device::cpu, {{"in_parts", fits_parts, run_parts}},
                                KernelSlotBase::kVendor) &&
    batch_norm_conv_backward_weight.add(Device::cpu, {{"in_parts", fits_weight_parts, run_weight_parts}},
                                        KernelSlotBase::kVendor);
#endif

}  // namespace
}  // namespace plume::cpu
