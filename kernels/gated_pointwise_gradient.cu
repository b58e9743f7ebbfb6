// gated_pointwise's filter gradient, "tensor_core": dW[k, c] = sum over pixels of dy[pixel, k] (x
// gate)[pixel, c], 16 bits, a product on the matrix core. Rows are channels c, columns filters k, depth
// pixels, cut into slices as those of every filter gradient (conv2d_tensor_core_backward.cu). A thread copies
// one chunk of channels of every kStep-th pixel, and multiplies it by its image's gates as soon as it has
// arrived, rounded as forward rounds it. Its pixels come in order, so that its gates change once per image:
// those of the next image are fetched when an image begins.
//
// Bytes: x and dy once, as often as there are tiles of the other from the L2; gates once per tile and image.
// FLOPs: 2 N H W C K. Beside the plain gradient two accesses to shared memory for each chunk of x.
#include "engine/ops/mbconv.h"
#include "kernels/common/gates.h"
#include "kernels/conv2d_gradients.h"

namespace plume::PLUME_KERNELS {
namespace {

// [pixels, channels], pixels as layers, each times its image's gates.
template <class T, int kRows, int kThreads>
struct GatedLayers : MatrixLayers<T, kRows, true, kChunk, kThreads> {
  using Base = MatrixLayers<T, kRows, true, kChunk, kThreads>;
  using typename Base::Plan;
  using Words = typename ChunkGates<T>::Words;
  Gates gates;
  bool mine = false;    // the thread has channels
  int image = 0;        // whose gates `now` are: where they begin, for the thread's channels
  int pixels_left = 0;  // of that image, from the next one that is multiplied
  ChunkGates<T> now;
  Words next;

  __device__ GatedLayers(const T* x, const Gates& gates_, int channels, int pixels)
      : Base(x, channels, pixels, true), gates(gates_) {}

  __device__ void follow(int row, int first) {
    const int channel = row + Plan::value(), pixel = first + Plan::row(0);
    const int number = gates.by_plane(min(pixel, this->depth - 1));
    mine = channel < this->rows;
    pixels_left = (number + 1) * plane() - pixel;
    image = number * this->rows + channel;
    next = {};
    if (!mine) return;
    now = gates_of(image);
    fetch_next();
  }
  __device__ void arrived(char* tile) {
    if (!mine) return;
    const int to = Plan::begin();
#pragma unroll 1
    for (int pass = 0; pass < Plan::kPasses; ++pass) {
      if (pixels_left <= 0) go_on();
      now.multiply(Plan::place(tile, to, pass));
      pixels_left -= Plan::kStep;
    }
  }

 private:
  __device__ ChunkGates<T> gates_of(int at) const {
    Words words;
    words.fetch(gates.values + at);
    return ChunkGates<T>(words);
  }
  __device__ int values() const { return gates.by_plane(this->depth) * this->rows; }  // of all gates
  __device__ int plane() const { return int(gates.by_plane.divisor); }
  // Where there is another image; layers past the last pixel are zeros.
  __device__ void fetch_next() {
    if (image + this->rows < values()) next.fetch(gates.values + (image + this->rows));
  }
  __device__ void go_on() {
    image += this->rows;
    pixels_left += plane();
    now = ChunkGates<T>(next);
#pragma unroll 1
    while (pixels_left <= 0) {  // images of fewer pixels than the thread passes by
      image += this->rows;
      pixels_left += plane();
      if (image < values()) now = gates_of(image);
    }
    fetch_next();
  }
};

template <class T, int kColumns, int kRows>
__global__ void __launch_bounds__(core_threads(kRows, kColumns), core_blocks(kColumns, kCoreDepth, kRows))
    gated_pointwise_gradient_core(const T* __restrict__ x, const Gates gates, const T* __restrict__ dy,
                                  const CorePlan plan, const FilterGradientStore<PatchWalk> store) {
  constexpr int kThreads = core_threads(kRows, kColumns);
  matrix_core<T, kColumns, kCoreDepth, kRows>(
      GatedLayers<T, kRows, kThreads>(x, gates, plan.rows, plan.depth),
      MatrixLayers<T, kColumns, true, kChunk, kThreads>(dy, plan.columns, plan.depth, true), plan, store);
}

template <class T>
void launch_gated_gradient(Context& context, const Tensor& x, const Tensor& gate, const Tensor& dy,
                           Tensor& dw) {
  const ConvSizes s(x, dw, dy, {});
  const PatchWalk walk = forward_patches(s);
  const Gates gates{gate.data<float>(), FastDivide(int(x.dim(1) * x.dim(2)))};
  const auto launch = [&](auto columns, auto rows) {
    constexpr int kColumns = columns(), kRows = rows();
    const CorePlan plan = filter_gradient_plan(s.channels, s.filters, walk.pixels(), {kRows, kColumns});
    in_slices_of_gradient<T>(context, plan, dw, [&](float* to) {
      const FilterGradientStore<PatchWalk> store{walk, to, s.filters, s.patch(), dw.size()};
      simt::launch<gated_pointwise_gradient_core<T, kColumns, kRows>>(
          {dim3(unsigned(plan.blocks())), dim3(core_threads(kRows, kColumns)),
           CoreMemory<kColumns, kCoreDepth, kRows>::kBytes, stream_of(context)},
          x.data<T>(), gates, dy.data<T>(), plan, store);
    });
  };
  using std::integral_constant;
  const TileSize tile = filter_gradient_tile(s.channels, s.filters, walk.pixels());
  constexpr integral_constant<int, kCoreRows> kCore;
  if (tile.rows == kWideRows)
    launch(integral_constant<int, 192>{}, integral_constant<int, kWideRows>{});
  else if (tile.rows == kLargeRows)
    launch(integral_constant<int, 128>{}, integral_constant<int, kLargeRows>{});
  else
    choose_core(tile.columns, true, true, [&](auto columns, auto, auto) { launch(columns, kCore); });
}

void run_gated_gradient(Context& context, const Tensor& x, const Tensor& gate, const Tensor& dy, Tensor& dw) {
  if (x.dtype() == DType::f16)
    launch_gated_gradient<f16>(context, x, gate, dy, dw);
  else
    launch_gated_gradient<bf16>(context, x, gate, dy, dw);
}

bool fits_gated_gradient(const Context&, const Tensor& x, const Tensor&, const Tensor& dy, Tensor& dw) {
  return fits_core(x, dw, dy) && is_in_chunks(x) && is_in_chunks(dy);
}

const bool gated_gradient_registered = gated_pointwise_backward_weight.add(
    kThisDevice, {{"tensor_core", fits_gated_gradient, run_gated_gradient}}, KernelSlotBase::kOwn + 1);

}  // namespace
}  // namespace plume::PLUME_KERNELS
