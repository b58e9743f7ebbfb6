# The report's page, the studies' recipes and the descriptions of GPUs become strings of tool_support, so
# that a program needs no files beside it.
file(GLOB study_recipes CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/tools/recipes/study-*.json)
set(PLUME_EMBEDDED_SOURCE ${CMAKE_BINARY_DIR}/embedded/report_page.cpp)

# Sets `out` to the file as a raw string.
function(plume_raw_string out path)
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${path})
  file(READ ${path} text)
  set(${out} "R\"plume(${text})plume\"" PARENT_SCOPE)
endfunction()

plume_raw_string(page ${CMAKE_SOURCE_DIR}/tools/report/report.html)
plume_raw_string(style ${CMAKE_SOURCE_DIR}/tools/report/report.css)
plume_raw_string(script ${CMAKE_SOURCE_DIR}/tools/report/report.js)
set(recipes "")
set(names "")
foreach(path ${study_recipes})
  get_filename_component(name ${path} NAME_WE)
  string(REPLACE "study-" "" name ${name})
  plume_raw_string(text ${path})
  string(APPEND recipes "  if (name == \"${name}\") return ${text};\n")
  list(APPEND names ${name})
endforeach()
list(JOIN names ", " names)
file(GLOB gpus CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/tools/profiling/gpus/*.json)
set(gpu_texts "")
set(gpu_names "")
foreach(path ${gpus})
  get_filename_component(name ${path} NAME_WE)
  plume_raw_string(text ${path})
  string(APPEND gpu_texts "  if (name == \"${name}\") return ${text};\n")
  list(APPEND gpu_names ${name})
endforeach()
list(JOIN gpu_names ", " gpu_names)
set(content "#include \"tools/profiling/gpus.h\"
#include \"tools/study/embedded.h\"

namespace plume::tools {

const std::string_view kReportPage = ${page}, kReportStyle = ${style}, kReportScript = ${script};

std::string_view study_recipe(std::string_view name) {
${recipes}  return {};
}
std::string_view study_recipe_names() { return \"${names}\"; }
std::string_view gpu_file(std::string_view name) {
${gpu_texts}  return {};
}
std::string_view gpu_names() { return \"${gpu_names}\"; }

}  // namespace plume::tools
")
set(before "")
if(EXISTS ${PLUME_EMBEDDED_SOURCE})
  file(READ ${PLUME_EMBEDDED_SOURCE} before)
endif()
if(NOT content STREQUAL before)
  file(WRITE ${PLUME_EMBEDDED_SOURCE} "${content}")
endif()
