// What each opcode does to the stack.
#include <charconv>

#include "engine/core/error.h"
#include "engine/serialization/pickle.h"

namespace plume {
namespace {

// Those that are known and not taken, so that an error can name them.
const char* opcode_name(uint8_t opcode) {
  constexpr std::pair<uint8_t, const char*> kNames[] = {
      {'F', "FLOAT, of protocol 0"},
      {'L', "LONG, of protocol 0"},
      {'S', "STRING, of protocol 0"},
      {'V', "UNICODE, of protocol 0"},
      {'i', "INST, of protocol 0"},
      {'o', "OBJ, of protocol 1"},
      {'P', "PERSID, a persistent id as text"},
      {0x82, "EXT1, an extension code"},
      {0x83, "EXT2, an extension code"},
      {0x84, "EXT4, an extension code"},
      {0x97, "NEXT_BUFFER, data outside the pickle"},
      {0x98, "READONLY_BUFFER, data outside the pickle"},
  };
  for (const auto& [code, name] : kNames)
    if (code == opcode) return name;
  return "of no protocol";
}

}  // namespace

void Pickle::step(uint8_t opcode) {
  switch (opcode) {
    case 'c':  // GLOBAL
      return read_global();
    case 0x93:
      return stack_global();
    case 'R':
      return reduce();
    case 0x81:  // NEWOBJ
    case 0x92:  // NEWOBJ_EX
      return new_object(opcode == 0x92);
    case 'b':
      return build();
    case 'Q':
      return persistent_id();
    default:
      if (!step_value(opcode) && !step_container(opcode) && !step_stack(opcode))
        refuse("UnsupportedOpcode", message("opcode {} ({})", int(opcode), opcode_name(opcode)));
  }
}

bool Pickle::step_value(uint8_t opcode) {
  switch (opcode) {
    case 'N':
      push({});
      return true;
    case 0x88:  // NEWTRUE
    case 0x89:  // NEWFALSE
      push({.kind = Kind::boolean, .integer = opcode == 0x88});
      return true;
    case 'J':  // BININT
      push({.kind = Kind::integer, .integer = int32_t(uint32_t(take_number(4)))});
      return true;
    case 'K':  // BININT1
    case 'M':  // BININT2
      push({.kind = Kind::integer, .integer = int64_t(take_number(opcode == 'K' ? 1 : 2))});
      return true;
    case 'I':  // INT: Python 2 writes what has more than 32 bits so
      text_number();
      return true;
    case 'G':  // BINFLOAT
      take(8);
      push({.kind = Kind::real});
      return true;
    case 0x8A:    // LONG1, two's complement
    case 0x8B: {  // LONG4
      const std::string_view digits = take(take_number(opcode == 0x8A ? 1 : 4));
      if (digits.size() > 8) {
        push({.kind = Kind::big_integer, .text = digits});
        return true;
      }
      uint64_t value = !digits.empty() && int8_t(digits.back()) < 0 ? ~uint64_t{0} : 0;
      for (size_t i = digits.size(); i-- > 0;) value = value << 8 | uint8_t(digits[i]);
      push({.kind = Kind::integer, .integer = int64_t(value)});
      return true;
    }
    case 'X':   // BINUNICODE
    case 0x8C:  // SHORT_BINUNICODE
    case 0x8D:  // BINUNICODE8
      push({.kind = Kind::string,
            .text = take_utf8(take_number(opcode == 'X'    ? 4
                                          : opcode == 0x8C ? 1
                                                           : 8))});
      return true;
    case 'U':  // SHORT_BINSTRING
    case 'T':  // BINSTRING
      push(take_text_or_bytes(take_number(opcode == 'U' ? 1 : 4)));
      return true;
    case 'C':   // SHORT_BINBYTES
    case 'B':   // BINBYTES
    case 0x8E:  // BINBYTES8
    case 0x96:  // BYTEARRAY8
      push({.kind = Kind::bytes, .text = take(take_number(opcode == 'C' ? 1 : opcode == 'B' ? 4 : 8))});
      return true;
    default:
      return false;
  }
}

void Pickle::text_number() {
  const std::string_view line = take_line();
  if (line == "00" || line == "01") return push({.kind = Kind::boolean, .integer = line == "01"});
  int64_t value = 0;
  const auto [end, error] = std::from_chars(line.data(), line.data() + line.size(), value);
  if (error != std::errc() || end != line.data() + line.size())
    refuse("PickleCorrupt", "INT without a number of 64 bits");
  push({.kind = Kind::integer, .integer = value});
}

bool Pickle::step_container(uint8_t opcode) {
  switch (opcode) {
    case 't':  // TUPLE
      push_items(Kind::tuple, stack_.size() - pop_mark());
      return true;
    case 0x85:  // TUPLE1, 2, 3
    case 0x86:
    case 0x87:
      push_items(Kind::tuple, size_t(opcode) - 0x84);
      return true;
    case 'l':  // LIST
      push_items(Kind::list, stack_.size() - pop_mark());
      return true;
    case 0x91:  // FROZENSET
      push_items(Kind::set, stack_.size() - pop_mark());
      return true;
    case 'd': {  // DICT
      const size_t count = stack_.size() - pop_mark();
      if (count % 2 != 0) refuse("PickleCorrupt", "DICT with a key without a value");
      push_items(Kind::dict, count);
      return true;
    }
    case ')':
      push({.kind = Kind::tuple});
      return true;
    case ']':
      push({.kind = Kind::list});
      return true;
    case '}':
      push({.kind = Kind::dict});
      return true;
    case 0x8F:  // EMPTY_SET
      push({.kind = Kind::set});
      return true;
    case 'a':  // APPEND
      add_items(Kind::list, {pop()}, "APPEND");
      return true;
    case 'e':  // APPENDS
      add_items(Kind::list, pop_items(), "APPENDS");
      return true;
    case 0x90:  // ADDITEMS
      add_items(Kind::set, pop_items(), "ADDITEMS");
      return true;
    case 's': {  // SETITEM
      const PickleRef value = pop(), key = pop(), dict = peek();
      stack_.insert(stack_.end(), {key, value});
      set_items(dict, stack_.size() - 2);
      return true;
    }
    case 'u': {  // SETITEMS
      const size_t first = pop_mark();
      if ((stack_.size() - first) % 2 != 0) refuse("PickleCorrupt", "SETITEMS with a key without a value");
      if (first == 0 || (!marks_.empty() && marks_.back() == first))
        refuse("PickleCorrupt", "SETITEMS without a dict below: the stack is too short");
      set_items(stack_[first - 1], first);
      return true;
    }
    default:
      return false;
  }
}

bool Pickle::step_stack(uint8_t opcode) {
  const auto place_as_text = [&] {
    const std::string_view line = take_line();
    uint64_t place = 0;
    const auto [end, error] = std::from_chars(line.data(), line.data() + line.size(), place);
    if (error != std::errc() || end != line.data() + line.size())
      refuse("PickleCorrupt", "a memo place that is no number");
    return place;
  };
  switch (opcode) {
    case '(':
      push_mark();
      return true;
    case '0':  // POP: a mark, if that is what lies on top
      if (!marks_.empty() && marks_.back() == stack_.size())
        marks_.pop_back();
      else
        pop();
      return true;
    case '1':  // POP_MARK
      pop_items();
      return true;
    case '2':  // DUP
      push_ref(peek());
      return true;
    case 'h':  // BINGET
    case 'j':  // LONG_BINGET
      recall(take_number(opcode == 'h' ? 1 : 4));
      return true;
    case 'g':  // GET
      recall(place_as_text());
      return true;
    case 'q':  // BINPUT
    case 'r':  // LONG_BINPUT
      remember(take_number(opcode == 'q' ? 1 : 4));
      return true;
    case 'p':  // PUT
      remember(place_as_text());
      return true;
    case 0x94:  // MEMOIZE
      remember(memo_.size());
      return true;
    case 0x95: {  // FRAME: so many bytes may be read at once
      const uint64_t bytes = take_number(8);
      if (bytes > bytes_.size() - at_)
        refuse("Limit", message("a frame of {} bytes, {} are left", bytes, bytes_.size() - at_));
      return true;
    }
    default:
      return false;
  }
}

// What an object of a class of its own holds as a list is no concern of ours.
void Pickle::add_items(Kind kind, const std::vector<PickleRef>& added, const char* opcode) {
  const PickleRef to = peek();
  if (values_[to].kind == Kind::opaque) return;
  expect(to, kind, opcode);
  values_[to].items.insert(values_[to].items.end(), added.begin(), added.end());
}

// The stack from `first` on: keys and values.
void Pickle::set_items(PickleRef dict, size_t first) {
  if (values_[dict].kind != Kind::opaque) expect(dict, Kind::dict, "SETITEM");
  std::vector<PickleRef>& items = values_[dict].items;
  items.insert(items.end(), stack_.begin() + ptrdiff_t(first), stack_.end());
  stack_.resize(first);
}

}  // namespace plume
