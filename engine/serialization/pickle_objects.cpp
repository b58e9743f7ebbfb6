// What globals, calls and objects stand for. Nothing is looked up or called: a name is compared with those
// below, and what none of them is becomes opaque.
#include <algorithm>

#include "engine/core/error.h"
#include "engine/serialization/pickle.h"
#include "engine/serialization/pickle_names.h"
#include "engine/serialization/safetensors.h"

namespace plume {
namespace {

constexpr size_t kMaxCopied = size_t{1} << 21;
constexpr size_t kMaxNames = size_t{1} << 20;  // bytes of names that were put together
constexpr size_t kMaxName = 512;
constexpr size_t kMaxRank = 8;  // refused later; here it bounds the time that one tensor may take

}  // namespace

void Pickle::read_global() {
  const std::string_view module = take_line(), attribute = take_line();
  // Both lines and the line feed between them lie next to one another.
  global(module, attribute, {module.data(), module.size() + 1 + attribute.size()});
}

void Pickle::stack_global() {
  const PickleRef attribute = pop(), module = pop();
  expect(module, Kind::string, "STACK_GLOBAL's module");
  expect(attribute, Kind::string, "STACK_GLOBAL's name");
  const std::string_view first = values_[module].text, second = values_[attribute].text;
  if (first.size() + second.size() > kMaxName)
    refuse("Limit", message("a name of {} bytes", first.size() + second.size()));
  std::string both = std::string(first) + "\n" + std::string(second);
  auto found = names_.find(both);
  if (found == names_.end()) {
    name_bytes_ += both.size();
    if (name_bytes_ > kMaxNames) refuse("Limit", message("names of more than {} bytes", kMaxNames));
    found = names_.insert(std::move(both)).first;
  }
  global(first, second, *found);
}

void Pickle::global(std::string_view module, std::string_view attribute, std::string_view both) {
  const std::string readable = std::string(module) + " " + std::string(attribute);
  if (module.empty() || attribute.empty() || attribute.find('\n') != std::string_view::npos)
    refuse("ForbiddenGlobal", in_quotes(readable) + " is no name");
  if (is_forbidden_global(module, attribute))
    refuse("ForbiddenGlobal",
           in_quotes(readable) + " is not needed for tensors, and nothing in the file is run");
  push({.kind = Kind::global, .text = both});
}

void Pickle::reduce() {
  const PickleRef arguments = pop(), function = pop();
  if (values_[function].kind != Kind::opaque) expect(function, Kind::global, "REDUCE");
  expect(arguments, Kind::tuple, "REDUCE's arguments");
  call(function, arguments);
}

void Pickle::call(PickleRef function, PickleRef arguments) {
  const std::string_view called = values_[function].text;
  const std::vector<PickleRef>& given = values_[arguments].items;
  const KnownGlobal known =
      values_[function].kind == Kind::global ? known_global(called) : KnownGlobal::other;
  const auto expect_count = [&](size_t least, size_t most) {
    if (given.size() < least || given.size() > most)
      refuse("TypeConfusion", message("{} with {} arguments", readable_name(called), given.size()));
  };
  switch (known) {
    case KnownGlobal::other: {
      // copyreg._reconstructor(class, base, state) makes an object of the class.
      const bool made = is_reconstructor(called) && !given.empty() && values_[given[0]].kind == Kind::global;
      return push({.kind = Kind::opaque, .text = made ? values_[given[0]].text : called});
    }
    case KnownGlobal::storage:
      refuse("TypeConfusion", message("REDUCE on {}", readable_name(called)));
    case KnownGlobal::unsupported_tensor:
      refuse("UnsupportedTensor",
             message("{}: quantised, sparse, nested and other such tensors are not read: save dense ones",
                     readable_name(called)));
    case KnownGlobal::ordered_dict:
      expect_count(0, 1);
      return ordered_dict(std::vector<PickleRef>(given));
    case KnownGlobal::dict:  // defaultdict(list) too
      expect_count(0, 1);
      return push({.kind = Kind::dict});
    case KnownGlobal::set: {
      expect_count(0, 1);
      PickleValue set{.kind = Kind::set};
      if (!given.empty()) {
        expect(given[0], Kind::list, "a set's argument");
        set.items = values_[given[0]].items;
      }
      copied_ += set.items.size();
      if (copied_ > kMaxCopied) refuse("Limit", message("more than {} items of sets", kMaxCopied));
      return push(std::move(set));
    }
    case KnownGlobal::size:
      expect_count(1, 1);
      expect(given[0], Kind::tuple, "torch.Size's argument");
      return push_ref(given[0]);
    case KnownGlobal::rebuild_tensor:  // storage, offset, size, stride
      expect_count(4, 4);
      return rebuild_tensor(called, std::vector<PickleRef>(given));
    case KnownGlobal::rebuild_tensor_v2:  // requires_grad, hooks (, metadata)
      expect_count(6, 7);
      return rebuild_tensor(called, std::vector<PickleRef>(given));
    case KnownGlobal::rebuild_tensor_v3:  // requires_grad, hooks, dtype (, metadata)
      expect_count(7, 8);
      return rebuild_tensor(called, std::vector<PickleRef>(given));
    case KnownGlobal::rebuild_parameter:  // tensor, requires_grad, hooks (, state)
      expect_count(3, 4);
      expect(given[0], Kind::tensor, "a parameter");
      expect(given[1], Kind::boolean, "a parameter's requires_grad");
      if (values_[given[2]].kind != Kind::none) expect(given[2], Kind::dict, "a parameter's hooks");
      return push_ref(given[0]);
    case KnownGlobal::rebuild_from_type: {  // function, class, arguments (, state): a tensor of its own class
      expect_count(3, 4);
      expect(given[0], Kind::global, "a tensor's function");
      expect(given[2], Kind::tuple, "a tensor's arguments");
      if (known_global(values_[given[0]].text) == KnownGlobal::rebuild_from_type)
        refuse("TypeConfusion", message("{} of itself", readable_name(called)));
      return call(given[0], given[2]);
    }
  }
}

// Python 3 adds the items later; Python 2 gives a list of pairs.
void Pickle::ordered_dict(const std::vector<PickleRef>& items) {
  PickleValue dict{.kind = Kind::dict};
  if (!items.empty()) {
    expect(items[0], Kind::list, "OrderedDict's argument");
    // A list may be used often, and each use copies it.
    copied_ += values_[items[0]].items.size();
    if (copied_ > kMaxCopied) refuse("Limit", message("more than {} items of dicts", kMaxCopied));
    for (const PickleRef pair : values_[items[0]].items) {
      if (values_[pair].kind != Kind::list) expect(pair, Kind::tuple, "an item of OrderedDict");
      if (values_[pair].items.size() != 2)
        refuse("TypeConfusion", message("an item of OrderedDict has {} parts", values_[pair].items.size()));
      dict.items.insert(dict.items.end(), values_[pair].items.begin(), values_[pair].items.end());
    }
  }
  push(std::move(dict));
}

void Pickle::rebuild_tensor(std::string_view function, const std::vector<PickleRef>& items) {
  expect(items[0], Kind::storage, "a tensor's storage");
  expect(items[1], Kind::integer, "a tensor's offset");
  for (const size_t i : {size_t{2}, size_t{3}}) {
    expect(items[i], Kind::tuple, i == 2 ? "a tensor's size" : "a tensor's stride");
    const std::vector<PickleRef>& extents = values_[items[i]].items;
    for (size_t k = 0; k < extents.size() && k <= kMaxRank; ++k)
      expect(extents[k], Kind::integer, "a tensor's size or stride");
  }
  PickleValue tensor{.kind = Kind::tensor, .items = {items[0], items[1], items[2], items[3]}};
  if (items.size() > 4) {
    expect(items[4], Kind::boolean, "a tensor's requires_grad");
    if (values_[items[5]].kind != Kind::opaque) expect(items[5], Kind::dict, "a tensor's hooks");
    size_t metadata = 6;
    if (known_global(function) == KnownGlobal::rebuild_tensor_v3) {
      expect(items[6], Kind::global, "a tensor's type");
      tensor.items.push_back(items[6]);
      metadata = 7;
    }
    if (items.size() > metadata && values_[items[metadata]].kind != Kind::none)
      expect(items[metadata], Kind::dict, "a tensor's metadata");
  }
  push(std::move(tensor));
}

// An object made without its constructor.
void Pickle::new_object(bool keywords) {
  if (keywords) expect(pop(), Kind::dict, "NEWOBJ_EX's keywords");
  const PickleRef arguments = pop(), type = pop();
  expect(arguments, Kind::tuple, "NEWOBJ's arguments");
  if (values_[type].kind != Kind::opaque) expect(type, Kind::global, "NEWOBJ's class");
  const std::string_view text = values_[type].text;
  const KnownGlobal known = known_global(text);
  const bool dict = known == KnownGlobal::ordered_dict || known == KnownGlobal::dict;
  if (dict && values_[type].kind == Kind::global) return push({.kind = Kind::dict});
  push({.kind = Kind::opaque, .text = text});
}

// Attributes: of a dictionary such as the versions of modules that PyTorch adds, which are no tensors; of an
// opaque object whatever they are.
void Pickle::build() {
  const PickleRef state = pop(), object = peek();
  if (values_[object].kind == Kind::opaque) return;
  expect(object, Kind::dict, "BUILD");
  expect(state, Kind::dict, "BUILD's state");
}

void Pickle::persistent_id() {
  const PickleRef id = pop();
  expect(id, Kind::tuple, "BINPERSID");
  const size_t parts = values_[id].items.size();
  if (parts != 5 && parts != 6)
    refuse("TypeConfusion", message("a persistent id of {} parts, expected 5 or 6", parts));
  const std::vector<PickleRef> items = values_[id].items;
  expect(items[0], Kind::string, "a persistent id");
  if (values_[items[0]].text != "storage")
    refuse("TypeConfusion", message("a persistent id of {}, expected a storage",
                                    in_quotes(std::string(values_[items[0]].text))));
  expect(items[1], Kind::global, "a storage's type");
  const std::string_view type = values_[items[1]].text;
  if (known_global(type) == KnownGlobal::unsupported_tensor)
    refuse("UnsupportedTensor",
           message("a storage of {}: quantised or of double complex numbers", readable_name(type)));
  if (known_global(type) != KnownGlobal::storage)
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

}  // namespace plume
