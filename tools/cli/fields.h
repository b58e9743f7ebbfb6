// Settings described once, in a table: from it come the flags, the JSON keys, the ranges and the comparison
// (json_fields.h has the JSON).
//
// A field named "weight_decay" is the flag --weight-decay and the key "weight_decay".
#pragma once
#include <string>
#include <variant>
#include <vector>

#include "engine/core/text.h"
#include "tools/cli/flags.h"

namespace plume::tools {

template <class S>
struct TextField {
  std::string S::*member;
  std::vector<std::string> choices = {};  // any text when empty
  bool or_number = false;                 // JSON may have a number, which is taken as it is written
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
  bool optional = false;  // younger than the first format of files: those may lack it, and mean its default

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
const Field<S>* find_field(const Fields<S>& fields, const std::string& key) {
  for (const Field<S>& field : fields)
    if (key == field.key) return &field;
  return nullptr;
}

}  // namespace plume::tools
