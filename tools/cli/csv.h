// CSV as RFC 4180 has it: what spreadsheets and Python's csv read.
#pragma once
#include <string>

namespace plume::tools {

// One field: in quotes, with quotes doubled, where it holds a comma, a quote or a line's end.
std::string csv_cell(const std::string& text);

}  // namespace plume::tools
