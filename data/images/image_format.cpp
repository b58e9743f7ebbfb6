#include "data/images/image_format.h"

#include <algorithm>
#include <array>
#include <string_view>

#include "data/images/image.h"
#include "engine/files/read_file.h"

namespace plume::data {
namespace {

using namespace std::string_view_literals;

constexpr std::array kReadable{".jpg"sv, ".jpeg"sv, ".jpe"sv, ".jfif"sv, ".png"sv,
                               ".bmp"sv, ".ppm"sv,  ".pgm"sv, ".pbm"sv,  ".pnm"sv};
constexpr std::array kOther{".webp"sv, ".tif"sv, ".tiff"sv, ".gif"sv, ".heic"sv, ".heif"sv, ".avif"sv,
                            ".jxl"sv,  ".jp2"sv, ".j2k"sv,  ".jpx"sv, ".svg"sv,  ".ico"sv,  ".psd"sv,
                            ".tga"sv,  ".dds"sv, ".exr"sv,  ".hdr"sv, ".qoi"sv,  ".pcx"sv,  ".icns"sv,
                            ".pam"sv,  ".pfm"sv, ".dng"sv,  ".cr2"sv, ".cr3"sv,  ".nef"sv,  ".arw"sv,
                            ".raf"sv,  ".orf"sv, ".rw2"sv};

std::string_view text(std::span<const uint8_t> bytes, size_t most) {
  return {reinterpret_cast<const char*>(bytes.data()), std::min(bytes.size(), most)};
}

bool is_space(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

struct Signature {
  size_t offset;
  std::string_view bytes;
  const char* name;
};

// Of ISO's media files the brand at byte 8 tells, so it stands behind "ftyp".
constexpr Signature kSignatures[] = {
    {0, "GIF8"sv, "a GIF image"},
    {8, "WEBP"sv, "a WebP image"},
    {0, "II*\0"sv, "a TIFF image"},
    {0, "MM\0*"sv, "a TIFF image"},
    {0, "II+\0"sv, "a TIFF image"},
    {0, "MM\0+"sv, "a TIFF image"},
    {4, "ftypavif"sv, "an AVIF image"},
    {4, "ftypavis"sv, "an AVIF image"},
    {4, "ftyphei"sv, "a HEIC image"},
    {4, "ftyphev"sv, "a HEIC image"},
    {4, "ftypmif1"sv, "a HEIF image"},
    {4, "ftypmsf1"sv, "a HEIF image"},
    {4, "ftypcrx "sv, "a camera's raw image"},
    {0, "\xFF\x0A"sv, "a JPEG XL image"},
    {4, "JXL \r\n"sv, "a JPEG XL image"},
    {4, "jP  \r\n"sv, "a JPEG 2000 image"},
    {0, "\xFF\x4F\xFF\x51"sv, "a JPEG 2000 image"},
    {0, "\x8AMNG"sv, "an MNG animation"},
    {0, "8BPS"sv, "a Photoshop image"},
    {0, "qoif"sv, "a QOI image"},
    {0, "DDS "sv, "a DDS image"},
    {0, "v/1\x01"sv, "an OpenEXR image"},
    {0, "#?R"sv, "a Radiance image"},
    {0, "icns"sv, "an Apple icon"},
    {0, "\0\0\1\0"sv, "a Windows icon"},
    {0, "P7\n"sv, "a PAM image"},
    {0, "PF\n"sv, "a PFM image"},
    {0, "Pf\n"sv, "a PFM image"},
    {0, "FUJIFILM"sv, "a camera's raw image"},
    {0, "%PDF"sv, "a PDF document"},
};

}  // namespace

ImageFormat image_format(std::span<const uint8_t> bytes) {
  const std::string_view head = text(bytes, 8);
  if (head.starts_with("\xFF\xD8\xFF")) return ImageFormat::jpeg;
  if (head == "\x89PNG\r\n\x1a\n") return ImageFormat::png;
  if (head.starts_with("BM")) return ImageFormat::bmp;
  if (head.size() >= 3 && head[0] == 'P' && head[1] >= '1' && head[1] <= '6' && is_space(head[2]))
    return ImageFormat::pnm;
  return ImageFormat::unreadable;
}

const char* unreadable_content(std::span<const uint8_t> bytes) {
  if (bytes.empty()) return "nothing";
  const std::string_view head = text(bytes, 512);
  for (const Signature& one : kSignatures)
    if (head.size() >= one.offset && head.substr(one.offset).starts_with(one.bytes)) return one.name;
  if (head.find("<svg") != std::string_view::npos) return "an SVG drawing";
  return familiar_content(bytes);
}

std::span<const std::string_view> readable_extensions() { return kReadable; }
std::span<const std::string_view> other_image_extensions() { return kOther; }

}  // namespace plume::data
