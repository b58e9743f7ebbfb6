#include "engine/serialization/torch_file.h"

#include <algorithm>
#include <cstring>
#include <set>

#include "engine/serialization/double_precision.h"
#include "engine/serialization/pickle_names.h"
#include "engine/serialization/torch_dictionaries.h"

namespace plume {
namespace {

using Kind = PickleValue::Kind;

constexpr size_t kMaxTensors = 65'536, kMaxName = 1024, kMaxRank = 8;
constexpr size_t kMostOthers = 5;  // that are remembered
constexpr int64_t kProtocol = 1001;
constexpr std::string_view kMagic = "\x6C\xFC\x9C\x46\xF9\x20\x6A\xA8\x50\x19";
constexpr uint64_t kTarMark = 257;

// Null for a name that is no storage.
const FormatDType* format_type(const char* name) {
  for (const FormatDType& t : format_dtypes())
    if (name != nullptr && std::strcmp(t.name, name) == 0) return &t;
  return nullptr;
}

uint64_t item_bytes(const FormatDType& type) { return uint64_t(type.bits) / 8; }

// Elements times their size; false when that is beyond 64 bits.
bool bytes_of(uint64_t count, const FormatDType& type, uint64_t& bytes) {
  return !__builtin_mul_overflow(count, item_bytes(type), &bytes);
}

// The elements at the given strides, one after the other; there is at least one.
void gather(const char* from, char* to, const std::vector<uint64_t>& shape,
            const std::vector<uint64_t>& stride, uint64_t item) {
  std::vector<uint64_t> index(shape.size(), 0);
  for (uint64_t at = 0;;) {
    std::memcpy(to, from + at * item, item);
    to += item;
    size_t d = shape.size();
    for (; d-- > 0;) {
      at += stride[d];
      if (++index[d] < shape[d]) break;
      at -= stride[d] * shape[d];
      index[d] = 0;
    }
    if (d == size_t(-1)) return;
  }
}

}  // namespace

TorchFile::TorchFile(const std::string& path) : file_(path) {
  const std::string first = file_.read_text(0, std::min<uint64_t>(file_.size(), kTarMark + 5));
  if (first.ends_with("ustar") && first.size() == kTarMark + 5)
    refuse("LegacyTar", "is a tar archive of PyTorch before 0.2, which is not supported: save it again");
  if (first.starts_with("PK"))
    open_zip();
  else
    open_legacy();
}

void TorchFile::open_zip() {
  const ZipArchive zip(file_);
  std::set<std::string> tops;
  for (const ZipEntry& entry : zip.entries()) {
    const size_t slash = entry.name.find('/');
    if (slash == 0 || slash == std::string::npos)
      refuse("BadArchive", in_quotes(entry.name) + " is in no folder: not written by torch.save()");
    tops.insert(entry.name.substr(0, slash));
  }
  if (tops.size() > 1)
    refuse("BadArchive", message("has two folders at the top, {} and {}", in_quotes(*tops.begin()),
                                 in_quotes(*tops.rbegin())));
  const std::string top = tops.empty() ? "" : *tops.begin() + "/";
  const ZipEntry* data = zip.find(top + "data.pkl");
  if (data == nullptr) refuse("BadArchive", "has no data.pkl: not written by torch.save()");
  if (zip.find(top + "constants.pkl") != nullptr)
    refuse("BadArchive", "is a TorchScript program: save its state_dict() instead");
  if (const ZipEntry* order = zip.find(top + "byteorder"))
    if (order->size != 6 || file_.read_text(order->begin, 6) != "little")
      refuse("BadArchive", "is big-endian, expected the byte order 'little'");
  if (data->size > Pickle::kMaxBytes)
    refuse("Limit", message("data.pkl has {} bytes, at most {} are allowed", data->size, Pickle::kMaxBytes));
  const std::string text = file_.read_text(data->begin, data->size);
  const Pickle pickle(text, file_.path());
  if (pickle.size() != text.size())
    refuse("PickleCorrupt", message("data.pkl ends at byte {}, it has {}", pickle.size(), text.size()));

  Storages storages = declared_storages(pickle);
  for (auto& [key, storage] : storages) {
    const ZipEntry* record = zip.find(top + "data/" + key);
    if (record == nullptr) refuse("StorageSizeMismatch", message("storage {} is not there", in_quotes(key)));
    uint64_t bytes = 0;
    if (!bytes_of(storage.count, *storage.type, bytes) || bytes != record->size)
      refuse("StorageSizeMismatch", message("storage {} has {} bytes, expected {} elements of {}",
                                            in_quotes(key), record->size, storage.count, storage.type->name));
    storage.begin = record->begin;
  }
  read_dictionaries(pickle, storages);
}

void TorchFile::open_legacy() {
  legacy_ = true;
  // Two pickles of any size and three small ones; then come the storages.
  constexpr uint64_t kMostPickles = 2 * Pickle::kMaxBytes + 65'536;
  const std::string text = file_.read_text(0, std::min(file_.size(), kMostPickles));
  size_t at = 0;
  const auto next = [&] {
    Pickle pickle(std::string_view(text).substr(at),
                  file_.path() + ": pickle from byte " + std::to_string(at));
    at += pickle.size();
    return pickle;
  };
  const Pickle magic = next();
  if (magic.top().kind != Kind::big_integer || magic.top().text != kMagic)
    refuse("BadLegacyFile", "does not begin with PyTorch's magic number");
  const Pickle version = next();
  if (version.top().kind != Kind::integer || version.top().integer != kProtocol)
    refuse("BadLegacyFile", message("has another version than {}", kProtocol));
  const Pickle system = next();
  const std::vector<PickleRef>& facts = system.top().items;
  if (system.top().kind != Kind::dict) refuse("BadLegacyFile", "does not say which system wrote it");
  for (size_t i = 0; i < facts.size(); i += 2)
    if (system[facts[i]].text == "little_endian" && system[facts[i + 1]].integer != 1)
      refuse("BadLegacyFile", "is big-endian");
  const Pickle object = next();
  const Pickle keys = next();

  Storages storages = declared_storages(object);
  if (keys.top().kind != Kind::list) refuse("BadLegacyFile", "has no list of storages");
  uint64_t place = at;
  std::set<std::string> seen;
  for (const PickleRef ref : keys.top().items) {
    const std::string key(keys[ref].text);
    const auto found = storages.find(key);
    if (keys[ref].kind != Kind::string || found == storages.end())
      refuse("BadLegacyFile", message("lists the storage {}, which no tensor uses", in_quotes(key)));
    if (!seen.insert(key).second)
      refuse("BadLegacyFile", message("lists the storage {} twice", in_quotes(key)));
    Storage& storage = found->second;
    if (file_.size() - place < 8)
      refuse("BadLegacyFile", message("ends at byte {}, before storage {}", file_.size(), in_quotes(key)));
    uint64_t count = 0, bytes = 0;
    file_.read(place, &count, 8);
    place += 8;
    if (count != storage.count || !bytes_of(count, *storage.type, bytes))
      refuse("StorageSizeMismatch", message("storage {} has {} elements, expected {}", in_quotes(key),
                                            int64_t(count), storage.count));
    if (bytes > file_.size() - place)
      refuse("BadLegacyFile", message("ends at byte {}, inside storage {}", file_.size(), in_quotes(key)));
    storage.begin = place;
    place += bytes;
  }
  if (seen.size() != storages.size())
    refuse("BadLegacyFile", message("lists {} storages, its tensors use {}", seen.size(), storages.size()));
  if (place != file_.size())
    refuse("BadLegacyFile", message("has {} bytes after its last storage", file_.size() - place));
  read_dictionaries(object, storages);
}

TorchFile::Storages TorchFile::declared_storages(const Pickle& pickle) const {
  Storages storages;
  for (const PickleValue& value : pickle.values()) {
    if (value.kind != Kind::storage) continue;
    const std::string key(pickle[value.items[1]].text);
    const int64_t count = pickle[value.items[3]].integer;
    const FormatDType* type = format_type(storage_element(pickle[value.items[0]].text));
    if (type == nullptr) refuse("TypeConfusion", message("storage {} has no type", in_quotes(key)));
    if (count < 0)
      refuse("StorageSizeMismatch", message("storage {} has {} elements", in_quotes(key), count));
    const auto [place, fresh] = storages.try_emplace(key, Storage{type, 0, uint64_t(count)});
    if (!fresh && (place->second.type != type || place->second.count != uint64_t(count)))
      refuse("StorageSizeMismatch", message("storage {} is described in two ways", in_quotes(key)));
  }
  return storages;
}

void TorchFile::read_dictionaries(const Pickle& pickle, const Storages& storages) {
  const std::vector<FoundDictionary> found = find_dictionaries(pickle);
  if (found.empty()) {
    if (pickle.top().kind != Kind::dict || !pickle.top().items.empty()) refuse_object(pickle);
    dictionaries_.emplace_back();  // nothing, rightly written
  }
  for (const FoundDictionary& f : found) read_dictionary(pickle, pickle[f.ref], f.key, storages);
}

void TorchFile::refuse_object(const Pickle& pickle) const {
  const PickleValue& top = pickle.top();
  const auto kind_of = [](const PickleValue& value) {
    return value.kind == Kind::opaque ? "an object of " + readable_name(value.text) : name(value.kind);
  };
  if (top.kind != Kind::dict)
    refuse("NotStateDict",
           message("holds {}, expected a dict of tensors: save the state_dict()", kind_of(top)));
  const PickleValue &key = pickle[top.items[0]], &value = pickle[top.items[1]];
  if (key.kind != Kind::string)
    refuse("NotStateDict", message("has {} for a key, expected text", kind_of(key)));
  refuse("NotStateDict", message("holds a dict without tensors: {} is {}, expected a tensor or a dict of "
                                 "tensors; save the state_dict()",
                                 in_quotes(std::string(key.text)), kind_of(value)));
}

void TorchFile::read_dictionary(const Pickle& pickle, const PickleValue& dict, const std::string& key,
                                const Storages& storages) {
  Dictionary dictionary;
  dictionary.key = key;
  dictionary.first = tensors_.size();
  const std::vector<PickleRef>& items = dict.items;
  std::set<std::string_view> names;
  for (size_t i = 0; i < items.size(); i += 2) {
    const PickleValue &entry = pickle[items[i]], &value = pickle[items[i + 1]];
    if (entry.kind != Kind::string || value.kind != Kind::tensor) {
      // A text may be long, and be there often.
      if (++dictionary.other_count <= kMostOthers)
        dictionary.others.emplace_back(entry.kind == Kind::string ? entry.text.substr(0, kMaxName)
                                                                  : name(entry.kind));
      continue;
    }
    const std::string text(entry.text.substr(0, kMaxName + 1));
    if (tensors_.size() == kMaxTensors) refuse("Limit", message("more than {} tensors", kMaxTensors));
    if (text.size() > kMaxName || text.find('\0') != std::string::npos || text == "__metadata__")
      refuse("NotStateDict", message("{} cannot be the name of a tensor", in_quotes(text)));
    if (!names.insert(entry.text).second)
      refuse("NotStateDict", message("{} is there twice", in_quotes(text)));
    read_tensor(pickle, text, value, storages);
  }
  dictionary.count = tensors_.size() - dictionary.first;
  dictionaries_.push_back(std::move(dictionary));
}

TorchFile::Storage TorchFile::storage_of(const Pickle& pickle, const PickleValue& value,
                                         const Storages& storages, const std::string& tensor) const {
  Storage storage = storages.at(std::string(pickle[value.items[1]].text));
  if (value.items.size() < 5 || pickle[value.items[4]].kind == Kind::none) return storage;
  const std::vector<PickleRef>& view = pickle[value.items[4]].items;
  const int64_t first = pickle[view[1]].integer, count = pickle[view[2]].integer;
  if (first < 0 || count < 0 || uint64_t(first) > storage.count ||
      uint64_t(count) > storage.count - uint64_t(first))
    refuse("TensorOutOfStorage", message("tensor {} has a view of {} elements from {} on in a storage of {}",
                                         in_quotes(tensor), count, first, storage.count));
  storage.begin += uint64_t(first) * item_bytes(*storage.type);
  storage.count = uint64_t(count);
  return storage;
}

void TorchFile::read_tensor(const Pickle& pickle, const std::string& name, const PickleValue& value,
                            const Storages& storages) {
  const auto out = [&](const std::string& what) {
    refuse("TensorOutOfStorage", message("tensor {} {}", in_quotes(name), what));
  };
  const std::vector<PickleRef>&size = pickle[value.items[2]].items, &stride = pickle[value.items[3]].items;
  const int64_t offset = pickle[value.items[1]].integer;
  if (size.size() > kMaxRank || stride.size() != size.size())
    out(message("has {} sizes and {} strides, expected the same number, at most {}", size.size(),
                stride.size(), kMaxRank));
  Layout layout;
  layout.storage = storage_of(pickle, pickle[value.items[0]], storages, name);
  if (value.items.size() > 4) {  // the storage counts bytes, the tensor has a type
    const FormatDType* type = format_type(dtype_element(pickle[value.items[4]].text));
    if (type == nullptr || layout.storage.type->bits != 8)
      refuse("TypeConfusion", message("tensor {} is of {} in a storage of {}", in_quotes(name),
                                      readable_name(pickle[value.items[4]].text), layout.storage.type->name));
    layout.storage.type = type;
    layout.storage.count /= item_bytes(*type);
  }
  const uint64_t available = layout.storage.count;
  if (offset < 0) out(message("begins at element {}", offset));
  TensorInfo info;
  info.name = name;
  info.type = layout.storage.type;
  bool empty = false;
  for (size_t d = 0; d < size.size(); ++d) {
    const int64_t extent = pickle[size[d]].integer, step = pickle[stride[d]].integer;
    if (extent < 0 || step < 0) out(message("has size {} with stride {}", extent, step));
    info.shape.push_back(uint64_t(extent));
    layout.stride.push_back(uint64_t(step));
    empty = empty || extent == 0;
  }
  layout.first = uint64_t(offset);
  uint64_t count = empty ? 0 : 1, last = layout.first;
  for (size_t d = 0; d < size.size() && !empty; ++d) {
    uint64_t reach = 0;
    if (__builtin_mul_overflow(count, info.shape[d], &count) ||
        __builtin_mul_overflow(info.shape[d] - 1, layout.stride[d], &reach) ||
        __builtin_add_overflow(last, reach, &last))
      out(message("is too large: {}", info.describe()));
  }
  if (empty ? layout.first > available : last >= available)
    out(message("reaches element {} of a storage of {}", last, available));
  if (count > available) out(message("has {} elements in a storage of {}", count, available));
  layout.span = empty ? 0 : last - layout.first + 1;

  info.begin = tensors_.empty() ? 0 : tensors_.back().end;
  info.end = info.begin + count * item_bytes(*info.type);
  if (info.end > file_.size() * kMaxExpansion)
    refuse("Limit", message("its tensors have more than {} times the bytes of the file, which has {}",
                            kMaxExpansion, file_.size()));
  tensors_.push_back(std::move(info));
  layouts_.push_back(std::move(layout));
}

Tensor TorchFile::read(const TensorInfo& info) const {
  const Layout& layout = layouts_[size_t(&info - tensors_.data())];
  const auto unsupported = [&](const char* kind) {
    fail(ErrorKind::bad_input, "{}: {}: tensor {} is {}", path(), kind, in_quotes(info.name),
         info.describe());
  };
  const std::optional<DType> dtype = loaded_dtype(*info.type);
  if (!dtype) unsupported("UnsupportedDtype");
  int64_t extents[Shape::kMaxRank] = {};
  std::copy(info.shape.begin(), info.shape.end(), extents);
  Shape shape;
  try {
    shape = Shape(extents, int(info.shape.size()));
  } catch (const Error&) {  // [0, 2^62, 2^62] is no Shape
    unsupported("UnsupportedShape");
  }
  Tensor tensor = Tensor::empty(shape, *dtype, Device::cpu, "file");
  const uint64_t item = item_bytes(*info.type);
  const uint64_t begin = layout.storage.begin + layout.first * item;
  if (tensor.size() == 0) return tensor;

  uint64_t dense = 1;
  bool contiguous = true;
  for (size_t d = info.shape.size(); d-- > 0; dense *= info.shape[d])
    contiguous = contiguous && (info.shape[d] == 1 || layout.stride[d] == dense);
  const bool rounds = is_f64(*info.type);
  if (contiguous && rounds) {
    round_to_f32(tensor, message("{}: tensor {}", path(), in_quotes(info.name)),
                 [&](uint64_t first, void* to, uint64_t count) {
                   file_.read(begin + first * item, to, count * item);
                 });
    return tensor;
  }
  if (contiguous) {
    file_.read(begin, tensor.raw(), tensor.bytes());
    return tensor;
  }
  const std::string span = file_.read_text(begin, layout.span * item);
  if (!rounds) {
    gather(span.data(), static_cast<char*>(tensor.raw()), info.shape, layout.stride, item);
    return tensor;
  }
  std::vector<char> wide(uint64_t(tensor.size()) * item);
  gather(span.data(), wide.data(), info.shape, layout.stride, item);
  round_to_f32(tensor, message("{}: tensor {}", path(), in_quotes(info.name)),
               [&](uint64_t first, void* to, uint64_t count) {
                 std::memcpy(to, wide.data() + first * item, count * item);
               });
  return tensor;
}

void TorchFile::refuse(const char* kind, const std::string& what) const {
  fail(ErrorKind::bad_input, "{}: {}: {}", file_.path(), kind, what);
}

}  // namespace plume
