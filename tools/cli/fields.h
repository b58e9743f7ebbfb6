// Settings described once, in a table: from it come the flags, the JSON keys, the ranges and the comparison.
//
// A field named "weight_decay" is the flag --weight-decay and the key "weight_decay".
#pragma once
#include <cmath>
#include <nlohmann/json.hpp>
#include <string>
#include <variant>
#include <vector>

#include "engine/core/text.h"
#include "engine/serialization/safetensors.h"
#include "tools/cli/main.h"

namespace plume::tools {

using Json = nlohmann::ordered_json;

template <class S>
struct TextField {
  std::string S::*member;
  std::vector<std::string> choices = {};  // any text when empty
};
template <class S>
struct WholeField {
  int64_t S::*member;
  int64_t least, most;
};
template <class S>
struct NumberField {
  double S::*member;
  double least, most;
};
template <class S>
struct SwitchField {
  bool S::*member;
};

template <class S>
struct Field {
  const char* key;
  std::variant<TextField<S>, WholeField<S>, NumberField<S>, SwitchField<S>> kind;
  const char* help;

  std::string flag() const {
    std::string text = std::string("--") + key;
    for (char& c : text)
      if (c == '_') c = '-';
    return text;
  }
};
template <class S>
using Fields = std::vector<Field<S>>;

template <class S>
void add_flags(Flags& flags, const Fields<S>& fields, S& values) {
  for (const Field<S>& field : fields) {
    const std::string flag = field.flag(), help = field.help;
    std::visit(
        [&](const auto& kind) {
          using Kind = std::decay_t<decltype(kind)>;
          auto& value = values.*kind.member;
          if constexpr (std::is_same_v<Kind, TextField<S>>)
            kind.choices.empty() ? flags.text(flag, value, help)
                                 : flags.choice(flag, value, kind.choices, help);
          else if constexpr (std::is_same_v<Kind, WholeField<S>>)
            flags.whole(flag, value, kind.least, kind.most, help);
          else if constexpr (std::is_same_v<Kind, NumberField<S>>)
            flags.number(flag, value, kind.least, kind.most, help);
          else
            flags.on(flag, value, help);
        },
        field.kind);
  }
}

// `base`, with those of `now` whose flags were given on top.
template <class S>
S overlay(const Fields<S>& fields, const S& base, const S& now, const Flags& flags) {
  S result = base;
  for (const Field<S>& field : fields)
    if (flags.given(field.flag()))
      std::visit([&](const auto& kind) { result.*kind.member = now.*kind.member; }, field.kind);
  return result;
}

// One "lr: 0.02 -> 0.5" per field that differs.
template <class S>
std::vector<std::string> differences(const Fields<S>& fields, const S& before, const S& after) {
  std::vector<std::string> lines;
  for (const Field<S>& field : fields)
    std::visit(
        [&](const auto& kind) {
          const auto &old = before.*kind.member, &now = after.*kind.member;
          if constexpr (std::is_same_v<std::decay_t<decltype(kind)>, TextField<S>>) {
            if (old != now) lines.push_back(message("{}: '{}' -> '{}'", field.key, old, now));
          } else if (old != now) {
            lines.push_back(message("{}: {} -> {}", field.key, old, now));
          }
        },
        field.kind);
  return lines;
}

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
    std::string found = value.dump(-1, ' ', true, Json::error_handler_t::replace);
    if (found.size() > 40) found = found.substr(0, 40) + "...";
    fail(ErrorKind::bad_input, "{}: '{}' is {}, expected {}", source, field.key, found, expected);
  };
  std::visit(
      [&](const auto& kind) {
        using Kind = std::decay_t<decltype(kind)>;
        auto& member = values.*kind.member;
        if constexpr (std::is_same_v<Kind, TextField<S>>) {
          std::string names;
          for (const std::string& c : kind.choices) names += (names.empty() ? "" : ", ") + c;
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

template <class S>
const Field<S>* find_field(const Fields<S>& fields, const std::string& key) {
  for (const Field<S>& field : fields)
    if (key == field.key) return &field;
  return nullptr;
}

// Every field of `json`, which must hold all of them and nothing else. Throws bad_input, naming `source`.
template <class S>
S from_complete_json(const Fields<S>& fields, const Json& json, const std::string& source) {
  S values;
  if (!json.is_object()) fail(ErrorKind::bad_input, "{}: settings are missing", source);
  for (const Field<S>& field : fields) {
    if (!json.contains(field.key)) fail(ErrorKind::bad_input, "{}: '{}' is missing", source, field.key);
    set_field(field, json[field.key], values, source);
  }
  for (const auto& [key, value] : json.items())
    if (find_field(fields, key) == nullptr)
      fail(ErrorKind::bad_input, "{}: there is no setting {}", source, in_quotes(key));
  return values;
}

}  // namespace plume::tools
