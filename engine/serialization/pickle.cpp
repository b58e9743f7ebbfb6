#include "engine/serialization/pickle.h"

#include <algorithm>

#include "engine/core/error.h"
#include "engine/serialization/safetensors.h"
#include "engine/serialization/safetensors_header.h"

namespace plume {
namespace {

// A state dictionary of 65,536 tensors has some 20 values for each; Python writes dictionaries in batches of
// 1,000 items, so that its stack stays low.
constexpr size_t kMaxValues = size_t{1} << 21;
constexpr size_t kMaxStack = 100'000;
constexpr size_t kMaxLine = 256;
constexpr size_t kMaxRank = 8;  // refused later; here it bounds the time that one tensor may take

constexpr const char* kOrderedDict = "collections OrderedDict";
constexpr const char* kRebuildTensor = "torch._utils _rebuild_tensor_v2";
constexpr const char* kRebuildParameter = "torch._utils _rebuild_parameter";
constexpr const char* kStorages[] = {"Float", "Double", "Half", "BFloat16", "Char",        "Byte",
                                     "Short", "Int",    "Long", "Bool",     "ComplexFloat"};

bool is_storage(std::string_view global) {
  return std::any_of(std::begin(kStorages), std::end(kStorages),
                     [&](const char* s) { return global == std::string("torch ") + s + "Storage"; });
}

}  // namespace

const char* name(PickleValue::Kind kind) {
  constexpr const char* kNames[] = {"None",          "a boolean",     "an integer", "a big integer",
                                    "a real number", "text",          "a tuple",    "a list",
                                    "a dict",        "a global name", "a storage",  "a tensor"};
  return kNames[size_t(kind)];
}

Pickle::Pickle(std::string_view bytes, std::string where) : bytes_(bytes), where_(std::move(where)) {
  run();
  refuse_circles();
}

void Pickle::run() {
  if (take_number(1) != 0x80) refuse("PickleCorrupt", "does not begin with a protocol");
  const uint64_t protocol = take_number(1);
  if (protocol != 2) refuse("UnsupportedOpcode", message("protocol {}, expected 2", protocol));
  for (;;) {
    opcode_at_ = at_;
    const auto opcode = uint8_t(take_number(1));
    if (opcode == '.') break;
    step(opcode);
  }
  if (!marks_.empty() || stack_.size() != 1)
    refuse("PickleCorrupt",
           message("ends with {} values and {} marks, expected 1 value", stack_.size(), marks_.size()));
  top_ = stack_.back();
}

void Pickle::step(uint8_t opcode) {
  switch (opcode) {
    case 'c':
      return global();
    case 'R':
      return reduce();
    case 'b':
      return build();
    case 'Q':
      return persistent_id();
    case '(':  // MARK
      if (marks_.size() == kMaxStack) refuse("Limit", message("more than {} marks", kMaxStack));
      return marks_.push_back(stack_.size());
    case 't':  // TUPLE
      return push_items(Kind::tuple, stack_.size() - pop_mark());
    case 0x85:  // TUPLE1, 2, 3
    case 0x86:
    case 0x87:
      return push_items(Kind::tuple, size_t(opcode) - 0x84);
    case ')':
      return push({.kind = Kind::tuple});
    case ']':
      return push({.kind = Kind::list});
    case '}':
      return push({.kind = Kind::dict});
    case 'N':
      return push({});
    case 0x88:  // NEWTRUE
    case 0x89:  // NEWFALSE
      return push({.kind = Kind::boolean, .integer = opcode == 0x88});
    case 'J':  // BININT
      return push({.kind = Kind::integer, .integer = int32_t(uint32_t(take_number(4)))});
    case 'K':  // BININT1
      return push({.kind = Kind::integer, .integer = int64_t(take_number(1))});
    case 'M':  // BININT2
      return push({.kind = Kind::integer, .integer = int64_t(take_number(2))});
    case 'G':  // BINFLOAT
      take(8);
      return push({.kind = Kind::real});
    case 0x8A: {  // LONG1, two's complement
      const std::string_view digits = take(take_number(1));
      if (digits.size() > 8) return push({.kind = Kind::big_integer, .text = digits});
      uint64_t value = !digits.empty() && int8_t(digits.back()) < 0 ? ~uint64_t{0} : 0;
      for (size_t i = digits.size(); i-- > 0;) value = value << 8 | uint8_t(digits[i]);
      return push({.kind = Kind::integer, .integer = int64_t(value)});
    }
    case 'X':  // BINUNICODE
      return push({.kind = Kind::string, .text = take_utf8(take_number(4))});
    case 'U':  // SHORT_BINSTRING
      return push({.kind = Kind::string, .text = take_utf8(take_number(1))});
    case 'h':  // BINGET
      return recall(take_number(1));
    case 'j':  // LONG_BINGET
      return recall(take_number(4));
    case 'q':  // BINPUT
      return remember(take_number(1));
    case 'r':  // LONG_BINPUT
      return remember(take_number(4));
    case 'a': {  // APPEND
      const PickleRef value = pop(), list = peek();
      expect(list, Kind::list, "APPEND");
      return values_[list].items.push_back(value);
    }
    case 'e': {  // APPENDS
      const size_t first = pop_mark();
      const std::vector<PickleRef> added(stack_.begin() + ptrdiff_t(first), stack_.end());
      stack_.resize(first);
      const PickleRef list = peek();
      expect(list, Kind::list, "APPENDS");
      values_[list].items.insert(values_[list].items.end(), added.begin(), added.end());
      return;
    }
    case 's': {  // SETITEM
      const PickleRef value = pop(), key = pop(), dict = peek();
      stack_.insert(stack_.end(), {key, value});
      return set_items(dict, stack_.size() - 2);
    }
    case 'u': {  // SETITEMS
      const size_t first = pop_mark();
      if ((stack_.size() - first) % 2 != 0) refuse("PickleCorrupt", "SETITEMS with a key without a value");
      if (first == 0 || (!marks_.empty() && marks_.back() == first))
        refuse("PickleCorrupt", "SETITEMS without a dict below: the stack is too short");
      return set_items(stack_[first - 1], first);
    }
    default:
      refuse("UnsupportedOpcode", message("opcode {}", int(opcode)));
  }
}

void Pickle::global() {
  const std::string_view module = take_line(), attribute = take_line();
  const std::string both = std::string(module) + " " + std::string(attribute);
  if (both != kOrderedDict && both != kRebuildTensor && both != kRebuildParameter && !is_storage(both))
    refuse("ForbiddenGlobal", in_quotes(both) + " is not needed for tensors, and nothing in the file is run");
  // Both lines and the line feed between them lie next to one another.
  push({.kind = Kind::global, .text = {module.data(), both.size()}});
}

void Pickle::reduce() {
  const PickleRef arguments = pop(), function = pop();
  expect(function, Kind::global, "REDUCE");
  expect(arguments, Kind::tuple, "REDUCE's arguments");
  const std::vector<PickleRef> items = values_[arguments].items;
  std::string called(values_[function].text);
  std::replace(called.begin(), called.end(), '\n', ' ');

  const auto expect_count = [&](size_t least, size_t most) {
    if (items.size() < least || items.size() > most)
      refuse("TypeConfusion", message("{} with {} arguments", called, items.size()));
  };
  if (called == kOrderedDict) {
    // Python 3 adds the items later; Python 2 gives a list of pairs.
    expect_count(0, 1);
    PickleValue dict{.kind = Kind::dict};
    if (!items.empty()) {
      expect(items[0], Kind::list, "OrderedDict's argument");
      // A list may be used often, and each use copies it.
      copied_ += values_[items[0]].items.size();
      if (copied_ > kMaxValues) refuse("Limit", message("more than {} items of dicts", kMaxValues));
      for (const PickleRef pair : values_[items[0]].items) {
        if (values_[pair].kind != Kind::list) expect(pair, Kind::tuple, "an item of OrderedDict");
        if (values_[pair].items.size() != 2)
          refuse("TypeConfusion", message("an item of OrderedDict has {} parts", values_[pair].items.size()));
        dict.items.insert(dict.items.end(), values_[pair].items.begin(), values_[pair].items.end());
      }
    }
    return push(std::move(dict));
  }
  if (called == kRebuildTensor) {  // storage, offset, size, stride, requires_grad, hooks (, metadata)
    expect_count(6, 7);
    expect(items[0], Kind::storage, "a tensor's storage");
    expect(items[1], Kind::integer, "a tensor's offset");
    for (const size_t i : {size_t{2}, size_t{3}}) {
      expect(items[i], Kind::tuple, i == 2 ? "a tensor's size" : "a tensor's stride");
      const std::vector<PickleRef>& extents = values_[items[i]].items;
      for (size_t k = 0; k < extents.size() && k <= kMaxRank; ++k)
        expect(extents[k], Kind::integer, "a tensor's size or stride");
    }
    expect(items[4], Kind::boolean, "a tensor's requires_grad");
    expect(items[5], Kind::dict, "a tensor's hooks");
    if (items.size() == 7 && values_[items[6]].kind != Kind::none)
      expect(items[6], Kind::dict, "a tensor's metadata");
    return push({.kind = Kind::tensor, .items = {items[0], items[1], items[2], items[3]}});
  }
  if (called == kRebuildParameter) {  // tensor, requires_grad, hooks
    expect_count(3, 3);
    expect(items[0], Kind::tensor, "a parameter");
    expect(items[1], Kind::boolean, "a parameter's requires_grad");
    expect(items[2], Kind::dict, "a parameter's hooks");
    return push_ref(items[0]);
  }
  refuse("TypeConfusion", message("REDUCE on {}", called));
}

// Attributes of a dictionary, such as the versions of modules that PyTorch adds: no tensors.
void Pickle::build() {
  const PickleRef state = pop(), object = peek();
  expect(object, Kind::dict, "BUILD");
  expect(state, Kind::dict, "BUILD's state");
}

void Pickle::persistent_id() {
  const PickleRef id = pop();
  expect(id, Kind::tuple, "BINPERSID");
  const std::vector<PickleRef> items = values_[id].items;
  if (items.size() != 5 && items.size() != 6)
    refuse("TypeConfusion", message("a persistent id of {} parts, expected 5 or 6", items.size()));
  expect(items[0], Kind::string, "a persistent id");
  if (values_[items[0]].text != "storage")
    refuse("TypeConfusion", message("a persistent id of {}, expected a storage",
                                    in_quotes(std::string(values_[items[0]].text))));
  expect(items[1], Kind::global, "a storage's type");
  if (!values_[items[1]].text.ends_with("Storage"))
    refuse("TypeConfusion", "a storage's type is another global name");
  expect(items[2], Kind::string, "a storage's key");
  expect(items[3], Kind::string, "a storage's location");
  expect(items[4], Kind::integer, "a storage's count");
  if (items.size() == 6 && values_[items[5]].kind != Kind::none) {  // key, offset, count
    expect(items[5], Kind::tuple, "a view");
    const std::vector<PickleRef>& view = values_[items[5]].items;
    if (view.size() != 3) refuse("TypeConfusion", message("a view of {} parts, expected 3", view.size()));
    expect(view[0], Kind::string, "a view's key");
    expect(view[1], Kind::integer, "a view's offset");
    expect(view[2], Kind::integer, "a view's count");
  }
  push({.kind = Kind::storage, .items = {items.begin() + 1, items.end()}});
}

// The stack from `first` on: keys and values.
void Pickle::set_items(PickleRef dict, size_t first) {
  expect(dict, Kind::dict, "SETITEM");
  std::vector<PickleRef>& items = values_[dict].items;
  items.insert(items.end(), stack_.begin() + ptrdiff_t(first), stack_.end());
  stack_.resize(first);
}

void Pickle::refuse_circles() const {
  enum : uint8_t { unseen, open, done };
  std::vector<uint8_t> state(values_.size(), unseen);
  std::vector<std::pair<PickleRef, size_t>> path = {{top_, 0}};
  state[top_] = open;
  while (!path.empty()) {
    auto& [value, next] = path.back();
    const std::vector<PickleRef>& items = values_[value].items;
    if (next == items.size()) {
      state[value] = done;
      path.pop_back();
      continue;
    }
    const PickleRef item = items[next++];
    if (state[item] == open) refuse("PickleCorrupt", message("{} contains itself", name(values_[item].kind)));
    if (state[item] == done) continue;
    state[item] = open;
    path.emplace_back(item, 0);
  }
}

std::string_view Pickle::take(uint64_t bytes) {
  if (at_ + bytes > kMaxBytes && bytes_.size() >= kMaxBytes)
    refuse("Limit", message("longer than {} bytes", kMaxBytes));
  if (bytes > bytes_.size() - at_) {
    // Of a short pickle, a length that no pickle may have is the better reason.
    const char* kind = bytes > 8 ? "Limit" : "PickleCorrupt";
    refuse(kind,
           message("{} bytes are wanted, {} are left: it ends without STOP", bytes, bytes_.size() - at_));
  }
  const std::string_view part = bytes_.substr(at_, bytes);
  at_ += bytes;
  return part;
}

uint64_t Pickle::take_number(int bytes) {
  uint64_t value = 0;
  const std::string_view digits = take(uint64_t(bytes));
  for (size_t i = digits.size(); i-- > 0;) value = value << 8 | uint8_t(digits[i]);
  return value;
}

std::string_view Pickle::take_line() {
  const size_t end = bytes_.substr(at_, kMaxLine + 1).find('\n');
  if (end == std::string_view::npos)
    refuse(bytes_.size() - at_ > kMaxLine ? "Limit" : "PickleCorrupt", "a name without an end");
  const std::string_view line = take(end);
  take(1);
  return line;
}

std::string_view Pickle::take_utf8(uint64_t bytes) {
  const std::string_view text = take(bytes);
  if (find_invalid_utf8(text) != std::string_view::npos) refuse("PickleCorrupt", "text that is not UTF-8");
  return text;
}

PickleRef Pickle::add(PickleValue value) {
  if (values_.size() == kMaxValues) refuse("Limit", message("more than {} values", kMaxValues));
  values_.push_back(std::move(value));
  return PickleRef(values_.size() - 1);
}

void Pickle::push(PickleValue value) { push_ref(add(std::move(value))); }

void Pickle::push_ref(PickleRef ref) {
  if (stack_.size() == kMaxStack) refuse("Limit", message("more than {} values on the stack", kMaxStack));
  stack_.push_back(ref);
}

void Pickle::push_items(Kind kind, size_t count) {
  const size_t bottom = marks_.empty() ? 0 : marks_.back();
  if (stack_.size() - bottom < count) refuse("PickleCorrupt", "the stack is too short");
  const auto first = stack_.end() - ptrdiff_t(count);
  PickleValue value{.kind = kind, .items = {first, stack_.end()}};
  stack_.erase(first, stack_.end());
  push(std::move(value));
}

PickleRef Pickle::peek() {
  if (stack_.size() == (marks_.empty() ? 0 : marks_.back()))
    refuse("PickleCorrupt", "the stack is too short");
  return stack_.back();
}

PickleRef Pickle::pop() {
  const PickleRef ref = peek();
  stack_.pop_back();
  return ref;
}

size_t Pickle::pop_mark() {
  if (marks_.empty()) refuse("PickleCorrupt", "there is no mark");
  const size_t height = marks_.back();
  marks_.pop_back();
  return height;
}

void Pickle::remember(uint64_t place) {
  if (place >= kMaxValues)
    refuse("Limit", message("memo place {}, at most {} are allowed", place, kMaxValues));
  memo_[place] = peek();
}

void Pickle::recall(uint64_t place) {
  const auto found = memo_.find(place);
  if (found == memo_.end()) refuse("PickleCorrupt", message("memo place {} is empty", place));
  push_ref(found->second);
}

void Pickle::expect(PickleRef ref, Kind kind, const char* what) const {
  if (values_[ref].kind != kind)
    refuse("TypeConfusion", message("{} is {}, expected {}", what, name(values_[ref].kind), name(kind)));
}

void Pickle::refuse(const char* kind, const std::string& what) const {
  fail(ErrorKind::bad_input, "{}: {}: byte {}: {}", where_, kind, opcode_at_, what);
}

}  // namespace plume
