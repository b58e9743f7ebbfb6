#include "bench/support/arguments.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <map>

#include "engine/core/context.h"
#include "engine/core/random.h"

namespace plume {

std::string describe(const Tensor& tensor) {
  if (!tensor.defined()) return "-";
  std::string extents;
  for (const int64_t extent : tensor.shape()) {
    if (!extents.empty()) extents += ',';
    extents += std::to_string(extent);
  }
  return message("{}[{}]", name(tensor.dtype()), extents);
}

std::string describe(const Epilogue& e) {
  if (e.empty()) return "plain";
  std::string text;
  const auto part = [&](bool there, const char* word) {
    if (!there) return;
    if (!text.empty()) text += '+';
    text += word;
  };
  part(e.scale.defined(), "scale");
  part(e.shift.defined(), "shift");
  part(e.residual.defined() && !e.adds_last(), "residual");
  part(e.activation != Activation::identity, name(e.activation));
  part(e.adds_last(), "residual");
  return text;
}

std::string describe(const Conv2dParams& p) {
  std::string text = message("stride{}_pad{}", p.stride, p.padding);
  if (p.dilation != 1) text += message("_dilation{}", p.dilation);
  return p.packed ? text + "_constant" : text;
}

}  // namespace plume

namespace plume::bench {
namespace {

const std::shared_ptr<void>& no_memory() {
  alignas(256) static std::byte place[256];
  static const std::shared_ptr<void> handle(static_cast<void*>(place), [](void*) {});
  return handle;
}

// Random numbers from which tensors are filled by copies of the device itself.
constexpr int64_t kBankElements = int64_t(1) << 22;
constexpr size_t kBankStride = 256;  // keeps chunks aligned

const Tensor& bank(DType dtype, Device device) {
  static std::map<std::pair<DType, Device>, Tensor> banks;
  Tensor& tensor = banks[{dtype, device}];
  if (tensor.defined()) return tensor;
  RandomSequence random(20240607);
  std::vector<float> values(static_cast<size_t>(kBankElements));
  for (float& v : values) v = random.normal();
  dispatch_floating(dtype, [&](auto zero) {
    using T = decltype(zero);
    std::vector<T> rounded(values.size());
    std::transform(values.begin(), values.end(), rounded.begin(), [](float v) { return T(v); });
    tensor = Tensor::from(rounded, {kBankElements}, device);
  });
  return tensor;
}

// A part of a tensor as floats on the host.
std::vector<float> elements(const Tensor& tensor, int64_t first, int64_t count) {
  const auto owner = std::make_shared<Tensor>(tensor);
  auto* start = static_cast<std::byte*>(owner->raw()) + size_t(first) * size_of(tensor.dtype());
  const Tensor part =
      Tensor::adopt(std::shared_ptr<void>(owner, start), {count}, tensor.dtype(), tensor.device());
  std::vector<float> out(static_cast<size_t>(count));
  const auto convert = [&](const auto& values) {
    std::transform(values.begin(), values.end(), out.begin(), [](auto v) { return float(v); });
  };
  switch (tensor.dtype()) {
    case DType::i32:
      convert(part.to_vector<int32_t>());
      break;
    case DType::i64:
      convert(part.to_vector<int64_t>());
      break;
    case DType::u8:
      convert(part.to_vector<uint8_t>());
      break;
    default:
      dispatch_floating(tensor.dtype(), [&](auto zero) { convert(part.to_vector<decltype(zero)>()); });
  }
  return out;
}

}  // namespace

Tensor outline(const Tensor& like) {
  return Tensor::adopt(no_memory(), like.shape(), like.dtype(), like.device());
}

bool is_outline(const Tensor& tensor) { return tensor.raw() == no_memory().get(); }

Tensor materialise(const Tensor& recorded, uint64_t seed) {
  if (!recorded.defined()) return {};
  if (!is_outline(recorded)) return recorded.clone();
  Tensor tensor = empty_like(recorded);
  const Tensor& numbers = bank(tensor.dtype(), tensor.device());
  const Context& context = plume::context(tensor.device());
  auto* to = static_cast<std::byte*>(tensor.raw());
  const auto* from = static_cast<const std::byte*>(numbers.raw());
  size_t start = size_t(seed * 7919 + 1) * kBankStride % numbers.bytes();
  for (size_t done = 0; done < tensor.bytes();) {
    const size_t chunk = std::min(tensor.bytes() - done, numbers.bytes() - start);
    backend(tensor.device()).copy(to + done, from + start, chunk, context.stream());
    done += chunk;
    start = 0;
  }
  return tensor;
}

void add_parts(Tensor& parts) {
  const std::vector<float> values = parts.to_vector<float>();
  const int64_t images = parts.dim(0), plane = parts.size() / std::max<int64_t>(images, 1),
                channels = parts.dim(2);
  std::vector<float> sums(size_t(images * channels));
  for (int64_t i = 0; i < parts.size(); ++i)
    sums[size_t(i / plane * channels + i % channels)] += values[size_t(i)];
  parts = Tensor::from(sums, {images, 1, channels});
}

double relative_error(const Tensor& got, const Tensor& want) {
  constexpr int64_t kWindow = int64_t(1) << 20;
  const int64_t size = got.size(), window = std::min(size, kWindow);
  double difference = 0, magnitude = 0;
  for (const int64_t first : {int64_t(0), size - window}) {
    const std::vector<float> a = elements(got, first, window), b = elements(want, first, window);
    for (size_t i = 0; i < a.size(); ++i) {
      const double d = double(a[i]) - double(b[i]);
      difference += d * d;
      magnitude += double(b[i]) * double(b[i]);
    }
  }
  return magnitude > 0 ? std::sqrt(difference / magnitude) : std::sqrt(difference);
}

}  // namespace plume::bench
