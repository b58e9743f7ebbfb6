#include "engine/serialization/pickle.h"

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
constexpr uint64_t kLeastProtocol = 2, kMostProtocol = 5;

}  // namespace

const char* name(PickleValue::Kind kind) {
  constexpr const char* kNames[] = {"None",   "a boolean",     "an integer", "a big integer", "a real number",
                                    "text",   "bytes",         "a tuple",    "a list",        "a set",
                                    "a dict", "a global name", "a storage",  "a tensor",      "an object"};
  return kNames[size_t(kind)];
}

Pickle::Pickle(std::string_view bytes, std::string where) : bytes_(bytes), where_(std::move(where)) {
  run();
  refuse_circles();
}

void Pickle::run() {
  if (take_number(1) != 0x80) refuse("PickleCorrupt", "does not begin with a protocol");
  const uint64_t protocol = take_number(1);
  if (protocol < kLeastProtocol || protocol > kMostProtocol)
    refuse("UnsupportedOpcode",
           message("protocol {}, expected {} to {}", protocol, kLeastProtocol, kMostProtocol));
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

PickleValue Pickle::take_text_or_bytes(uint64_t bytes) {
  const std::string_view text = take(bytes);
  const bool valid = find_invalid_utf8(text) == std::string_view::npos;
  return {.kind = valid ? Kind::string : Kind::bytes, .text = text};
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

void Pickle::push_mark() {
  if (marks_.size() == kMaxStack) refuse("Limit", message("more than {} marks", kMaxStack));
  marks_.push_back(stack_.size());
}

size_t Pickle::pop_mark() {
  if (marks_.empty()) refuse("PickleCorrupt", "there is no mark");
  const size_t height = marks_.back();
  marks_.pop_back();
  return height;
}

std::vector<PickleRef> Pickle::pop_items() {
  const auto first = stack_.begin() + ptrdiff_t(pop_mark());
  std::vector<PickleRef> items(first, stack_.end());
  stack_.erase(first, stack_.end());
  return items;
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
