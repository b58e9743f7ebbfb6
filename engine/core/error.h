// Errors: one clear line that names the operation or file, what was found and what was expected.
//
// Library code throws Error and never exits; tools/ turns the kind into an exit code.
#pragma once
#include <initializer_list>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>

namespace plume {

// The value is the exit code of a tool that stops on such an error.
enum class ErrorKind : int {
  internal = 1,   // a broken promise inside the library
  usage = 2,      // flags, configuration, arguments of an operation
  bad_input = 3,  // a file that is missing, damaged or of another kind
  resource = 4,   // memory, disk, device
  numeric = 5,    // NaN or infinity where none may be
};

class Error : public std::runtime_error {
 public:
  Error(ErrorKind kind, const std::string& message) : std::runtime_error(message), kind_(kind) {}
  explicit Error(const std::string& message) : Error(ErrorKind::usage, message) {}
  ErrorKind kind() const { return kind_; }
  int exit_code() const { return int(kind_); }

 private:
  ErrorKind kind_;
};

namespace detail {
// Replaces each "{}" by the next argument. Plain strings keep the formatting library out of every header,
// and out of nvcc.
std::string format_strings(std::string_view pattern, std::initializer_list<std::string> args);

inline std::string text(bool b) { return b ? "true" : "false"; }
std::string text(double v);  // shortest form that reads back
inline std::string text(float v) { return text(double(v)); }
template <class T>
std::string text(const T& v) {
  if constexpr (std::is_convertible_v<const T&, std::string_view>) {
    return std::string(std::string_view(v));
  } else {
    using std::to_string;
    return to_string(v);
  }
}
}  // namespace detail

// message("{} has {} channels", "weight", 3)
template <class... Args>
std::string message(std::string_view pattern, const Args&... args) {
  return detail::format_strings(pattern, {detail::text(args)...});
}

template <class... Args>
[[noreturn]] void fail(ErrorKind kind, std::string_view pattern, const Args&... args) {
  throw Error(kind, message(pattern, args...));
}

}  // namespace plume

// Throws a usage error unless the condition holds. Formatting happens only on failure.
#define PLUME_CHECK(condition, ...)                                          \
  do {                                                                       \
    if (!(condition)) ::plume::fail(::plume::ErrorKind::usage, __VA_ARGS__); \
  } while (false)
