// Python's pickle format, protocol 2, as far as torch.save() needs it for dictionaries of tensors. Nothing is
// imported or called: the few names that may occur are known here, and what they would build is noted down.
//
// Opcodes and their meaning: Python's module pickletools.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace plume {

// A value, by its place in Pickle's list: values refer to one another, also in circles.
using PickleRef = uint32_t;

struct PickleValue {
  enum class Kind : uint8_t {
    none,
    boolean,
    integer,
    big_integer,  // beyond 64 bits: its little-endian bytes in `text`
    real,         // its value is of no use here
    string,
    tuple,
    list,
    dict,     // items: key, value, key, value, ...
    global,   // `text`: module, line feed, name
    storage,  // a persistent id. items: type, key, location, count and, in the legacy form, view
    tensor,   // items: storage, offset, size, stride
  };
  Kind kind = Kind::none;
  int64_t integer = 0;         // of boolean and integer
  std::string_view text = {};  // into the pickle
  std::vector<PickleRef> items = {};
};

// One pickle, from its first byte to STOP; more may follow.
//
// Throws bad_input: "WHERE: CLASS: ...", CLASS being one of
//   ForbiddenGlobal    a name other than collections.OrderedDict, torch._utils._rebuild_tensor_v2,
//                      torch._utils._rebuild_parameter and torch's storages
//   UnsupportedOpcode  any that a dictionary of tensors does not need, and all of protocols 3 and above
//   TypeConfusion      an opcode on a value of a kind it does not go with
//   PickleCorrupt      not a pickle: stack, marks or memo do not work out, no end, a value inside itself
//   Limit              longer than kMaxBytes, or more values, marks or memo places than a state dict needs
class Pickle {
 public:
  static constexpr uint64_t kMaxBytes = uint64_t{16} << 20;

  // `bytes` outlives this object. `where` begins the errors: path and part.
  Pickle(std::string_view bytes, std::string where);

  size_t size() const { return at_; }  // bytes up to and with STOP
  const PickleValue& top() const { return values_[top_]; }
  const PickleValue& operator[](PickleRef ref) const { return values_[ref]; }
  const std::vector<PickleValue>& values() const { return values_; }  // also those that top() does not reach

 private:
  using Kind = PickleValue::Kind;

  void run();
  void step(uint8_t opcode);
  void global();
  void reduce();
  void build();
  void persistent_id();
  void set_items(PickleRef dict, size_t first);
  void refuse_circles() const;

  std::string_view take(uint64_t bytes);
  uint64_t take_number(int bytes);  // little endian, unsigned
  std::string_view take_line();
  std::string_view take_utf8(uint64_t bytes);

  PickleRef add(PickleValue value);
  void push(PickleValue value);
  void push_items(Kind kind, size_t count);  // the topmost `count` values become one
  void push_ref(PickleRef ref);
  PickleRef pop();
  PickleRef peek();  // the topmost value, which is above the last mark
  size_t pop_mark();
  void remember(uint64_t place);
  void recall(uint64_t place);
  void expect(PickleRef ref, Kind kind, const char* what) const;
  [[noreturn]] void refuse(const char* kind, const std::string& what) const;

  std::string_view bytes_;
  std::string where_;
  size_t at_ = 0, opcode_at_ = 0;
  std::vector<PickleValue> values_;
  std::vector<PickleRef> stack_;
  std::vector<size_t> marks_;  // heights of the stack
  std::unordered_map<uint64_t, PickleRef> memo_;
  size_t copied_ = 0;  // items of lists that became dicts
  PickleRef top_ = 0;
};

const char* name(PickleValue::Kind kind);

}  // namespace plume
