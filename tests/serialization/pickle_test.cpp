// The restricted reader of pickles: what it takes, and each class of what it refuses.
#include "engine/serialization/pickle.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/core/error.h"
#include "tests/serialization/refused_pickles.h"
#include "tests/serialization/torch_writer.h"

namespace plume::pickle_test {
namespace {

using test::dict;
using test::integer;
using test::kOrderedDict;
using test::pickle_of;
using test::raw;
using test::refuse;
using test::storage;
using test::tensor;
using test::text;
using Kind = PickleValue::Kind;

const std::string kFloats = storage("Float", "0", 4);
const std::string kRebuild = "ctorch._utils\n_rebuild_tensor_v2\n";
const std::string kParameter = "ctorch._utils\n_rebuild_parameter\n";

void refuse_body(const std::string& body, const std::string& kind, const std::string& what = "") {
  refuse(pickle_of(body), kind, what);
}

PickleValue top_of(const std::string& body) {
  static std::string bytes;  // the value's text points into it
  bytes = pickle_of(body);
  return Pickle(bytes, "FILE").top();
}

TEST(Pickle, Values) {
  EXPECT_EQ(top_of("N").kind, Kind::none);
  EXPECT_EQ(top_of("\x88").integer, 1);
  EXPECT_EQ(top_of("\x89").kind, Kind::boolean);
  EXPECT_EQ(top_of("K\xFF").integer, 255);
  EXPECT_EQ(top_of("M\xE9\x03").integer, 1001);
  EXPECT_EQ(top_of("J" + raw(int32_t{-5})).integer, -5);
  EXPECT_EQ(top_of(std::string("\x8A\x00", 2)).integer, 0);
  EXPECT_EQ(top_of("\x8A\x01\xFF").integer, -1);
  EXPECT_EQ(top_of(std::string("\x8A\x02\xFF\x00", 4)).integer, 255);
  EXPECT_EQ(top_of("\x8A\x08" + raw(INT64_MIN)).integer, INT64_MIN);
  EXPECT_EQ(top_of("\x8A\x09" + std::string(9, '\1')).kind, Kind::big_integer);
  EXPECT_EQ(top_of("G" + std::string(8, '\0')).kind, Kind::real);
  EXPECT_EQ(top_of(text("na\xC3\xAFve")).text, "na\xC3\xAFve");
  EXPECT_EQ(top_of("U\x03"
                   "abc")
                .text,
            "abc");
  EXPECT_EQ(top_of(")").kind, Kind::tuple);
  EXPECT_EQ(top_of("NNN\x87").items.size(), 3u);
  EXPECT_EQ(top_of("](NNe").items.size(), 2u);
  EXPECT_EQ(top_of("]Na").items.size(), 1u);
  EXPECT_EQ(top_of("}" + text("k") + "Ns").items.size(), 2u);
  EXPECT_EQ(top_of(dict(text("k") + "N" + text("l") + "N")).items.size(), 4u);
  EXPECT_EQ(top_of("Nq\x05h\x05\x86").items.size(), 2u);
  EXPECT_EQ(top_of("Nr" + raw(uint32_t{70'000}) + "j" + raw(uint32_t{70'000}) + "\x86").items.size(), 2u);
}

TEST(Pickle, OrderedDictsAndParameters) {
  EXPECT_EQ(top_of(kOrderedDict + "}b").kind, Kind::dict);
  // As Python 2 writes it.
  const PickleValue pairs =
      top_of("ccollections\nOrderedDict\n](" + ("](" + text("a") + "Ne") + text("b") + "N\x86" + "e\x85R");
  EXPECT_EQ(pairs.kind, Kind::dict);
  EXPECT_EQ(pairs.items.size(), 4u);
  EXPECT_EQ(top_of(tensor(kFloats, 0, {2}, {1})).kind, Kind::tensor);
  EXPECT_EQ(top_of(kParameter + "(" + tensor(kFloats, 0, {2}, {1}) + "\x88" + kOrderedDict + "tR").kind,
            Kind::tensor);
}

TEST(Pickle, EndsAtStop) {
  const std::string bytes = pickle_of("N") + pickle_of("K\1");
  const Pickle first(bytes, "FILE");
  EXPECT_EQ(first.size(), 4u);
  const Pickle second(std::string_view(bytes).substr(first.size()), "FILE");
  EXPECT_EQ(second.top().integer, 1);
}

TEST(Pickle, TypeConfusion) {
  refuse_body(text("f") + ")R", "TypeConfusion", "REDUCE is text, expected a global name");
  refuse_body("ccollections\nOrderedDict\nNR", "TypeConfusion", "expected a tuple");
  refuse_body("ccollections\nOrderedDict\nNN\x86R", "TypeConfusion", "2 arguments");
  refuse_body("ccollections\nOrderedDict\nN\x85R", "TypeConfusion", "expected a list");
  refuse_body("ccollections\nOrderedDict\n]Na\x85R", "TypeConfusion", "an item of OrderedDict");
  refuse_body("ccollections\nOrderedDict\n])a\x85R", "TypeConfusion", "0 parts");
  refuse_body("ctorch\nFloatStorage\n)R", "TypeConfusion", "REDUCE on torch FloatStorage");
  refuse_body("]" + text("k") + "Ns", "TypeConfusion", "SETITEM is a list, expected a dict");
  refuse_body("N(" + text("k") + "Nu", "TypeConfusion");
  refuse_body("}Na", "TypeConfusion", "APPEND is a dict, expected a list");
  refuse_body("}(Ne", "TypeConfusion");
  refuse_body("]}b", "TypeConfusion", "BUILD is a list, expected a dict");
  refuse_body("ctorch\nFloatStorage\n)b", "TypeConfusion", "BUILD is a global name");
  refuse_body(tensor(kFloats, 0, {2}, {1}) + "}b", "TypeConfusion", "BUILD is a tensor");
  refuse_body("}" + text("s") + "b", "TypeConfusion", "BUILD's state");

  refuse_body("NQ", "TypeConfusion", "BINPERSID is None");
  refuse_body(")Q", "TypeConfusion", "0 parts");
  refuse_body("(NNNNNtQ", "TypeConfusion");
  const auto id = [](const std::string& word, const std::string& type, const std::string& key,
                     const std::string& count) {
    return "(" + word + type + key + text("cpu") + count + "tQ";
  };
  const std::string type = "ctorch\nFloatStorage\n";
  refuse_body(id(text("module"), type, text("0"), "K\1"), "TypeConfusion", "expected a storage");
  refuse_body(id(text("storage"), text("torch.FloatStorage"), text("0"), "K\1"), "TypeConfusion");
  refuse_body(id(text("storage"), "ccollections\nOrderedDict\n", text("0"), "K\1"), "TypeConfusion");
  refuse_body(id(text("storage"), type, "K\1", "K\1"), "TypeConfusion", "a storage's key");
  refuse_body(id(text("storage"), type, text("0"), text("1")), "TypeConfusion", "a storage's count");
  refuse_body(storage("Float", "0", 4, text("view")), "TypeConfusion", "a view is text");
  refuse_body(storage("Float", "0", 4, "NN\x86"), "TypeConfusion", "a view of 2 parts");
  refuse_body(storage("Float", "0", 4, "NNN\x87"), "TypeConfusion", "a view's key");

  const std::string sizes = test::tuple({2}), rest = "\x89" + kOrderedDict;
  refuse_body(kRebuild + "(tR", "TypeConfusion", "0 arguments");
  refuse_body(kRebuild + "(" + text("s") + "K\1" + sizes + sizes + rest + "tR", "TypeConfusion");
  refuse_body(kRebuild + "(" + kFloats + "N" + sizes + sizes + rest + "tR", "TypeConfusion", "offset");
  refuse_body(kRebuild + "(" + kFloats + "K\1" + "N" + sizes + rest + "tR", "TypeConfusion", "size");
  refuse_body(kRebuild + "(" + kFloats + "K\1" + sizes + "]" + rest + "tR", "TypeConfusion", "stride");
  refuse_body(kRebuild + "(" + kFloats + "K\1" + "(Nt" + sizes + rest + "tR", "TypeConfusion");
  refuse_body(kRebuild + "(" + kFloats + "K\1" + sizes + sizes + "N" + kOrderedDict + "tR", "TypeConfusion");
  refuse_body(kRebuild + "(" + kFloats + "K\1" + sizes + sizes + "\x89N" + "tR", "TypeConfusion", "hooks");
  refuse_body(kParameter + "(" + kFloats + "\x88" + kOrderedDict + "tR", "TypeConfusion", "a parameter");
}

TEST(Pickle, Corrupt) {
  refuse("", "PickleCorrupt");
  refuse("N.", "PickleCorrupt", "protocol");
  refuse("\x80\x02", "PickleCorrupt");
  refuse("\x80\x02N", "PickleCorrupt", "left");
  refuse_body("", "PickleCorrupt", "0 values");
  refuse_body("NN", "PickleCorrupt", "2 values");
  refuse_body("(N", "PickleCorrupt", "1 marks");
  refuse_body("(", "PickleCorrupt");
  for (const char* body :
       {"R",   "NR",  "b",     "Nb",     "Q",    "\x85",  "N\x86", "NN\x87", "a",    "]a",    "s",
        "}Ns", "q\1", "(\x85", "N(\x85", "](Na", "}(NNs", "N(b",   "(e",     "(NNu", "}((NNu"})
    refuse_body(body, "PickleCorrupt", "the stack is too short");
  for (const char* body : {"t", "Nt", "e", "]Ne", "u", "}NNu"})
    refuse_body(body, "PickleCorrupt", "there is no mark");
  refuse_body("}(Nu", "PickleCorrupt", "a key without a value");
  refuse_body("h\1", "PickleCorrupt", "memo place 1 is empty");
  refuse_body("Nq\1j" + raw(uint32_t{257}), "PickleCorrupt", "memo place 257");
  refuse_body(text("\xFF"), "PickleCorrupt", "UTF-8");
  refuse(
      "\x80\x02"
      "ccollections",
      "PickleCorrupt", "a name without an end");
  refuse("\x80\x02J\1\2", "PickleCorrupt");
}

TEST(Pickle, ContainsItself) {
  refuse_body("}q\1" + text("k") + "h\1s", "PickleCorrupt", "a dict contains itself");
  refuse_body("]q\1h\1a", "PickleCorrupt", "a list contains itself");
  refuse_body("}q\1" + text("k") + "]h\1as", "PickleCorrupt", "contains itself");
  // The same value twice is no circle.
  EXPECT_EQ(top_of("]q\1h\1\x86").items.size(), 2u);
  std::string nested;
  for (int i = 0; i < 90'000; ++i) nested += "]";
  for (int i = 1; i < 90'000; ++i) nested += "a";
  EXPECT_EQ(top_of(nested).kind, Kind::list);
}

TEST(Pickle, Limit) {
  refuse_body("Nr" + raw(uint32_t{0xFFFFFFFF}), "Limit", "4294967295");
  refuse_body("X" + raw(uint32_t{0xFFFFFFFF}) + "abc", "Limit", "4294967295 bytes");
  refuse_body("X" + raw(uint32_t{1000}) + "abc", "Limit", "1000 bytes");
  refuse_body(
      "U\xFF"
      "abc",
      "Limit", "255 bytes");
  refuse_body(std::string(1'000'000, '('), "Limit", "marks");
  refuse_body(std::string(1'000'000, 'N'), "Limit", "on the stack");
  refuse_body("c" + std::string(1000, 'x') + "\ny\n", "Limit");
  std::string many = "]";
  for (int i = 0; i < 2'200'000; ++i) many += "Na";
  refuse_body(many, "Limit", "values");
  std::string copies = "](";
  for (int i = 0; i < 50'000; ++i) copies += "NN\x86";
  copies += "eq\1";
  for (int i = 0; i < 1000; ++i) copies += "ccollections\nOrderedDict\nh\1\x85R";
  refuse_body(copies, "Limit", "items of dicts");
  std::string longer = "\x80\x02N";
  while (longer.size() <= Pickle::kMaxBytes) longer += "q\1";
  refuse(longer, "Limit", "longer than 16777216 bytes");
}

TEST(Pickle, EveryTruncation) {
  const std::string bytes = pickle_of(dict(text("a") + tensor(kFloats, 0, {2}, {1})));
  for (size_t n = 0; n < bytes.size(); ++n)
    EXPECT_THROW(Pickle(std::string_view(bytes).substr(0, n), "FILE"), Error) << n;
}

}  // namespace
}  // namespace plume::pickle_test
