// The files of tools/report, embedded by CMake.
#pragma once
#include <string_view>

namespace plume::tools {

extern const std::string_view kReportPage, kReportStyle, kReportScript;  // report.html, .css, .js

// A study's recipe of tools/recipes by its short name: "paper" for study-paper.json; empty when there is
// none.
std::string_view study_recipe(std::string_view name);
std::string_view study_recipe_names();  // "paper, quick"

}  // namespace plume::tools
