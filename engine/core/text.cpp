#include "engine/core/text.h"

#include <algorithm>
#include <numeric>

namespace plume {
namespace {

size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t{0});
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t substitute = diagonal + (a[i - 1] != b[j - 1]);
      diagonal = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, substitute});
    }
  }
  return row[b.size()];
}

}  // namespace

std::string nearest(std::string_view word, const std::vector<std::string>& candidates) {
  std::string best;
  size_t best_distance = SIZE_MAX;
  for (const std::string& c : candidates)
    if (const size_t d = edit_distance(word, c); d < best_distance) best = c, best_distance = d;
  return best;
}

std::string printable(std::string_view text) {
  constexpr const char* kDigits = "0123456789abcdef";
  std::string out;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '\n')
      out += "\\n";
    else if (c == '\t')
      out += "\\t";
    else if (byte < ' ' || byte == 0x7f)
      out += {'\\', 'x', kDigits[byte >> 4], kDigits[byte & 15]};
    else
      out += c;
  }
  return out;
}

std::string brief_list(const std::vector<std::string>& names, std::string_view quote, size_t count,
                       size_t most) {
  const size_t shown = std::min(names.size(), most), all = std::max(names.size(), count);
  std::string out;
  for (size_t i = 0; i < shown; ++i) {
    if (i > 0) out += ", ";
    out.append(quote).append(printable(names[i])).append(quote);
  }
  if (all > shown) out += " and " + std::to_string(all - shown) + " more";
  return out;
}

}  // namespace plume
