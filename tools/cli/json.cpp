#include "tools/cli/json.h"

#include "engine/core/error.h"

namespace plume::tools {
namespace {

struct TooDeep {};

Json parse(std::string_view text) {
  const auto shallow = [](int depth, Json::parse_event_t, Json&) {
    if (depth > kMostJsonDepth) throw TooDeep();
    return true;
  };
  return Json::parse(text.begin(), text.end(), shallow);
}

}  // namespace

Json parse_json(std::string_view text, const std::string& source) {
  try {
    return parse(text);
  } catch (const TooDeep&) {
    fail(ErrorKind::bad_input, "{}: is nested too deep: more than {} levels", source, kMostJsonDepth);
  } catch (const Json::exception& error) {
    // The library repeats the word that it was at, which may be all of the file.
    constexpr size_t kMost = 160;
    const std::string_view what = error.what();
    fail(ErrorKind::bad_input, "{}: no JSON in UTF-8: {}{}", source, what.substr(0, kMost),
         what.size() > kMost ? "..." : "");
  }
}

Json parse_json_or_null(std::string_view text) {
  try {
    return parse(text);
  } catch (const TooDeep&) {
  } catch (const Json::exception&) {
  }
  return nullptr;
}

std::string brief_text(const Json& json) {
  constexpr size_t kMost = 40;
  const std::string text = json.dump(-1, ' ', true, Json::error_handler_t::replace);
  return text.size() > kMost ? text.substr(0, kMost) + "..." : text;
}

std::string to_text(const Json& json, int indent) {
  return json.dump(indent, ' ', false, Json::error_handler_t::replace);
}

}  // namespace plume::tools
