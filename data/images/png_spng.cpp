#include "data/images/decoding.h"
#include "data/images/png_reader.h"

#if defined(PLUME_HAVE_SPNG)
#include <spng.h>

#include <memory>
#endif

namespace plume::data {

#if defined(PLUME_HAVE_SPNG)

const char* spng_version() { return spng_version_string(); }

Image decode_png_spng(const PngFile& file, const std::string& name) {
  const std::unique_ptr<spng_ctx, decltype(&spng_ctx_free)> context(spng_ctx_new(0), spng_ctx_free);
  if (!context) fail(ErrorKind::resource, "{}: no memory for a PNG decoder", name);
  Image image{file.height, file.width, std::vector<uint8_t>(size_t(file.height) * size_t(file.width) * 3)};
  int error = spng_set_crc_action(context.get(), SPNG_CRC_USE, SPNG_CRC_USE);  // read_png() has checked
  if (!error) error = spng_set_png_buffer(context.get(), file.bytes.data(), file.bytes.size());
  if (!error)
    error = spng_decode_image(context.get(), image.pixels.data(), image.pixels.size(), SPNG_FMT_RGB8, 0);
  if (error == SPNG_EMEM)
    fail(ErrorKind::resource, "{}: no memory for a PNG of {}x{} pixels", name, file.width, file.height);
  if (error) reject(name, "PNG cannot be decoded: {}", spng_strerror(error));
  return image;
}

#else

const char* spng_version() { return nullptr; }
Image decode_png_spng(const PngFile&, const std::string&) {
  fail(ErrorKind::internal, "decode_png_spng: built without libspng");
}

#endif

}  // namespace plume::data
