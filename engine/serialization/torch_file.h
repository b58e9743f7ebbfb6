// Dictionaries of tensors as torch.save() writes them, alone or inside checkpoints, zipped (since PyTorch
// 1.6) or in the older form of five pickles, read without running anything.
#pragma once
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "engine/files/input_file.h"
#include "engine/serialization/pickle.h"
#include "engine/serialization/safetensors.h"
#include "engine/serialization/zip_archive.h"

namespace plume {

// An open file, checked in full: every tensor lies in its storage, every storage in the file.
//
// Throws bad_input: "PATH: CLASS: ...", CLASS being one of those of zip_archive.h and pickle.h, or
//   BadArchive            zipped form: no data.pkl, entries in two folders, big-endian, TorchScript
//   BadLegacyFile         older form: wrong magic number or version, big-endian, keys that are not those of
//                         the storages in use or are there twice, cut short, trailing bytes
//   LegacyTar             the form before that
//   StorageSizeMismatch   a storage whose bytes are not those its type and count want, or that is not there
//   TensorOutOfStorage    negative or too large size, stride or offset; rank above 8; more elements than the
//                         storage; an element outside it, or a view outside its root
//   NotStateDict          there is no dictionary from text to tensors in it
//   Limit                 more than 65,536 tensors, or together beyond kMaxExpansion times the file
// Strides are free; names as in safetensors: at most 1 KiB, no NUL.
class TorchFile {
 public:
  static constexpr uint64_t kMaxExpansion = 16;

  explicit TorchFile(const std::string& path);

  const std::string& path() const { return file_.path(); }
  uint64_t size() const { return file_.size(); }
  bool legacy() const { return legacy_; }
  // A dictionary with tensors in it. Where there are some with tensors of two or more dimensions, as every
  // network has, only these count. Optimisers' (under "optim...") are left alone.
  struct Dictionary {
    std::string key;                  // keys on the way to it, "model_ema.module"; empty: the top
    size_t first = 0, count = 0;      // of tensors()
    std::vector<std::string> others;  // the first few of what is in it besides tensors
    size_t other_count = 0;
  };
  const std::vector<Dictionary>& dictionaries() const { return dictionaries_; }
  // Of one dictionary after the other. `begin` and `end` count the bytes of all tensors, back to back.
  const std::vector<TensorInfo>& tensors() const { return tensors_; }
  // One of tensors(), contiguous and on the host; F64 is rounded to f32. Throws bad_input (UnsupportedDtype
  // for what this engine cannot hold, BeyondF32 for a number that has no f32).
  Tensor read(const TensorInfo& info) const;

 private:
  struct Storage {
    const FormatDType* type = nullptr;
    uint64_t begin = 0;  // in the file
    uint64_t count = 0;  // elements
  };
  struct Layout {  // in elements
    uint64_t first = 0, span = 0;
    std::vector<uint64_t> stride;
    Storage storage;
  };

  using Storages = std::map<std::string, Storage>;  // by key

  void open_zip();
  void open_legacy();
  Storages declared_storages(const Pickle& pickle) const;  // `begin` is not set
  void read_dictionaries(const Pickle& pickle, const Storages& storages);
  void read_dictionary(const Pickle& pickle, const PickleValue& dict, const std::string& key,
                       const Storages& storages);
  [[noreturn]] void refuse_object(const Pickle& pickle) const;
  void read_tensor(const Pickle& pickle, const std::string& name, const PickleValue& value,
                   const Storages& storages);
  Storage storage_of(const Pickle& pickle, const PickleValue& value, const Storages& storages,
                     const std::string& tensor) const;
  [[noreturn]] void refuse(const char* kind, const std::string& what) const;

  InputFile file_;
  bool legacy_ = false;
  std::vector<Dictionary> dictionaries_;
  std::vector<TensorInfo> tensors_;
  std::vector<Layout> layouts_;  // of each tensor
};

}  // namespace plume
