// The library reports errors by a call that must not return, and in C: it jumps back over its own frames and
// over functions here that own nothing.
#include <cstdio>  // which jpeglib.h needs

#include "data/images/decoding.h"
#include "data/images/jpeg.h"

#if defined(PLUME_HAVE_LIBJPEG)
#include <jerror.h>
#include <jpeglib.h>

#include <algorithm>
#include <csetjmp>
#include <memory>
#endif

namespace plume::data {

#if defined(PLUME_HAVE_LIBJPEG)
namespace {

#define PLUME_TEXT(x) #x
#define PLUME_TEXT_OF(x) PLUME_TEXT(x)

struct Session {
  jpeg_decompress_struct info;
  jpeg_error_mgr errors;
  jpeg_source_mgr source;
  jpeg_progress_mgr progress;
  std::jmp_buf failed;
  char reason[JMSG_LENGTH_MAX];
  bool out_of_memory, ends_early;
};

Session& session_of(j_common_ptr info) { return *static_cast<Session*>(info->client_data); }

[[noreturn]] void stop(j_common_ptr info) {
  Session& session = session_of(info);
  session.out_of_memory = info->err->msg_code == JERR_OUT_OF_MEMORY;
  session.ends_early = false;
  (*info->err->format_message)(info, session.reason);
  std::longjmp(session.failed, 1);
}
// Warnings are about damaged data, which Pillow shows as far as it goes.
void say_nothing(j_common_ptr) {}

// A file that asks for more than it has is waited for, in vain: so its end is noticed.
boolean no_more(j_decompress_ptr) { return FALSE; }
void nothing_to_do(j_decompress_ptr) {}
void skip(j_decompress_ptr info, long count) {
  const size_t skipped = std::min(size_t(std::max(count, 0L)), info->src->bytes_in_buffer);
  info->src->next_input_byte += skipped;
  info->src->bytes_in_buffer -= skipped;
}

void count_scans(j_common_ptr info) {
  if (reinterpret_cast<j_decompress_ptr>(info)->input_scan_number <= kMostJpegScans) return;
  Session& session = session_of(info);
  session.ends_early = false;
  std::snprintf(session.reason, sizeof session.reason, "it has more than %d scans", kMostJpegScans);
  std::longjmp(session.failed, 1);
}

// Both return false with a reason, or having met the end of the file.
bool read_header(Session& session, const uint8_t* bytes, size_t size) {
  jpeg_decompress_struct& info = session.info;
  info.err = jpeg_std_error(&session.errors);
  info.client_data = &session;
  session.errors.error_exit = stop;
  session.errors.output_message = say_nothing;
  if (setjmp(session.failed)) return false;
  jpeg_create_decompress(&info);
  session.source = {bytes, size, nothing_to_do, no_more, skip, jpeg_resync_to_restart, nothing_to_do};
  info.src = &session.source;
  session.progress.progress_monitor = count_scans;
  info.progress = &session.progress;
  int found = JPEG_HEADER_TABLES_ONLY;
  while (found == JPEG_HEADER_TABLES_ONLY) found = jpeg_read_header(&info, FALSE);
  session.ends_early = found != JPEG_HEADER_OK;
  return !session.ends_early;
}

// `row`: of CMYK, else null.
bool read_rows(Session& session, uint8_t* out, uint8_t* row) {
  jpeg_decompress_struct& info = session.info;
  if (setjmp(session.failed)) return false;
  session.ends_early = true;
  if (!jpeg_start_decompress(&info)) return false;
  while (info.output_scanline < info.output_height) {
    uint8_t* const to = out + size_t(info.output_scanline) * info.output_width * 3;
    JSAMPROW decoded = row ? row : to;
    if (jpeg_read_scanlines(&info, &decoded, 1) != 1) return false;
    if (row) cmyk_to_rgb(row, int(info.output_width), to);
  }
  session.ends_early = false;
  jpeg_finish_decompress(&info);  // which may wait for an end marker: the image is complete
  return true;
}

struct Close {
  void operator()(Session* session) const {
    jpeg_destroy_decompress(&session->info);
    delete session;
  }
};

}  // namespace

const char* libjpeg_version() { return PLUME_TEXT_OF(LIBJPEG_TURBO_VERSION); }

Image decode_jpeg_turbo(std::span<const uint8_t> bytes, const std::string& name, int64_t least_side) {
  const std::unique_ptr<Session, Close> session(new Session{});
  jpeg_decompress_struct& info = session->info;
  const auto give_up = [&] {
    if (session->out_of_memory)
      fail(ErrorKind::resource, "{}: no memory for a JPEG of {}x{} pixels", name, info.image_width,
           info.image_height);
    if (session->ends_early) reject(name, "JPEG ends at byte {}, before its image is complete", bytes.size());
    reject(name, "JPEG cannot be decoded: {}", session->reason);
  };
  const bool header = read_header(*session, bytes.data(), bytes.size());
  // The library has a limit of its own for sides, and does not say which size is beyond it.
  if (header || (!session->ends_early && info.image_width > 0 && info.image_height > 0))
    check_density(name, "JPEG", info.image_width, info.image_height, bytes.size(), kMostJpegPixelsPerByte);
  if (!header) give_up();
  if (info.num_components != 1 && info.num_components != 3 && info.num_components != 4)
    reject(name, "JPEG with {} components is not supported, expected 1, 3 or 4", info.num_components);

  const bool cmyk = info.num_components == 4;
  info.out_color_space = cmyk ? JCS_CMYK : JCS_RGB;
  const int64_t side = std::min(info.image_width, info.image_height);
  info.scale_num = info.scale_denom = 1;
  for (const unsigned scale : {8u, 4u, 2u})
    if (least_side > 0 && info.scale_denom == 1 && side / scale >= least_side) info.scale_denom = scale;
  const unsigned scale = info.scale_denom;
  const int width = int((info.image_width + scale - 1) / scale);
  const int height = int((info.image_height + scale - 1) / scale);
  Image image{height, width, std::vector<uint8_t>(size_t(width) * size_t(height) * 3)};
  std::vector<uint8_t> row(cmyk ? size_t(width) * 4 : 0);
  if (!read_rows(*session, image.pixels.data(), cmyk ? row.data() : nullptr)) give_up();
  return image;
}

#else

const char* libjpeg_version() { return nullptr; }
Image decode_jpeg_turbo(std::span<const uint8_t>, const std::string&, int64_t) {
  fail(ErrorKind::internal, "decode_jpeg_turbo: built without libjpeg-turbo");
}

#endif

}  // namespace plume::data
