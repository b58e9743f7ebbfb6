// stb_image reads the file down to the coefficients. From there on JPEG leaves rounding to the decoder, and a
// level more or less in a pixel moves logits by a percent: transform, upsampling and colours are done here,
// with the roundings of the Independent JPEG Group's library.
#include "data/images/jpeg.h"

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <vector>

#include "data/images/decoding.h"

// Cleared memory: a component that no scan fills is black, not what was there before.
#define STBI_MALLOC(size) std::calloc(1, size)
#define STBI_REALLOC(pointer, size) std::realloc(pointer, size)
#define STBI_FREE(pointer) std::free(pointer)
#define STB_IMAGE_IMPLEMENTATION
#define STB_IMAGE_STATIC
#define STBI_ONLY_JPEG
#define STBI_NO_STDIO
#define STBI_NO_LINEAR
#define STBI_NO_HDR
#define STBI_MAX_DIMENSIONS (1 << 16)
#include <stb/stb_image.h>

namespace plume::data {
namespace {

uint8_t to_byte(int64_t x) { return uint8_t(std::clamp<int64_t>(x, 0, 255)); }

// The inverse cosine transform of Loeffler, Ligtenberg and Moschytz (1989) on the eight columns of an 8x8
// block, in fixed point, written transposed so that the second pass is the same. 64 bits: damaged files may
// have coefficients that no image has.
constexpr int kConstantBits = 13, kFirstPassBits = 2;

constexpr int64_t fixed(double x) { return int64_t(x * (1 << kConstantBits) + 0.5); }

void transform_columns(const int64_t* in, int64_t* out, int shift) {
  const int64_t half = int64_t{1} << (shift - 1);
  for (int c = 0; c < 8; ++c) {
    const auto at = [&](int row) { return in[row * 8 + c]; };
    const int64_t turn = (at(2) + at(6)) * fixed(0.541196100);
    const int64_t low = turn - at(6) * fixed(1.847759065), high = turn + at(2) * fixed(0.765366865);
    const int64_t sum = (at(0) + at(4)) * (1 << kConstantBits);
    const int64_t difference = (at(0) - at(4)) * (1 << kConstantBits);
    const int64_t even[4] = {sum + high, difference + low, difference - low, sum - high};

    const int64_t z3 = at(7) + at(3), z4 = at(5) + at(1);
    const int64_t z5 = (z3 + z4) * fixed(1.175875602);
    const int64_t a = z5 - z3 * fixed(1.961570560), b = z5 - z4 * fixed(0.390180644);
    const int64_t outer = -(at(7) + at(1)) * fixed(0.899976223),
                  inner = -(at(5) + at(3)) * fixed(2.562915447);
    const int64_t odd[4] = {at(1) * fixed(1.501321110) + outer + b, at(3) * fixed(3.072711026) + inner + a,
                            at(5) * fixed(2.053119869) + inner + b, at(7) * fixed(0.298631336) + outer + a};
    for (int k = 0; k < 4; ++k) {
      out[c * 8 + k] = (even[k] + odd[k] + half) >> shift;
      out[c * 8 + 7 - k] = (even[k] - odd[k] + half) >> shift;
    }
  }
}

void inverse_transform(stbi_uc* out, int stride, short coefficients[64]) {
  int64_t block[64], half_done[64];
  std::copy_n(coefficients, 64, block);
  transform_columns(block, half_done, kConstantBits - kFirstPassBits);
  transform_columns(half_done, block, kConstantBits + kFirstPassBits + 3);
  for (int y = 0; y < 8; ++y)
    for (int x = 0; x < 8; ++x) out[y * stride + x] = to_byte(block[y * 8 + x] + 128);
}

// One component at full size, row by row.
class Upsampler {
 public:
  Upsampler(const stbi__jpeg& jpeg, int component)
      : data_(jpeg.img_comp[component].data),
        stride_(jpeg.img_comp[component].w2),
        width_(jpeg.img_comp[component].x),
        height_(jpeg.img_comp[component].y),
        across_(jpeg.img_h_max / jpeg.img_comp[component].h),
        down_(jpeg.img_v_max / jpeg.img_comp[component].v),
        sums_(size_t(width_)),
        out_(size_t(width_) * size_t(across_)) {}

  // Valid until the next call.
  const uint8_t* row(int y) {
    if (across_ == 1 && down_ == 1) return line(y);
    const bool smooth_across = across_ == 2 && width_ > 2;
    if (smooth_across && down_ == 1)
      widen(line(y));
    else if (smooth_across && down_ == 2)
      widen_both(y);
    else if (across_ == 1 && down_ == 2)
      heighten(y);
    else
      repeat(line(y / down_));
    return out_.data();
  }

 private:
  const uint8_t* line(int y) const { return data_ + int64_t(std::clamp(y, 0, height_ - 1)) * stride_; }
  // The row of which output row y has a quarter; of line(y / 2) it has three.
  const uint8_t* far_line(int y) const { return line(y % 2 == 0 ? y / 2 - 1 : y / 2 + 1); }

  // Each output is 3/4 of the nearer and 1/4 of the further input. Halves go down on one side and up on the
  // other, so that the image does not get brighter.
  void widen(const uint8_t* in) {
    const int last = width_ - 1;
    for (int x = 0; x <= last; ++x) {
      const int near = 3 * in[x];
      out_[size_t(2 * x)] = x == 0 ? in[0] : uint8_t((near + in[x - 1] + 1) >> 2);
      out_[size_t(2 * x + 1)] = x == last ? in[last] : uint8_t((near + in[x + 1] + 2) >> 2);
    }
  }
  void heighten(int y) {
    const uint8_t *near = line(y / 2), *far = far_line(y);
    const int bias = y % 2 == 0 ? 1 : 2;
    for (int x = 0; x < width_; ++x) out_[size_t(x)] = uint8_t((3 * near[x] + far[x] + bias) >> 2);
  }
  void widen_both(int y) {
    const uint8_t *near = line(y / 2), *far = far_line(y);
    for (int x = 0; x < width_; ++x) sums_[size_t(x)] = 3 * near[x] + far[x];
    const int last = width_ - 1;
    for (int x = 0; x <= last; ++x) {
      const int here = sums_[size_t(x)];
      const int left = x == 0 ? here : sums_[size_t(x - 1)], right = x == last ? here : sums_[size_t(x + 1)];
      out_[size_t(2 * x)] = uint8_t((3 * here + left + 8) >> 4);
      out_[size_t(2 * x + 1)] = uint8_t((3 * here + right + 7) >> 4);
    }
  }
  void repeat(const uint8_t* in) {
    for (size_t x = 0; x < out_.size(); ++x) out_[x] = in[x / size_t(across_)];
  }

  const uint8_t* data_;
  int stride_, width_, height_, across_, down_;
  std::vector<int> sums_;
  std::vector<uint8_t> out_;
};

// JFIF's YCbCr, with 16 binary places.
void to_rgb(const uint8_t* y, const uint8_t* cb, const uint8_t* cr, int width, uint8_t* out) {
  constexpr int kHalf = 1 << 15;
  for (int x = 0; x < width; ++x, out += 3) {
    const int blue = cb[x] - 128, red = cr[x] - 128;
    out[0] = to_byte(y[x] + ((91881 * red + kHalf) >> 16));
    out[1] = to_byte(y[x] + ((-22554 * blue - 46802 * red + kHalf) >> 16));
    out[2] = to_byte(y[x] + ((116130 * blue + kHalf) >> 16));
  }
}

void interleave(std::initializer_list<const uint8_t*> planes, int width, uint8_t* out) {
  for (int x = 0; x < width; ++x)
    for (const uint8_t* plane : planes) *out++ = plane[x];
}

// YCCK is CMY turned to RGB and that to YCbCr.
void complement_to_cmyk(const uint8_t* rgb, const uint8_t* black, int width, uint8_t* cmyk) {
  for (int x = 0; x < width; ++x, rgb += 3) {
    for (int c = 0; c < 3; ++c) *cmyk++ = uint8_t(255 - rgb[c]);
    *cmyk++ = black[x];
  }
}

struct Decoder {
  stbi__context context{};
  stbi__jpeg jpeg{};

  explicit Decoder(Bytes bytes) {
    stbi__start_mem(&context, bytes.data(), int(bytes.size()));
    jpeg.s = &context;
    stbi__setup_jpeg(&jpeg);
    jpeg.idct_block_kernel = inverse_transform;
  }
  ~Decoder() { stbi__cleanup_jpeg(&jpeg); }
  Decoder(const Decoder&) = delete;
  Decoder& operator=(const Decoder&) = delete;
};

// The next marker that is one. What some cameras and scanners leave behind the last block of a scan is passed
// over, also where it looks like a restart marker or a stuffed byte. But a restart marker where the decoder
// waited for one and met something else means that blocks are missing: then there is none.
uint8_t next_marker(stbi__jpeg& jpeg) {
  uint8_t marker = jpeg.marker;
  jpeg.marker = STBI__MARKER_none;
  const auto is_restart = [](uint8_t m) { return m >= 0xD0 && m <= 0xD7; };
  const auto is_one = [&](uint8_t m) { return m != 0 && m != 0xFF && !is_restart(m); };
  const bool waited = jpeg.restart_interval > 0 && jpeg.todo <= 0;
  while (!is_one(marker) && !(waited && is_restart(marker))) {
    if (stbi__at_eof(jpeg.s)) return 0;
    while (!stbi__at_eof(jpeg.s) && stbi__get8(jpeg.s) != 0xFF) continue;
    do marker = stbi__get8(jpeg.s);
    while (marker == 0xFF && !stbi__at_eof(jpeg.s));
  }
  return is_one(marker) ? marker : 0;
}

// All scans, into the planes of the components.
bool decode_planes(stbi__jpeg& jpeg) {
  jpeg.restart_interval = 0;
  if (!stbi__decode_jpeg_header(&jpeg, STBI__SCAN_load)) return false;
  for (uint8_t marker = next_marker(jpeg); marker != 0xD9; marker = next_marker(jpeg)) {
    if (marker == 0xDA) {
      if (!stbi__process_scan_header(&jpeg) || !stbi__parse_entropy_coded_data(&jpeg)) return false;
    } else if (marker == 0) {
      return stbi__err("blocks are missing", "blocks are missing");
    } else if (!stbi__process_marker(&jpeg, marker)) {
      return false;
    }
  }
  if (jpeg.progressive) stbi__jpeg_finish(&jpeg);
  return true;
}

// What the values are, by the rules of the Independent JPEG Group's library. A JFIF marker means YCbCr, then
// Adobe's marker decides, then the components' names.
bool is_rgb(const stbi__jpeg& jpeg) {
  if (jpeg.jfif) return false;
  return jpeg.app14_color_transform < 0 ? jpeg.rgb == 3 : jpeg.app14_color_transform == 0;
}
bool is_ycck(const stbi__jpeg& jpeg) { return jpeg.app14_color_transform > 0; }

}  // namespace

Image decode_jpeg(Bytes bytes, const std::string& name) {
  check_jpeg_segments(bytes, name);
  const auto reject_undecodable = [&] {
    const char* reason = stbi_failure_reason();
    reject(name, "JPEG cannot be decoded: {}", reason && *reason ? reason : "no reason given");
  };
  int width = 0, height = 0, components = 0;
  if (!stbi_info_from_memory(bytes.data(), int(bytes.size()), &width, &height, &components))
    reject_undecodable();
  check_density(name, "JPEG", width, height, bytes.size(), kMostJpegPixelsPerByte);
  const auto decoder = std::make_unique<Decoder>(bytes);
  stbi__jpeg& jpeg = decoder->jpeg;
  if (!decode_planes(jpeg)) reject_undecodable();
  components = decoder->context.img_n;
  if (int64_t(decoder->context.img_x) != width || int64_t(decoder->context.img_y) != height)
    reject(name, "JPEG with two different frame headers");
  for (int c = 0; c < components; ++c)
    if (jpeg.img_h_max % jpeg.img_comp[c].h != 0 || jpeg.img_v_max % jpeg.img_comp[c].v != 0)
      reject(name, "JPEG with a sampling of {}x{} below {}x{} is not supported", jpeg.img_comp[c].h,
             jpeg.img_comp[c].v, jpeg.img_h_max, jpeg.img_v_max);

  Image image{height, width, std::vector<uint8_t>(size_t(width) * size_t(height) * 3)};
  std::vector<Upsampler> upsamplers;
  for (int c = 0; c < components; ++c) upsamplers.emplace_back(jpeg, c);
  std::vector<uint8_t> row(components == 4 ? size_t(width) * 4 : 0);
  uint8_t* out = image.pixels.data();
  for (int y = 0; y < height; ++y, out += size_t(width) * 3) {
    const uint8_t* planes[4] = {};
    for (int c = 0; c < components; ++c) planes[c] = upsamplers[size_t(c)].row(y);
    if (components == 1)
      interleave({planes[0], planes[0], planes[0]}, width, out);
    else if (components == 3 && is_rgb(jpeg))
      interleave({planes[0], planes[1], planes[2]}, width, out);
    else if (components == 3 || is_ycck(jpeg))
      to_rgb(planes[0], planes[1], planes[2], width, out);
    if (components == 4) {
      if (is_ycck(jpeg))
        complement_to_cmyk(out, planes[3], width, row.data());
      else
        interleave({planes[0], planes[1], planes[2], planes[3]}, width, row.data());
      cmyk_to_rgb(row.data(), width, out);
    }
  }
  return image;
}

}  // namespace plume::data
