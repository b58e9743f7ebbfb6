// The global names that a reader of PyTorch's files has to know. "both" is module, line feed, name.
#pragma once
#include <string>
#include <string_view>

namespace plume {

enum class KnownGlobal : uint8_t {
  other,  // anything: a class or function whose objects stay opaque
  ordered_dict,
  dict,
  set,
  size,     // torch.Size
  storage,  // torch.FloatStorage and so on, torch.UntypedStorage
  rebuild_tensor,
  rebuild_tensor_v2,
  rebuild_tensor_v3,
  rebuild_parameter,  // with or without state
  rebuild_from_type,
  unsupported_tensor,  // tensors that are more than a storage and strides, and their storages
};
KnownGlobal known_global(std::string_view both);

// What attacks on readers of pickles are made of: modules that start processes, open connections, import or
// compile, and the few functions of PyTorch that read pickles in turn. Of builtins the plain types are free.
bool is_forbidden_global(std::string_view module, std::string_view attribute);

bool is_reconstructor(std::string_view both);  // copyreg._reconstructor

// The element type of a storage's class in the words of safetensors ("F32"; "U8" for untyped storages, which
// count bytes), or of torch.float32 and so on; null for another name.
const char* storage_element(std::string_view both);
const char* dtype_element(std::string_view both);

std::string readable_name(std::string_view both);  // "torch._utils _rebuild_tensor_v2", at most 200 bytes

}  // namespace plume
