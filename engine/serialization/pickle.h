// Python's pickle format, protocols 2 to 5, as far as torch.save() needs it for checkpoints. Nothing is
// imported or called: what the few names that tensors need would build is noted down, and an object of any
// other class is carried as an opaque value. Names that attacks are made of are refused outright.
//
// Opcodes and their meaning: Python's module pickletools.
#pragma once
#include <cstdint>
#include <set>
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
    bytes,
    tuple,
    list,
    set,
    dict,     // items: key, value, key, value, ...
    global,   // `text`: module, line feed, name
    storage,  // a persistent id. items: type, key, location, count and, in the legacy form, view
    tensor,   // items: storage, offset, size, stride and, of an untyped storage, a global for the type
    opaque,   // an object of the class `text` (as of a global); items as of a dict, where it has such
  };
  Kind kind = Kind::none;
  int64_t integer = 0;         // of boolean and integer
  std::string_view text = {};  // into the pickle
  std::vector<PickleRef> items = {};
};

// One pickle, from its first byte to STOP; more may follow.
//
// Throws bad_input: "WHERE: CLASS: ...", CLASS being one of
//   ForbiddenGlobal    a name of a module that runs or reaches something (os, posix, subprocess, sys, ...), a
//                      function of builtins, torch.load and its like. Nothing would run here either; whoever
//                      made such a file meant harm to its readers
//   UnsupportedTensor  quantised, sparse, nested and other tensors that are not elements at strides
//   UnsupportedOpcode  of protocol 0, extension codes, buffers and persistent ids outside the pickle
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
  PickleRef top_ref() const { return top_; }
  const PickleValue& operator[](PickleRef ref) const { return values_[ref]; }
  const std::vector<PickleValue>& values() const { return values_; }  // also those that top() does not reach

 private:
  using Kind = PickleValue::Kind;

  void run();
  void step(uint8_t opcode);
  bool step_value(uint8_t opcode);      // numbers, texts, bytes; false: none of these
  bool step_container(uint8_t opcode);  // tuples, lists, dicts, sets
  bool step_stack(uint8_t opcode);      // marks, the memo
  void text_number();
  void global(std::string_view module, std::string_view attribute, std::string_view both);
  void read_global();
  void stack_global();
  void reduce();
  void call(PickleRef function, PickleRef arguments);
  void new_object(bool keywords);
  void ordered_dict(const std::vector<PickleRef>& items);
  void rebuild_tensor(std::string_view function, const std::vector<PickleRef>& items);
  void build();
  void persistent_id();
  void set_items(PickleRef dict, size_t first);
  void refuse_circles() const;

  std::string_view take(uint64_t bytes);
  uint64_t take_number(int bytes);  // little endian, unsigned
  std::string_view take_line();
  std::string_view take_utf8(uint64_t bytes);
  PickleValue take_text_or_bytes(uint64_t bytes);  // Python 2 has one type for both

  PickleRef add(PickleValue value);
  void push(PickleValue value);
  void push_items(Kind kind, size_t count);  // the topmost `count` values become one
  void push_ref(PickleRef ref);
  PickleRef pop();
  PickleRef peek();  // the topmost value, which is above the last mark
  void push_mark();
  size_t pop_mark();
  std::vector<PickleRef> pop_items();  // down to the last mark, which goes too
  void add_items(Kind kind, const std::vector<PickleRef>& items, const char* opcode);
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
  std::set<std::string, std::less<>> names_;  // of globals whose two parts lie apart
  size_t name_bytes_ = 0;                     // of names_
  size_t copied_ = 0;                         // items of lists that became dicts
  PickleRef top_ = 0;
};

const char* name(PickleValue::Kind kind);

}  // namespace plume
