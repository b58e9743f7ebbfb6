// Each class of bad file, what must be accepted, and the writer.
#include "engine/serialization/safetensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cmath>
#include <cstring>
#include <limits>

#include "engine/serialization/safetensors_header.h"
#include "tests/support/test_support.h"

namespace plume::safetensors_test {
namespace {

using test::TemporaryFolder;
using test::write_file;
using testing::HasSubstr;

std::string with_length(uint64_t length, const std::string& rest) {
  std::string bytes(8, '\0');
  std::memcpy(bytes.data(), &length, 8);
  return bytes + rest;
}
std::string file_of(const std::string& header, const std::string& data = "") {
  return with_length(header.size(), header + data);
}
std::string entry(const std::string& dtype, const std::string& shape, const std::string& offsets) {
  return R"({"dtype":")" + dtype + R"(","shape":)" + shape + R"(,"data_offsets":)" + offsets + "}";
}
std::string one(const std::string& dtype, const std::string& shape, const std::string& offsets) {
  return R"({"w":)" + entry(dtype, shape, offsets) + "}";
}

class Safetensors : public testing::Test {
 protected:
  void refuse(const std::string& bytes, const std::string& kind, const std::string& what = "") {
    write_file(path_, bytes);
    try {
      const SafetensorsFile file(path_);
      ADD_FAILURE() << "accepted, expected " << kind << ": " << bytes.substr(0, 200);
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::bad_input);
      EXPECT_THAT(error.what(), testing::StartsWith(path_ + ": " + kind + ": ")) << bytes.substr(0, 200);
      EXPECT_THAT(error.what(), HasSubstr(what));
      EXPECT_THAT(error.what(), testing::Not(HasSubstr("\n")));
      EXPECT_LT(std::strlen(error.what()), 1000u);
    }
  }
  void refuse_header(const std::string& header, const std::string& what = "") {
    refuse(file_of(header), "InvalidHeaderDeserialization", what);
  }
  SafetensorsFile accept(const std::string& bytes) {
    write_file(path_, bytes);
    return SafetensorsFile(path_);
  }

  TemporaryFolder folder_;
  std::string path_ = folder_.file("W.safetensors");
};

TEST_F(Safetensors, S1HeaderTooSmall) {
  for (size_t n = 0; n < 8; ++n) refuse(std::string(n, '\0'), "HeaderTooSmall", std::to_string(n) + " bytes");
}

TEST_F(Safetensors, S2HeaderTooLarge) {
  refuse(with_length(100'000'001, "{}"), "HeaderTooLarge", "100000001");
  refuse(with_length(~uint64_t{0}, "{}"), "HeaderTooLarge");
  refuse("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "HeaderTooLarge",
         "Git LFS pointer");
  refuse("<!DOCTYPE html><html></html>", "HeaderTooLarge", "web page");
  refuse("PK\3\4 and so on", "HeaderTooLarge", "zip archive");
}

TEST_F(Safetensors, S3InvalidHeaderLength) {
  refuse(with_length(3, "{}"), "InvalidHeaderLength", "3 bytes in a file of 10 bytes");
  refuse(with_length(1, ""), "InvalidHeaderLength");
  refuse(with_length(100'000'000, "{}"), "InvalidHeaderLength");
}

TEST_F(Safetensors, S4NotUtf8) {
  for (const char* bad : {"\xFF", "\xC0\xAF", "\xC1\xBF", "\xE0\x80\xAF", "\xED\xA0\x80", "\xF0\x80\x80\x80",
                          "\xF4\x90\x80\x80", "\xF5\x80\x80\x80", "\x80", "\xC3", "\xE2\x82", "\xF0\x9F\x98"})
    refuse(file_of(std::string(R"({"__metadata__":{"a":")") + bad + R"("}})"), "InvalidHeader", "at byte 22");
  refuse(file_of("{}\xC3"), "InvalidHeader", "at byte 2");
  EXPECT_EQ(find_invalid_utf8("a\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80\xEE\x80\x80\xF4\x8F\xBF\xBF"),
            std::string_view::npos);
}

TEST_F(Safetensors, S5NotJson) {
  refuse_header("{", "at byte");
  refuse_header("");
  refuse_header("   ");
  refuse_header(std::string("{}\0\0\0", 5), "NUL at byte 2");
  refuse_header("\xEF\xBB\xBF{}", "byte-order mark");
  refuse_header(R"({"__metadata__":{"a":"b"},})");
  refuse_header(R"({"w":{"dtype":"F32","shape":[1,],"data_offsets":[0,4]}})");
  refuse_header("{} {}");
  refuse_header("{}x");
  refuse_header("// comment\n{}");
  refuse_header("{'w':1}");
  refuse_header(R"({"__metadata__":{"a":NaN}})");
  refuse_header(R"({"__metadata__":{"a":Infinity}})");
  refuse_header(R"({"__metadata__":{"a":"\ud800"}})");
  refuse_header(R"({"__metadata__":{"a":"\udc00\ud800"}})");
  refuse_header("{\"__metadata__\":{\"a\":\"line\nbreak\"}}");
  refuse_header(std::string(100'000, '['));
  refuse_header(R"({"w":{"other":)" + std::string(100'000, '['), "nested too deep");
  std::string objects = R"({"w":)";
  for (int i = 0; i < 100'000; ++i) objects += R"({"a":)";
  refuse_header(objects);
  for (const char* root : {"[]", "null", "true", "7", "-7", "1.5", "\"text\""})
    refuse_header(root, "expected an object");
}

TEST_F(Safetensors, S6WrongFields) {
  refuse_header(R"({"w":{"shape":[1],"data_offsets":[0,4]}})", "tensor 'w' has no dtype");
  refuse_header(R"({"w":{"dtype":"F32","data_offsets":[0,4]}})", "tensor 'w' has no shape");
  refuse_header(R"({"w":{"dtype":"F32","shape":[1]}})", "tensor 'w' has no data_offsets");
  refuse_header(R"({"w":{}})", "no dtype");
  refuse_header(one("F31", "[1]", "[0,4]"), "dtype 'F31' is unknown");
  refuse_header(one("f32", "[1]", "[0,4]"), "unknown");
  for (const char* extent : {"-1", "1.5", "1e3", "1.0", "\"2\"", "18446744073709551616", "1e400", "null",
                             "true", "[1]", "{}", "-0"})
    refuse_header(one("F32", std::string("[") + extent + "]", "[0,4]"));
  for (const char* offsets : {"[0]", "[]", "[0,4,8]", "[0,-4]", "[0,4.0]", "[\"0\",4]", "4", "null", "{}"})
    refuse_header(one("F32", "[1]", offsets), "tensor 'w'");
  for (const char* shape : {"1", "null", "\"[1]\"", "{}"})
    refuse_header(one("F32", shape, "[0,4]"), "shape is");
  for (const char* dtype : {"1", "null", "[]", "{}"})
    refuse_header(std::string(R"({"w":{"dtype":)") + dtype + R"(,"shape":[],"data_offsets":[0,4]}})",
                  "dtype is");
  for (const char* value : {"1", "null", "true", "1.5", "[]", "{}"})
    refuse_header(std::string(R"({"__metadata__":{"a":)") + value + "}}", "expected a string");
  for (const char* value : {"1", "null", "[]", "\"x\""}) {
    refuse_header(std::string(R"({"__metadata__":)") + value + "}", "expected an object");
    refuse_header(std::string(R"({"w":)") + value + "}", "tensor 'w' is");
  }
}

TEST_F(Safetensors, StricterThanTheFormat) {
  const std::string w = R"("w":)" + entry("F32", "[0]", "[0,0]");
  refuse_header("{" + w + "," + w + "}", "tensor 'w' is there twice");
  refuse_header("{" + w + R"(,"\u0077":)" + entry("F32", "[0]", "[0,0]") + "}", "there twice");
  refuse_header(R"({"w":{"dtype":"F32","dtype":"F32","shape":[0],"data_offsets":[0,0]}})",
                "key 'dtype' is there twice");
  refuse_header(R"({"__metadata__":{"a":"b","a":"b"}})", "key 'a' is there twice");
  refuse_header(R"({"__metadata__":{},"__metadata__":{}})", "there twice");
  refuse_header(one("F32", "[0,1,1,1,1,1,1,1,1]", "[0,0]"), "rank above 8");
  refuse_header(R"({"a\u0000b":)" + entry("F32", "[0]", "[0,0]") + "}", "NUL");
  refuse_header("{\"" + std::string(1025, 'n') + "\":" + entry("F32", "[0]", "[0,0]") + "}", "1024");
  std::string many = "{";
  for (int i = 0; i <= 65'536; ++i)
    many +=
        (i > 0 ? ",\"" : "\"") + std::to_string(i) + R"(":{"dtype":"U8","shape":[0],"data_offsets":[0,0]})";
  refuse_header(many + "}", "more than 65536 tensors");
}

TEST_F(Safetensors, S7InvalidOffset) {
  const auto two = [](const std::string& a, const std::string& b) {
    return file_of(R"({"a":)" + entry("U8", "[4]", a) + R"(,"b":)" + entry("U8", "[4]", b) + "}", "12345678");
  };
  refuse(two("[0,4]", "[5,9]"), "InvalidOffset", "tensor 'b' begins at 5, expected 4");
  refuse(two("[0,4]", "[3,7]"), "InvalidOffset", "tensor 'b' begins at 3, expected 4");
  refuse(two("[0,4]", "[0,4]"), "InvalidOffset", "tensor 'b' begins at 0, expected 4");
  refuse(two("[4,8]", "[8,12]"), "InvalidOffset", "tensor 'a' begins at 4, expected 0");
  refuse(two("[0,4]", "[4,3]"), "InvalidOffset", "tensor 'b' ends at 3, before its begin 4");
  refuse(two("[18446744073709551612,0]", "[0,4]"), "InvalidOffset", "tensor 'a'");
  refuse(file_of(R"({"bad\nname":)" + entry("U8", "[4]", "[1,5]") + "}", "12345"), "InvalidOffset",
         "bad\\x0aname");
}

TEST_F(Safetensors, S8ValidationOverflow) {
  refuse(file_of(one("U8", "[2,18446744073709551614]", "[0,0]")), "ValidationOverflow", "tensor 'w'");
  refuse(file_of(one("I32", "[2,9223372036854775807]", "[0,0]")), "ValidationOverflow", "tensor 'w'");
  refuse(file_of(one("U8", "[9223372036854775808,2,0]", "[0,0]")), "ValidationOverflow");
  refuse(file_of(one("U8", "[2305843009213693952]", "[0,0]")), "ValidationOverflow");
}

TEST_F(Safetensors, S9MisalignedSlice) {
  refuse(file_of(one("F4", "[3]", "[0,1]"), "x"), "MisalignedSlice", "12 bits");
  refuse(file_of(one("F6_E2M3", "[2]", "[0,1]"), "x"), "MisalignedSlice", "12 bits");
  refuse(file_of(one("F6_E3M2", "[1]", "[0,0]")), "MisalignedSlice", "6 bits");
}

TEST_F(Safetensors, S10TensorInvalidInfo) {
  refuse(file_of(one("F32", "[2]", "[0,4]"), "1234"), "TensorInvalidInfo", "4 bytes, expected 8 for F32 [2]");
  refuse(file_of(one("F32", "[1]", "[0,8]"), "12345678"), "TensorInvalidInfo");
  refuse(file_of(one("F32", "[0]", "[0,4]"), "1234"), "TensorInvalidInfo");
  refuse(file_of(one("F32", "[]", "[0,0]")), "TensorInvalidInfo");
}

TEST_F(Safetensors, S11MetadataIncompleteBuffer) {
  refuse(file_of(one("F32", "[2]", "[0,8]"), "123456"), "MetadataIncompleteBuffer",
         "6 bytes of tensors, expected 8");
  refuse(file_of(one("F32", "[2]", "[0,8]"), "12345678x"), "MetadataIncompleteBuffer", "9 bytes");
  refuse(file_of("{}", "x"), "MetadataIncompleteBuffer");
  refuse(file_of(one("F32", "[1000000000000]", "[0,4000000000000]"), "12345678"), "MetadataIncompleteBuffer");
}

TEST_F(Safetensors, RefusesWhatIsNoFile) {
  const auto refuse_path = [](const std::string& path, const std::string& what) {
    try {
      const SafetensorsFile file(path);
      ADD_FAILURE() << "opened " << path;
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::bad_input);
      EXPECT_THAT(error.what(), testing::AllOf(HasSubstr(path), HasSubstr(what)));
    }
  };
  refuse_path(folder_.file("absent"), "No such file");
  refuse_path(folder_.path().string(), "a folder");
  refuse_path("/dev/zero", "is a device");
  ASSERT_EQ(::mkfifo(folder_.file("pipe").c_str(), 0600), 0);
  refuse_path(folder_.file("pipe"), "is a pipe");
}

TEST_F(Safetensors, AcceptsEmptyFiles) {
  EXPECT_TRUE(accept(file_of("{}")).tensors().empty());
  EXPECT_TRUE(accept(file_of(" \t\r\n{ } \n\t ")).tensors().empty());
  EXPECT_EQ(accept(file_of(R"({"__metadata__":{"k":"v\u00e9","":""}})")).metadata().at("k"), "v\xC3\xA9");
}

TEST_F(Safetensors, AcceptsScalarsEmptyTensorsAndAnyKeyOrder) {
  const float value = 1.5f;
  std::string data(4, '\0');
  std::memcpy(data.data(), &value, 4);
  const SafetensorsFile file = accept(
      file_of(R"({"z":{"data_offsets":[4,4],"shape":[2,0],"dtype":"F32"},)"
              R"("a":{"shape":[],"extra":{"x":[1,null,{"y":-1.5}]},"data_offsets":[0,4],"dtype":"F32"}})",
              data));
  ASSERT_EQ(file.tensors().size(), 2u);
  EXPECT_EQ(file.tensors()[0].name, "a");
  EXPECT_EQ(file.read(*file.find("a")).shape(), Shape{});
  EXPECT_EQ(file.read(*file.find("a")).item(), 1.5f);
  EXPECT_EQ(file.read(*file.find("z")).shape(), (Shape{2, 0}));
  EXPECT_EQ(file.find("b"), nullptr);
}

TEST_F(Safetensors, AcceptsUnalignedTensors) {
  const float values[] = {3.25f, -0.5f};
  std::string data = "x";
  data.append(reinterpret_cast<const char*>(values), 8);
  for (const char* padding : {"", " ", "  ", "   ", "    "}) {
    const SafetensorsFile file = accept(file_of(
        R"({"a":)" + entry("U8", "[1]", "[0,1]") + R"(,"b":)" + entry("F32", "[2]", "[1,9]") + "}" + padding,
        data));
    EXPECT_EQ(file.read(*file.find("b")).to_vector<float>(), (std::vector<float>{3.25f, -0.5f}));
  }
}

TEST_F(Safetensors, AcceptsNanAndInfinity) {
  const float values[] = {std::nanf(""), INFINITY, -INFINITY};
  const SafetensorsFile file =
      accept(file_of(one("F32", "[3]", "[0,12]"), std::string(reinterpret_cast<const char*>(values), 12)));
  const std::vector<float> read = file.read(*file.find("w")).to_vector<float>();
  EXPECT_TRUE(std::isnan(read[0]));
  EXPECT_EQ(read[1], INFINITY);
  EXPECT_EQ(read[2], -INFINITY);
}

TEST_F(Safetensors, AcceptsEmptyShapesThatNoTensorHas) {
  const SafetensorsFile file = accept(file_of(one("I32", "[0,18446744073709551615,2]", "[0,0]")));
  EXPECT_THROW(file.read(file.tensors()[0]), Error);
  const SafetensorsFile wide = accept(file_of(one("I32", "[0,4611686018427387904,4]", "[0,0]")));
  try {
    wide.read(wide.tensors()[0]);
    ADD_FAILURE();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::bad_input);
    EXPECT_THAT(error.what(), HasSubstr("UnsupportedShape"));
  }
}

TEST_F(Safetensors, KnowsEveryTypeOfTheFormat) {
  std::set<std::string> names;
  for (const FormatDType& type : format_dtypes()) {
    names.insert(type.name);
    const std::string bytes(size_t(type.bits), '\1');  // eight elements
    const SafetensorsFile file =
        accept(file_of(one(type.name, "[8]", "[0," + std::to_string(type.bits) + "]"), bytes));
    const TensorInfo& info = file.tensors()[0];
    if (type.dtype) {
      EXPECT_EQ(file.read(info).dtype(), *type.dtype);
      EXPECT_EQ(size_of(*type.dtype) * 8, size_t(type.bits));
      EXPECT_STREQ(format_dtype(*type.dtype).name, type.name);
    } else if (type.name == std::string("F64")) {
      EXPECT_EQ(file.read(info).dtype(), DType::f32);  // double_precision_test.cpp says more
    } else {
      try {
        file.read(info);
        ADD_FAILURE() << type.name;
      } catch (const Error& error) {
        EXPECT_THAT(error.what(), HasSubstr("UnsupportedDtype: tensor 'w' is " + std::string(type.name)));
      }
    }
  }
  EXPECT_EQ(names.size(), 22u);
}

TEST_F(Safetensors, AcceptsTheMostTensors) {
  std::string many = "{";
  for (int i = 0; i < 65'536; ++i)
    many +=
        (i > 0 ? ",\"" : "\"") + std::to_string(i) + R"(":{"dtype":"U8","shape":[0],"data_offsets":[0,0]})";
  EXPECT_EQ(accept(file_of(many + "}")).tensors().size(), 65'536u);
}

TEST_F(Safetensors, ReadsFixturesWrittenByPython) {
  const SafetensorsFile file(test::fixture("resnet18.safetensors"));
  const TensorInfo* logits = file.find("32.logits_eval");
  ASSERT_NE(logits, nullptr);
  EXPECT_EQ(logits->describe(), "F32 [8, 1000]");
  for (const float v : file.read(*logits).to_vector<float>()) ASSERT_TRUE(std::isfinite(v));
}

}  // namespace
}  // namespace plume::safetensors_test
