// Filter gradients of first layers: conv2d backward_weight, "stem" (conv2d_stem_weight.h has the algorithm).
//
// FLOPs: 2 N P Q K R S C. Bytes: x and dy once, and a slice for each block. 7x7, 64 filters, of 224x224, 256
// images: 112 us of mma.sync on an H100, 488 MB (163 us). A warp's step of 16 pixels: 16 mma, 8 loads, 4
// ldmatrix; a block's is 120 wavefronts and, for conflicts of three of ten eights and for copies, 30 more,
// beside 128 clocks of tensor cores.
#include "kernels/conv2d_stem_weight.h"

namespace plume::PLUME_KERNELS {
namespace {

// dy as it lies in memory.
template <class T>
struct StoredGradients {
  static constexpr bool kMade = false;
  const T* dy;

  __device__ static void begin(int) {}
  template <class Band>
  __device__ __forceinline__ void copy(const Band& band) const {
    band.template for_each<1>([&](int row, int column, int chunk) { band.copy(dy, row, column, chunk); });
  }
  template <class Band>
  __device__ static void arrived(const Band&) {}
};

template <class T, int kSide, int kTiles>
__global__ void __launch_bounds__(StemGradient<kSide, kTiles>::kThreads,
                                  StemGradient<kSide, kTiles>::blocks(false))
    conv2d_stem_weight(const T* __restrict__ x, const T* __restrict__ dy, const StemWalk walk,
                       const StemBands bands, const FastDivide by_tiles, const FastDivide by_chunks,
                       float* __restrict__ partial, int64_t size) {
  stem_gradient<T, kSide, kTiles>(x, StoredGradients<T>{dy}, walk, bands, by_tiles, by_chunks, partial, size);
}

template <class F>
void choose_stem_gradient(DType dtype, int side, int64_t filters, F&& f) {
  using std::integral_constant;
  const auto with_type = [&](auto zero) {
    using Eight = integral_constant<int, 8>;
    if (side == 7) return f(zero, integral_constant<int, 7>{}, Eight{});
    constexpr integral_constant<int, 3> kThree;
    if (filters <= 16) return f(zero, kThree, integral_constant<int, 2>{});
    if (filters <= 32) return f(zero, kThree, integral_constant<int, 4>{});
    f(zero, kThree, Eight{});
  };
  dtype == DType::f16 ? with_type(f16{}) : with_type(bf16{});
}

// f(T, kSide, kTiles, plan), where the device has room for it.
template <class F>
bool plan_stem_gradient(const Tensor& x, const ConvSizes& s, F&& f) {
  bool room = false;
  choose_stem_gradient(x.dtype(), s.filter_width, s.filters, [&](auto zero, auto side, auto tiles) {
    const StemGradientPlan<side(), tiles()> plan(x, s, StoredGradients<f16>::kMade);
    room = plan.room;
    if (room) f(zero, side, tiles, plan);
  });
  return room;
}

void run_stem_weight(Context& context, const Tensor& x, const Tensor& dy, const Conv2dParams& params,
                     Tensor& dw) {
  const ConvSizes s(x, dw, dy, params);
  plan_stem_gradient(x, s, [&](auto zero, auto side, auto tiles, const auto& plan) {
    using T = decltype(zero);
    in_slices_of_stem<T>(context, plan, dw, [&](float* partial) {
      simt::launch<conv2d_stem_weight<T, side(), tiles()>>(
          {dim3(unsigned(plan.blocks())), dim3(StemGradient<side(), tiles()>::kThreads), size_t(plan.bytes),
           stream_of(context)},
          x.data<T>(), dy.data<T>(), plan.walk, plan.bands, plan.by_tiles, plan.by_chunks, partial,
          dw.size());
    });
  });
}

bool fits_stem_weight(const Context&, const Tensor& x, const Tensor& dy, const Conv2dParams& params,
                      Tensor& dw) {
  const ConvSizes s(x, dw, dy, params);
  return fits_core(x, dw, dy) && StemWalk::fits(s) && reinterpret_cast<uintptr_t>(dy.raw()) % 16 == 0 &&
         plan_stem_gradient(x, s, [](auto...) {});
}

const bool conv2d_stem_gradient_registered = conv2d_backward_weight.add(
    kThisDevice, {{"stem", fits_stem_weight, run_stem_weight}}, KernelSlotBase::kOwn + 2);

}  // namespace
}  // namespace plume::PLUME_KERNELS
