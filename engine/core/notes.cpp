#include "engine/core/notes.h"

#include <algorithm>
#include <mutex>

namespace plume {
namespace {

struct Notes {
  std::mutex mutex;
  std::vector<std::string> lines;
};
Notes& all() {
  static auto* kept = new Notes;  // never destroyed: devices speak until the end
  return *kept;
}

}  // namespace

void note(const std::string& line) {
  const std::lock_guard lock(all().mutex);
  std::vector<std::string>& lines = all().lines;
  if (std::find(lines.begin(), lines.end(), line) == lines.end()) lines.push_back(line);
}

std::vector<std::string> notes() {
  const std::lock_guard lock(all().mutex);
  return all().lines;
}

}  // namespace plume
