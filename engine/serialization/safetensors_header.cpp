#include "engine/serialization/safetensors_header.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <unordered_set>

namespace plume {
namespace {

using Json = nlohmann::json;

constexpr size_t kMaxTensors = 65'536, kMaxName = 1024;
constexpr int kMaxDepth = 32;  // of fields this reader does not know; the known ones need 3
constexpr const char* kMetadata = "__metadata__";

// Receives the text token by token; nothing is built from it but what it must hold. A callback that returns
// false stops the parser, and `problem` says why.
class HeaderReader : public nlohmann::json_sax<Json> {
 public:
  SafetensorsHeader result;
  std::string problem;

  bool null() override { return scalar("null"); }
  bool boolean(bool) override { return scalar("true or false"); }
  bool number_integer(number_integer_t) override { return scalar("a negative number"); }
  bool number_float(number_float_t, const string_t&) override {
    return scalar("a number that is not a 64-bit integer in plain digits");
  }
  bool binary(binary_t&) override { return scalar("binary data"); }

  bool number_unsigned(number_unsigned_t value) override {
    if (place_ == Place::shape) {
      if (tensor_.shape.size() == size_t(Shape::kMaxRank)) return stop("shape has a rank above 8");
      tensor_.shape.push_back(value);
      return true;
    }
    if (place_ == Place::offsets) {
      if (offsets_ == 2) return stop("data_offsets has more than 2 numbers");
      (offsets_++ == 0 ? tensor_.begin : tensor_.end) = value;
      return true;
    }
    return scalar("a number");
  }

  bool string(string_t& value) override {
    if (place_ == Place::metadata) {
      result.metadata[key_] = std::move(value);
      return true;
    }
    if (place_ == Place::tensor && key_ == "dtype") {
      const auto types = format_dtypes();
      const auto type =
          std::find_if(types.begin(), types.end(), [&](const FormatDType& t) { return t.name == value; });
      if (type == types.end()) return stop("dtype " + in_quotes(value) + " is unknown");
      tensor_.type = &*type;
      return true;
    }
    return scalar("a string");
  }

  bool key(string_t& value) override {
    if (place_ == Place::root) {
      if (value.size() > kMaxName) return stop("a name of more than 1024 bytes");
      if (value.find('\0') != std::string::npos) return stop("a name with a NUL character");
      if (!names_.insert(value).second) return stop("is there twice", value);
    } else if (place_ == Place::tensor || place_ == Place::metadata) {
      if (!fields_.insert(value).second) return stop("key " + in_quotes(value) + " is there twice");
    }
    (place_ == Place::root ? name_ : key_) = std::move(value);
    return true;
  }

  bool start_object(size_t) override {
    switch (place_) {
      case Place::outside:
        place_ = Place::root;
        return true;
      case Place::root:
        fields_.clear();
        tensor_ = TensorInfo{};
        tensor_.name = name_;
        shape_seen_ = offsets_seen_ = false;
        place_ = name_ == kMetadata ? Place::metadata : Place::tensor;
        return true;
      default:
        return open("an object");
    }
  }

  bool end_object() override {
    switch (place_) {
      case Place::tensor:
        place_ = Place::root;
        return finish_tensor();
      case Place::metadata:
        place_ = Place::root;
        return true;
      case Place::root:
        place_ = Place::outside;
        return true;
      default:
        return close();
    }
  }

  bool start_array(size_t) override {
    if (place_ == Place::tensor && key_ == "shape") {
      place_ = Place::shape;
      return shape_seen_ = true;
    }
    if (place_ == Place::tensor && key_ == "data_offsets") {
      place_ = Place::offsets;
      offsets_ = 0;
      return offsets_seen_ = true;
    }
    return open("an array");
  }

  bool end_array() override {
    if (place_ == Place::offsets && offsets_ != 2)
      return stop(message("data_offsets has {} numbers, expected 2", offsets_));
    if (place_ != Place::shape && place_ != Place::offsets) return close();
    place_ = Place::tensor;
    return true;
  }

  bool parse_error(size_t position, const std::string&, const Json::exception&) override {
    // The parser's own text may quote megabytes of the file.
    problem = message("not JSON at byte {} of the header", position);
    return false;
  }

 private:
  enum class Place : uint8_t { outside, root, metadata, tensor, shape, offsets, unknown };

  bool stop(const std::string& what, const std::string& name) {
    problem = message("tensor {} {}", in_quotes(name), what);
    return false;
  }
  bool stop(const std::string& what) {
    if (place_ == Place::metadata) problem = std::string(kMetadata) + ": " + what;
    if (place_ == Place::outside || place_ == Place::root) problem = what;
    return problem.empty() ? stop(what, name_) : false;
  }

  // What a value of the wrong kind is called, wherever it stands.
  bool misplaced(const std::string& what) {
    switch (place_) {
      case Place::outside:
        return stop("is " + what + ", expected an object");
      case Place::root:
        return stop("is " + what + ", expected an object", name_);
      case Place::metadata:
        return stop("the value of " + in_quotes(key_) + " is " + what + ", expected a string");
      case Place::shape:
        return stop("shape holds " + what);
      case Place::offsets:
        return stop("data_offsets holds " + what);
      default:
        return stop(key_ + " is " + what);
    }
  }

  bool known_field() const { return key_ == "dtype" || key_ == "shape" || key_ == "data_offsets"; }

  bool scalar(const char* what) {
    if (place_ == Place::unknown || (place_ == Place::tensor && !known_field())) return true;
    return misplaced(what);
  }
  bool open(const char* what) {
    if (place_ == Place::tensor && !known_field()) {
      place_ = Place::unknown;
      depth_ = 1;
      return true;
    }
    if (place_ != Place::unknown) return misplaced(what);
    return ++depth_ <= kMaxDepth || stop("nested too deep");
  }
  bool close() {
    if (--depth_ == 0) place_ = Place::tensor;
    return true;
  }

  bool finish_tensor() {
    if (tensor_.type == nullptr) return stop("has no dtype", name_);
    if (!shape_seen_) return stop("has no shape", name_);
    if (!offsets_seen_) return stop("has no data_offsets", name_);
    if (result.tensors.size() == kMaxTensors) return stop("more than 65536 tensors");
    result.tensors.push_back(std::move(tensor_));
    return true;
  }

  Place place_ = Place::outside;
  std::string name_, key_;
  TensorInfo tensor_;
  bool shape_seen_ = false, offsets_seen_ = false;
  int offsets_ = 0, depth_ = 0;
  std::unordered_set<std::string> names_, fields_;
};

}  // namespace

size_t find_invalid_utf8(std::string_view text) {
  size_t i = 0;
  const auto byte = [&](size_t k) { return k < text.size() ? uint8_t(text[k]) : uint8_t{0}; };
  while (i < text.size()) {
    const uint8_t a = byte(i);
    if (a < 0x80) {
      ++i;
      continue;
    }
    const int more = a >= 0xC2 && a <= 0xDF ? 1 : a >= 0xE0 && a <= 0xEF ? 2 : a >= 0xF0 && a <= 0xF4 ? 3 : 0;
    if (more == 0) return i;
    for (int k = 1; k <= more; ++k)
      if ((byte(i + size_t(k)) & 0xC0) != 0x80) return i;
    const uint8_t b = byte(i + 1);
    const bool overlong = (a == 0xE0 && b < 0xA0) || (a == 0xF0 && b < 0x90);
    const bool surrogate = a == 0xED && b >= 0xA0, beyond = a == 0xF4 && b >= 0x90;
    if (overlong || surrogate || beyond) return i;
    i += size_t(more) + 1;
  }
  return std::string_view::npos;
}

SafetensorsHeader parse_safetensors_header(const std::string& text, const std::string& path) {
  if (const size_t bad = find_invalid_utf8(text); bad != std::string::npos)
    fail(ErrorKind::bad_input, "{}: InvalidHeader: not UTF-8 at byte {} of the header", path, bad);
  // The JSON library takes a byte-order mark for white space and NUL for the end.
  const size_t nul = text.find('\0');
  if (nul != std::string::npos || text.starts_with("\xEF\xBB\xBF"))
    fail(ErrorKind::bad_input, "{}: InvalidHeaderDeserialization: {}", path,
         nul != std::string::npos ? message("NUL at byte {} of the header", nul)
                                  : "begins with a byte-order mark");
  HeaderReader reader;
  if (!Json::sax_parse(text, &reader))
    fail(ErrorKind::bad_input, "{}: InvalidHeaderDeserialization: {}", path, reader.problem);
  return std::move(reader.result);
}

}  // namespace plume
