#include "data/sets/image_set.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <filesystem>
#include <optional>
#include <utility>

#include "data/images/image.h"
#include "data/images/resize.h"
#include "data/sets/packed_file.h"
#include "data/sets/parallel.h"
#include "engine/core/error.h"
#include "engine/core/text.h"

namespace plume::data {
namespace {

namespace fs = std::filesystem;

// One file's image, or why there is none.
struct Decoded {
  Image image;
  uint64_t hash = 0;
  std::string reason;
  std::exception_ptr error;  // any but a bad image
};

Image load(const ImageSource& source, const std::string& path, const ImageSetParams& params) {
  Image image = load_image(path);
  const DatasetInfo& info = source.info;
  if (info.height > 0 && (image.height != info.height || image.width != info.width))
    fail(ErrorKind::bad_input, "{}: has {}x{} pixels, expected {}x{}", path, image.height, image.width,
         info.height, info.width);
  if (std::max(image.height, image.width) > kMostResizeSide)
    fail(ErrorKind::bad_input, "{}: has {}x{} pixels, expected sides of at most {}", path, image.height,
         image.width, kMostResizeSide);
  const int64_t side = params.shorter_side;
  if (side == 0) return image;
  if (params.squash) return resize(image, {side, side}, params.interpolation);
  if (std::min(image.height, image.width) <= side) return image;
  return resize(image, resized_to_shorter_side({image.height, image.width}, side), params.interpolation);
}

Decoded decode(const ImageSource& source, const ImageFile& file, const ImageSetParams& params) {
  Decoded decoded;
  const std::string path = source.path(file);
  try {
    decoded.image = load(source, path, params);
    decoded.hash = hash_bytes(decoded.image.pixels);
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::bad_input) decoded.error = std::current_exception();
    decoded.reason = error.what();
    if (decoded.reason.starts_with(path + ": ")) decoded.reason.erase(0, path.size() + 2);
  } catch (...) {
    decoded.error = std::current_exception();
  }
  return decoded;
}

// The error of the image that is one too many.
void check_skipped(const ImageSource& source, const std::vector<SkippedImage>& skipped, int64_t skip_bad) {
  if (int64_t(skipped.size()) <= skip_bad) return;
  const SkippedImage& image = skipped[size_t(skip_bad)];
  const std::string path = printable(image.path);
  if (skip_bad == 0) fail(ErrorKind::bad_input, "{}: {}", path, image.reason);
  fail(ErrorKind::bad_input, "{}: {}; {} other images of {} were left out already", path, image.reason,
       skip_bad, source.info.name);
}

PackedIndex pack(const ImageSource& source, const ImageSetParams& params,
                 const std::function<void(std::span<const uint8_t>)>& append) {
  constexpr int64_t kMostWaiting = 256 << 20;  // bytes that are decoded but not written
  PackedIndex index;
  index.class_names = source.info.class_names;
  int64_t offset = 0;
  make_in_order(
      int64_t(source.files.size()), params.threads, kMostWaiting,
      [&](int64_t i) { return decode(source, source.files[size_t(i)], params); },
      [&](int64_t i, const Decoded& decoded) {
        const ImageFile& file = source.files[size_t(i)];
        if (decoded.error) std::rethrow_exception(decoded.error);
        if (!decoded.reason.empty()) {
          index.skipped.push_back({source.path(file), decoded.reason});
          check_skipped(source, index.skipped, params.skip_bad);
          return;
        }
        const Image& image = decoded.image;
        append(image.pixels);
        index.images.push_back({offset, image.height, image.width, file.label, 0, decoded.hash});
        offset += int64_t(image.pixels.size());
      },
      [](const Decoded& decoded) { return int64_t(decoded.image.pixels.size()); });
  if (index.images.empty())
    fail(ErrorKind::bad_input, "{}: no image of {} can be read", printable(source.root), source.info.name);
  return index;
}

// Keeps other processes from packing the same file; held until destroyed.
class PackingLock {
 public:
  explicit PackingLock(const std::string& packed) {
    std::error_code error;
    fs::create_directories(fs::path(packed).parent_path(), error);
    if (error) {
      failure_ = error.message();
      return;
    }
    file_ = ::open((packed + ".lock").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    if (file_ < 0) {
      failure_ = std::strerror(errno);
      return;
    }
    // File systems without locks must do without.
    while (::flock(file_, LOCK_EX) != 0 && errno == EINTR) {
    }
  }
  ~PackingLock() {
    if (file_ >= 0) ::close(file_);
  }
  PackingLock(const PackingLock&) = delete;
  PackingLock& operator=(const PackingLock&) = delete;
  // Why there is none; empty when it is held.
  const std::string& failure() const { return failure_; }

 private:
  int file_ = -1;
  std::string failure_;
};

void check_params(const ImageSource& source, const ImageSetParams& params) {
  PLUME_CHECK(params.skip_bad >= 0, "skip_bad {}, expected at least 0", params.skip_bad);
  PLUME_CHECK(params.shorter_side >= 0 && params.shorter_side <= kMostResizeSide,
              "shorter_side {}, expected 0 to {}", params.shorter_side, kMostResizeSide);
  if (params.cache_dir.empty()) return;
  std::error_code ignored;
  const fs::path cache = fs::weakly_canonical(params.cache_dir, ignored);
  const fs::path below = cache.lexically_relative(fs::weakly_canonical(source.root, ignored));
  PLUME_CHECK(below.empty() || *below.begin() == "..", "cache_dir {}: lies inside the data's own folder {}",
              params.cache_dir, source.root);
}

// What is done to the images, as a number: the plain shorter side where nothing else is asked for.
uint64_t reduction_of(const ImageSetParams& params) {
  return uint64_t(params.shorter_side) | uint64_t(params.squash) << 32 | uint64_t(params.interpolation) << 33;
}

std::string cache_folder(const ImageSetParams& params) {
  if (!params.cache_dir.empty()) return params.cache_dir;
  const auto variable = [](const char* name) {
    const char* value = std::getenv(name);
    return std::string(value && value[0] == '/' ? value : "");
  };
  if (const std::string cache = variable("XDG_CACHE_HOME"); !cache.empty()) return cache + "/plume";
  const std::string home = variable("HOME");
  return home.empty() ? "" : home + "/.cache/plume";
}

class Packing {
 public:
  Packing(const ImageSource& source, const ImageSetParams& params)
      : source_(source), params_(params), path_(packed_path(source, params)) {
    const uint64_t parts[] = {source_fingerprint(source), reduction_of(params)};
    fingerprint_ = hash_bytes({reinterpret_cast<const uint8_t*>(parts), sizeof parts});
  }

  std::shared_ptr<const Dataset> open() {
    if (path_.empty()) return in_memory("there is no folder for packed images");
    if (auto set = mapped()) return set;
    const PackingLock lock(path_);
    if (!lock.failure().empty())
      return in_memory(message("{}: cannot be written: {}", path_, lock.failure()));
    if (auto set = mapped()) return set;  // another process was faster
    return written();
  }

 private:
  // From the packed file; null when it is of no use.
  std::shared_ptr<const Dataset> mapped() {
    std::error_code ignored;
    useless_.clear();
    if (!fs::exists(path_, ignored)) return nullptr;
    std::optional<PackedFile> file;
    try {
      file = open_packed_file(path_, fingerprint_, params_.threads);
    } catch (const Error& error) {
      if (error.kind() != ErrorKind::bad_input) throw;
      useless_ = error.what();
      return nullptr;
    }
    check_skipped(source_, file->index.skipped, params_.skip_bad);
    return made(file->index, file->pixels, file->owner);
  }

  std::shared_ptr<const Dataset> written() {
    const auto begin = std::chrono::steady_clock::now();
    const auto image = uint64_t(source_.info.height) * uint64_t(source_.info.width) * kChannels;
    PackedFileWriter writer(path_, image * source_.files.size());
    const PackedIndex index =
        pack(source_, params_, [&](std::span<const uint8_t> pixels) { writer.append(pixels); });
    writer.commit(index, fingerprint_);
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    log(message("{}{} images of {} {} are packed into {} ({} s)", useless_.empty() ? "" : useless_ + "; ",
                index.images.size(), source_.info.name, name(source_.info.split), path_,
                std::int64_t(seconds + 0.5)));
    const PackedFile file = open_packed_file(path_, fingerprint_, params_.threads);
    return made(file.index, file.pixels, file.owner);
  }

  std::shared_ptr<const Dataset> in_memory(const std::string& why) {
    const auto pixels = std::make_shared<std::vector<uint8_t>>();
    const PackedIndex index = pack(source_, params_, [&](std::span<const uint8_t> more) {
      pixels->insert(pixels->end(), more.begin(), more.end());
    });
    log(message("{}; {} images of {} {} are kept in memory", why, index.images.size(), source_.info.name,
                name(source_.info.split)));
    return made(index, *pixels, pixels);
  }

  std::shared_ptr<const Dataset> made(const PackedIndex& index, std::span<const uint8_t> pixels,
                                      std::shared_ptr<const void> owner) {
    for (const std::string& note : source_.notes) log(note);
    if (!source_.info.left_out.empty())
      log(message("{}: left out: {}", printable(source_.info.folder), to_line(source_.info.left_out)));
    for (const SkippedImage& image : index.skipped)
      log(message("skipped: {}: {}", printable(image.path), image.reason));
    if (!index.skipped.empty())
      log(message("{} of {} images of {} {} were left out", index.skipped.size(), source_.files.size(),
                  source_.info.name, name(source_.info.split)));
    return std::make_shared<const Dataset>(source_.info, to_content(index, pixels, std::move(owner)));
  }

  void log(const std::string& line) const {
    if (params_.log)
      params_.log(line);
    else
      std::fprintf(stderr, "%s\n", line.c_str());
  }

  const ImageSource& source_;
  const ImageSetParams& params_;
  const std::string path_;
  uint64_t fingerprint_ = 0;
  std::string useless_;  // why the packed file that is there is of no use
};

}  // namespace

std::string packed_path(const ImageSource& source, const ImageSetParams& params) {
  const std::string folder = cache_folder(params);
  if (folder.empty()) return "";
  std::error_code ignored;
  const std::string root = fs::weakly_canonical(source.root, ignored).string();
  const uint64_t place =
      hash_bytes({reinterpret_cast<const uint8_t*>(root.data()), root.size()}, reduction_of(params));
  return message("{}/{}-{}-{}.packed", folder, source.info.name, name(source.info.split), hexadecimal(place));
}

std::shared_ptr<const Dataset> open_image_set(const ImageSource& source, const ImageSetParams& params) {
  check_params(source, params);
  return Packing(source, params).open();
}

}  // namespace plume::data
