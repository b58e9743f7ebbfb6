#include "tools/cli/paths.h"

#include <filesystem>

namespace plume::tools {

std::string absolute_path(const std::string& path) {
  if (path.empty() || path.starts_with('/')) return path;
  std::error_code error;
  const std::filesystem::path here = std::filesystem::current_path(error);
  if (error) return path;
  std::string rest = path;
  while (rest.starts_with("./")) rest.erase(0, 2);
  return rest.empty() || rest == "." ? here.string() : (here / rest).string();
}

bool has_lost_bytes(const std::string& path) { return path.find("\xEF\xBF\xBD") != std::string::npos; }

}  // namespace plume::tools
