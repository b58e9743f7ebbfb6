#include "engine/serialization/pickle_names.h"

#include <algorithm>

namespace plume {
namespace {

struct Named {
  std::string_view both;
  KnownGlobal known;
};
constexpr Named kNamed[] = {
    {"collections\nOrderedDict", KnownGlobal::ordered_dict},
    {"collections\ndefaultdict", KnownGlobal::dict},
    {"builtins\ndict", KnownGlobal::dict},
    {"__builtin__\ndict", KnownGlobal::dict},
    {"builtins\nset", KnownGlobal::set},
    {"builtins\nfrozenset", KnownGlobal::set},
    {"__builtin__\nset", KnownGlobal::set},
    {"__builtin__\nfrozenset", KnownGlobal::set},
    {"torch\nSize", KnownGlobal::size},
    {"torch._utils\n_rebuild_tensor", KnownGlobal::rebuild_tensor},
    {"torch._utils\n_rebuild_tensor_v2", KnownGlobal::rebuild_tensor_v2},
    {"torch._utils\n_rebuild_tensor_v3", KnownGlobal::rebuild_tensor_v3},
    {"torch._utils\n_rebuild_parameter", KnownGlobal::rebuild_parameter},
    {"torch._utils\n_rebuild_parameter_with_state", KnownGlobal::rebuild_parameter},
    {"torch._tensor\n_rebuild_from_type", KnownGlobal::rebuild_from_type},
    {"torch._tensor\n_rebuild_from_type_v2", KnownGlobal::rebuild_from_type},
    {"torch._utils\n_rebuild_qtensor", KnownGlobal::unsupported_tensor},
    {"torch._utils\n_rebuild_sparse_tensor", KnownGlobal::unsupported_tensor},
    {"torch._utils\n_rebuild_sparse_csr_tensor", KnownGlobal::unsupported_tensor},
    {"torch._utils\n_rebuild_nested_tensor", KnownGlobal::unsupported_tensor},
    {"torch._utils\n_rebuild_meta_tensor_no_storage", KnownGlobal::unsupported_tensor},
    {"torch._utils\n_rebuild_wrapper_subclass", KnownGlobal::unsupported_tensor},
    {"torch._utils\n_rebuild_device_tensor_from_numpy", KnownGlobal::unsupported_tensor},
    {"torch._utils\n_rebuild_xla_tensor", KnownGlobal::unsupported_tensor},
    {"torch\nQInt8Storage", KnownGlobal::unsupported_tensor},
    {"torch\nQUInt8Storage", KnownGlobal::unsupported_tensor},
    {"torch\nQInt32Storage", KnownGlobal::unsupported_tensor},
    {"torch\nQUInt4x2Storage", KnownGlobal::unsupported_tensor},
    {"torch\nQUInt2x4Storage", KnownGlobal::unsupported_tensor},
    {"torch\nComplexDoubleStorage", KnownGlobal::unsupported_tensor},
};

struct Element {
  std::string_view torch;
  const char* element;
};
constexpr Element kStorages[] = {
    {"FloatStorage", "F32"},        {"DoubleStorage", "F64"}, {"HalfStorage", "F16"},
    {"BFloat16Storage", "BF16"},    {"CharStorage", "I8"},    {"ByteStorage", "U8"},
    {"ShortStorage", "I16"},        {"IntStorage", "I32"},    {"LongStorage", "I64"},
    {"BoolStorage", "BOOL"},        {"UntypedStorage", "U8"}, {"_UntypedStorage", "U8"},
    {"ComplexFloatStorage", "C64"},
};
constexpr Element kDTypes[] = {
    {"float32", "F32"},
    {"float", "F32"},
    {"float64", "F64"},
    {"double", "F64"},
    {"float16", "F16"},
    {"half", "F16"},
    {"bfloat16", "BF16"},
    {"int8", "I8"},
    {"uint8", "U8"},
    {"int16", "I16"},
    {"uint16", "U16"},
    {"int32", "I32"},
    {"uint32", "U32"},
    {"int64", "I64"},
    {"uint64", "U64"},
    {"bool", "BOOL"},
    {"complex64", "C64"},
    {"float8_e5m2", "F8_E5M2"},
    {"float8_e4m3fn", "F8_E4M3"},
    {"float8_e5m2fnuz", "F8_E5M2FNUZ"},
    {"float8_e4m3fnuz", "F8_E4M3FNUZ"},
};

// With all that lies below them.
constexpr std::string_view kForbiddenModules[] = {
    "_ctypes",
    "_frozen_importlib",
    "_frozen_importlib_external",
    "_imp",
    "_io",
    "_operator",
    "_pickle",
    "_posixsubprocess",
    "_socket",
    "_thread",
    "aiohttp",
    "asyncio",
    "atexit",
    "bdb",
    "cPickle",
    "cffi",
    "code",
    "codeop",
    "commands",
    "ctypes",
    "distutils",
    "doctest",
    "ensurepip",
    "fileinput",
    "ftplib",
    "gc",
    "http",
    "httplib",
    "imp",
    "importlib",
    "inspect",
    "io",
    "linecache",
    "marshal",
    "mmap",
    "multiprocessing",
    "nt",
    "operator",
    "os",
    "pdb",
    "pickle",
    "pip",
    "pkgutil",
    "platform",
    "popen2",
    "posix",
    "profile",
    "pty",
    "pydoc",
    "requests",
    "runpy",
    "setuptools",
    "shelve",
    "shutil",
    "signal",
    "smtplib",
    "socket",
    "socketserver",
    "ssl",
    "subprocess",
    "sys",
    "tempfile",
    "threading",
    "timeit",
    "trace",
    "urllib",
    "urllib2",
    "urllib3",
    "venv",
    "webbrowser",
    "xmlrpc",
    "zipimport",
    "torch.hub",
    "torch.jit",
    "torch.package",

    "torch.utils.cpp_extension",
};
constexpr std::string_view kForbiddenFunctions[] = {
    "torch\nload",
    "torch.serialization\nload",
    "torch.serialization\n_load",
    "torch.serialization\n_legacy_load",
    "torch.serialization\nsave",
    "torch\nsave",
    "torch\ncompile",
    "torch.storage\n_load_from_bytes",
    "torch._utils\n_import_dotted_name",
    "torch\n_load_from_bytes",
    "types\nCodeType",
    "types\nFunctionType",
    "numpy\nload",
    "numpy.testing._private.utils\nrunstring",
    "joblib\nload",
    "functools\nreduce",
};
constexpr std::string_view kReachThrough[] = {
    "os",          "sys",          "subprocess",       "builtins",
    "__import__",  "__builtins__", "__getattribute__", "__subclasses__",
    "__globals__",
};
constexpr std::string_view kPlainTypes[] = {
    "object",  "set",   "frozenset", "list",   "dict",     "tuple",          "int",
    "long",    "float", "bool",      "str",    "unicode",  "bytes",          "bytearray",
    "complex", "slice", "range",     "xrange", "Ellipsis", "NotImplemented",
};

template <class List>
bool holds(const List& list, std::string_view text) {
  return std::find(std::begin(list), std::end(list), text) != std::end(list);
}

template <class List>
const char* element(const List& list, std::string_view name) {
  for (const Element& e : list)
    if (e.torch == name) return e.element;
  return nullptr;
}

// The name without the module, where the module is one of those given.
std::string_view name_in(std::string_view both, std::initializer_list<std::string_view> modules) {
  const size_t end = both.find('\n');
  for (const std::string_view module : modules)
    if (end != std::string_view::npos && both.substr(0, end) == module) return both.substr(end + 1);
  return {};
}

}  // namespace

KnownGlobal known_global(std::string_view both) {
  for (const Named& named : kNamed)
    if (named.both == both) return named.known;
  return storage_element(both) != nullptr ? KnownGlobal::storage : KnownGlobal::other;
}

bool is_forbidden_global(std::string_view module, std::string_view attribute) {
  if (module == "builtins" || module == "__builtin__") return !holds(kPlainTypes, attribute);
  for (std::string_view part = module;;) {
    if (holds(kForbiddenModules, part)) return true;
    const size_t dot = part.rfind('.');
    if (dot == std::string_view::npos) break;
    part = part.substr(0, dot);
  }
  // A dotted name reaches through its module.
  for (std::string_view rest = attribute;;) {
    const size_t dot = rest.find('.');
    const std::string_view component = rest.substr(0, dot);
    if (holds(kReachThrough, component)) return true;
    if (dot == std::string_view::npos) break;
    rest = rest.substr(dot + 1);
  }
  std::string both(module);
  both += '\n';
  both += attribute;
  return holds(kForbiddenFunctions, both);
}

bool is_reconstructor(std::string_view both) {
  return both == "copyreg\n_reconstructor" || both == "copy_reg\n_reconstructor";
}

const char* storage_element(std::string_view both) {
  return element(kStorages, name_in(both, {"torch", "torch.cuda", "torch.storage"}));
}

const char* dtype_element(std::string_view both) { return element(kDTypes, name_in(both, {"torch"})); }

std::string readable_name(std::string_view both) {
  constexpr size_t kLongest = 200;
  std::string text(both.substr(0, kLongest));
  for (char& c : text)
    if (uint8_t(c) < 0x20 || uint8_t(c) == 0x7F) c = ' ';
  return text;
}

}  // namespace plume
