// Settings (fields.h) to JSON and back.
#pragma once
#include <algorithm>
#include <cmath>

#include "engine/core/error.h"
#include "engine/serialization/safetensors.h"
#include "tools/cli/fields.h"
#include "tools/cli/json.h"

namespace plume::tools {

template <class S>
Json to_json(const Fields<S>& fields, const S& values) {
  Json json = Json::object();
  for (const Field<S>& field : fields)
    std::visit([&](const auto& kind) { json[field.key] = values.*kind.member; }, field.kind);
  return json;
}

// Sets the field to a value of the right type and range. Throws bad_input, naming `source` and the key.
template <class S>
void set_field(const Field<S>& field, const Json& value, S& values, const std::string& source) {
  const auto refuse = [&](const std::string& expected) {
    fail(ErrorKind::bad_input, "{}: '{}' is {}, expected {}", source, field.key, brief_text(value), expected);
  };
  std::visit(
      [&](const auto& kind) {
        using Kind = std::decay_t<decltype(kind)>;
        auto& member = values.*kind.member;
        if constexpr (std::is_same_v<Kind, TextField<S>>) {
          std::string names;
          for (const std::string& c : kind.choices) names += (names.empty() ? "" : ", ") + c;
          if (kind.or_number && value.is_number()) {
            member = to_text(value);
            return;
          }
          if (!value.is_string()) refuse(names.empty() ? "a text" : "one of " + names);
          const std::string text = value.template get<std::string>();
          if (!names.empty() &&
              std::find(kind.choices.begin(), kind.choices.end(), text) == kind.choices.end())
            refuse(message("one of {}; nearest: '{}'", names, nearest(text, kind.choices)));
          member = text;
        } else if constexpr (std::is_same_v<Kind, WholeField<S>>) {
          // 2^63 and more would wrap around.
          const bool fits =
              value.is_number_integer() &&
              (!value.is_number_unsigned() || value.template get<uint64_t>() <= uint64_t(INT64_MAX));
          const int64_t whole = fits ? value.template get<int64_t>() : 0;
          if (!fits || whole < kind.least || whole > kind.most)
            refuse(message("a whole number from {} to {}", kind.least, kind.most));
          member = whole;
        } else if constexpr (std::is_same_v<Kind, NumberField<S>>) {
          const double number = value.is_number() ? value.template get<double>() : NAN;
          if (!std::isfinite(number) || number < kind.least || number > kind.most)
            refuse(message("a number from {} to {}", kind.least, kind.most));
          member = number;
        } else {
          if (!value.is_boolean()) refuse("true or false");
          member = value.template get<bool>();
        }
      },
      field.kind);
}

// Every field of `json`, which must hold all that are not optional, and nothing else. Optional ones that are
// missing are as in `values`. Throws bad_input, naming `source`.
template <class S>
S from_complete_json(const Fields<S>& fields, const Json& json, const std::string& source, S values = {}) {
  if (!json.is_object()) fail(ErrorKind::bad_input, "{}: settings are missing", source);
  for (const Field<S>& field : fields) {
    if (!json.contains(field.key) && field.optional) continue;
    if (!json.contains(field.key)) fail(ErrorKind::bad_input, "{}: '{}' is missing", source, field.key);
    set_field(field, json[field.key], values, source);
  }
  for (const auto& [key, value] : json.items())
    if (find_field(fields, key) == nullptr)
      fail(ErrorKind::bad_input, "{}: there is no setting {}", source, in_quotes(key));
  return values;
}

}  // namespace plume::tools
