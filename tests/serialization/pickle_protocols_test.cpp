// Opcodes of protocols 3 to 5, names that are known, opaque and forbidden.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/core/error.h"
#include "engine/serialization/pickle.h"
#include "tests/serialization/refused_pickles.h"
#include "tests/serialization/torch_writer.h"

namespace plume::pickle_protocols_test {
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
using testing::HasSubstr;
using Kind = PickleValue::Kind;

const std::string kFloats = storage("Float", "0", 4);

std::string short_text(const std::string& s) {
  std::string bytes = "\x8C";
  bytes += char(s.size());
  return bytes += s;
}
std::string stack_global(const std::string& module, const std::string& name) {
  return short_text(module) + short_text(name) + "\x93";
}

void refuse_body(const std::string& body, const std::string& kind, const std::string& what = "") {
  refuse(pickle_of(body), kind, what);
}

PickleValue top_of(const std::string& body) {
  static std::string bytes;
  bytes = pickle_of(body);
  static std::unique_ptr<Pickle> pickle;  // the value's text points into both
  pickle = std::make_unique<Pickle>(bytes, "FILE");
  return pickle->top();
}

TEST(PickleProtocols, EveryHeader) {
  for (const char protocol : {2, 3, 4, 5})
    EXPECT_EQ(Pickle(std::string("\x80") + protocol + "N.", "FILE").size(), 4u);
  for (const char protocol : {0, 1, 6, 127})
    refuse(std::string("\x80") + protocol + "N.", "UnsupportedOpcode", "expected 2 to 5");
  EXPECT_EQ(Pickle(std::string("\x80\4\x95\2\0\0\0\0\0\0\0N.", 13), "FILE").top().kind, Kind::none);
  refuse(std::string("\x80\4\x95\3\0\0\0\0\0\0\0N.", 13), "Limit", "a frame of 3 bytes, 2 are left");
  refuse("\x80\4\x95" + std::string(8, '\xFF') + "N.", "Limit", "a frame");
}

TEST(PickleProtocols, TextsAndBytes) {
  EXPECT_EQ(top_of(short_text("na\xC3\xAFve")).text, "na\xC3\xAFve");
  EXPECT_EQ(top_of("\x8D" + raw(uint64_t{3}) + "abc").text, "abc");
  EXPECT_EQ(top_of("T" + raw(uint32_t{3}) + "abc").kind, Kind::string);
  // What Python 2 calls text may be bytes.
  EXPECT_EQ(top_of("T" + raw(uint32_t{2}) + "\xFF\xFE").kind, Kind::bytes);
  EXPECT_EQ(top_of("U\x02\xFF\xFE").kind, Kind::bytes);
  EXPECT_EQ(top_of("C\x02\xFF\xFE").text, "\xFF\xFE");
  EXPECT_EQ(top_of("B" + raw(uint32_t{2}) + "\xFF\xFE").kind, Kind::bytes);
  EXPECT_EQ(top_of("\x8E" + raw(uint64_t{2}) + "\xFF\xFE").kind, Kind::bytes);
  EXPECT_EQ(top_of("\x96" + raw(uint64_t{2}) + "\xFF\xFE").text, "\xFF\xFE");
  refuse_body(short_text("\xFF"), "PickleCorrupt", "UTF-8");
  refuse_body("\x8D" + raw(UINT64_MAX) + "abc", "Limit");
  refuse_body("\x8E" + raw(UINT64_MAX - 3) + "abc", "Limit");
  refuse_body("\x96" + raw(uint64_t{1} << 40) + "abc", "Limit");
}

TEST(PickleProtocols, Numbers) {
  EXPECT_EQ(top_of("\x8B" + raw(int32_t{2}) + "\xFF\xFF").integer, -1);
  EXPECT_EQ(top_of("\x8B" + raw(int32_t{9}) + std::string(9, '\1')).kind, Kind::big_integer);
  EXPECT_EQ(top_of("I-1099511627776\n").integer, -(int64_t{1} << 40));
  EXPECT_EQ(top_of("I01\n").kind, Kind::boolean);
  refuse_body("\x8B" + raw(int32_t{-1}), "Limit");
  for (const char* line : {"I\n", "I1x\n", "I99999999999999999999\n", "I1.5\n"})
    refuse_body(line, "PickleCorrupt", "INT");
}

TEST(PickleProtocols, StackAndMemo) {
  EXPECT_EQ(top_of("N\x94K\1\x94\x30h\1\x86").items.size(), 2u);  // MEMOIZE counts from 0
  EXPECT_EQ(top_of("Np5\ng5\n\x86").items.size(), 2u);
  EXPECT_EQ(top_of("N2\x86").items.size(), 2u);
  EXPECT_EQ(top_of("K\7(NN1").integer, 7);
  EXPECT_EQ(top_of("K\7(0").integer, 7);  // POP takes a mark
  EXPECT_EQ(top_of("(NNl").kind, Kind::list);
  EXPECT_EQ(top_of("(" + text("k") + "Nd").items.size(), 2u);
  refuse_body("(Nd", "PickleCorrupt", "a key without a value");
  refuse_body("\x94", "PickleCorrupt", "too short");
  refuse_body("Npx\n", "PickleCorrupt", "no number");
  refuse_body("Np99999999\n", "Limit");
  refuse_body("g1\n", "PickleCorrupt", "memo place 1 is empty");
  for (const char* body : {"0", "(2", "2", "]\x90", "N1"}) refuse_body(body, "PickleCorrupt");
}

TEST(PickleProtocols, Sets) {
  EXPECT_EQ(top_of("\x8F(K\1K\2\x90").items.size(), 2u);
  EXPECT_EQ(top_of("(K\1K\2\x91").kind, Kind::set);
  EXPECT_EQ(top_of("c__builtin__\nset\n](K\1K\2e\x85R").kind, Kind::set);  // protocol 2
  refuse_body("](N\x90", "TypeConfusion", "ADDITEMS is a list, expected a set");
  std::string copies = "](" + std::string(50'000, 'N') + "eq\1";
  for (int i = 0; i < 1000; ++i) copies += "c__builtin__\nset\nh\1\x85R0";
  refuse_body(copies + "N", "Limit", "items of sets");
}

TEST(PickleProtocols, TensorsOfEveryKind) {
  const auto head = [&](const std::string& name) {
    return stack_global("torch._utils", name) + "(" + kFloats + integer(0) + test::tuple({2}) +
           test::tuple({1});
  };
  EXPECT_EQ(top_of(head("_rebuild_tensor") + "tR").kind, Kind::tensor);
  EXPECT_EQ(top_of(head("_rebuild_tensor_v2") + "\x89" + kOrderedDict + "tR").kind, Kind::tensor);
  const std::string hooks = kOrderedDict + "K\1" + "cmodels\nhook\ns";
  EXPECT_EQ(top_of(head("_rebuild_tensor_v2") + "\x89" + hooks + "tR").kind, Kind::tensor);
  const std::string v3 = head("_rebuild_tensor_v3") + "\x89" + kOrderedDict + "ctorch\nfloat16\n";
  EXPECT_EQ(top_of(v3 + "tR").items.size(), 5u);
  EXPECT_EQ(top_of(v3 + "}tR").items.size(), 5u);
  const std::string whole = tensor(kFloats, 0, {2}, {1});
  EXPECT_EQ(top_of(stack_global("torch._utils", "_rebuild_parameter_with_state") + "(" + whole + "\x88" +
                   kOrderedDict + dict("") + "tR")
                .kind,
            Kind::tensor);
  const std::string own = "ctorch._tensor\n_rebuild_from_type_v2\n";
  const std::string call = "(" + kFloats + integer(0) + test::tuple({2}) + test::tuple({1}) + "t";
  EXPECT_EQ(top_of(own + "(ctorch._utils\n_rebuild_tensor\ncmodels\nMyTensor\n" + call + "}tR").kind,
            Kind::tensor);
  EXPECT_EQ(top_of("ctorch\nSize\n" + test::tuple({2, 3}) + "\x85R").items.size(), 2u);
  refuse_body(own + "(" + own + "cmodels\nMyTensor\n" + call + "}tR", "TypeConfusion", "of itself");
  refuse_body(head("_rebuild_tensor") + "\x89tR", "TypeConfusion", "5 arguments");
  refuse_body(head("_rebuild_tensor_v3") + "\x89" + kOrderedDict + "NtR", "TypeConfusion", "a tensor's type");
  for (const char* name : {"_rebuild_qtensor", "_rebuild_sparse_tensor", "_rebuild_nested_tensor"})
    refuse_body(head(name) + "tR", "UnsupportedTensor", name);
  refuse_body(storage("QInt8", "0", 4), "UnsupportedTensor", "QInt8Storage");
  refuse_body("ctorch\nFloatStorage\n)R", "TypeConfusion", "REDUCE on torch FloatStorage");
}

// Whatever it is: carried, never made.
TEST(PickleProtocols, OtherObjectsAreOpaque) {
  for (const std::string& name : {std::string("argparse\nNamespace"), std::string("torch\nFloatStorage2"),
                                  std::string("numpy.core.multiarray\nscalar"),
                                  std::string("torch.nn\nParameter"), std::string("models.yolo\nModel"),
                                  std::string("pathlib\nPosixPath"), std::string("_codecs\nencode")}) {
    const std::string global = "c" + name + "\n";
    EXPECT_EQ(top_of(global).kind, Kind::global);
    for (const std::string& made : {global + ")R", global + ")\x81", global + ")}\x92"}) {
      EXPECT_EQ(top_of(made).kind, Kind::opaque) << name;
      EXPECT_EQ(top_of(made).text, name);
      EXPECT_EQ(top_of(made + dict(text("lr") + "N") + "b").kind, Kind::opaque);
      EXPECT_EQ(top_of(made + "N\x86").items.size(), 2u);
    }
  }
  const std::string made = stack_global("addict", "Dict") + ")\x81";
  EXPECT_EQ(top_of(made).text, "addict\nDict");
  EXPECT_EQ(top_of(made + "(" + text("k") + "Nu").items.size(), 2u);  // a class that is a dict
  EXPECT_EQ(top_of(made + "(NNe").items.size(), 0u);
  EXPECT_EQ(top_of(made + "Na").kind, Kind::opaque);
  EXPECT_EQ(top_of(made + ")R").kind, Kind::opaque);
  EXPECT_EQ(top_of("ccopy_reg\n_reconstructor\n(cargparse\nNamespace\nc__builtin__\nobject\nNtR").text,
            "argparse\nNamespace");
  EXPECT_EQ(top_of("ccollections\ndefaultdict\nc__builtin__\nlist\n\x85R(" + text("k") + "Nu").kind,
            Kind::dict);
  EXPECT_EQ(top_of("ccollections\nOrderedDict\n)\x81").kind, Kind::dict);
  refuse_body(made + "NR", "TypeConfusion", "expected a tuple");
  refuse_body("N)\x81", "TypeConfusion", "NEWOBJ's class is None");
  refuse_body("cargparse\nNamespace\n)N\x92", "TypeConfusion", "keywords");
  refuse_body("K\1" + short_text("x") + "\x93", "TypeConfusion", "STACK_GLOBAL's module");
}

TEST(PickleProtocols, ForbiddenGlobal) {
  refuse_body("cposix\nsystem\n(" + text("true") + "tR", "ForbiddenGlobal", "posix system");
  const std::pair<const char*, const char*> forbidden[] = {
      {"os", "system"},
      {"nt", "system"},
      {"os.path", "join"},
      {"subprocess", "Popen"},
      {"sys", "modules"},
      {"builtins", "eval"},
      {"__builtin__", "eval"},
      {"builtins", "getattr"},
      {"builtins", "print"},
      {"socket", "socket"},
      {"importlib", "import_module"},
      {"runpy", "run_path"},
      {"ctypes", "CDLL"},
      {"pickle", "loads"},
      {"operator", "attrgetter"},
      {"webbrowser", "open"},
      {"torch", "load"},
      {"torch.hub", "load"},
      {"torch.storage", "_load_from_bytes"},
      {"torch.serialization", "load"},
      {"torch._utils", "_import_dotted_name"},
      {"types", "FunctionType"},
      {"argparse", "_sys.modules.os.system"},
      {"argparse", "Namespace.__globals__"},
      {"torch", "os"},
      {"", "OrderedDict"},
      {"collections", ""},
  };
  for (const auto& [module, name] : forbidden) {
    refuse_body(std::string("c") + module + "\n" + name + "\n", "ForbiddenGlobal", name);
    refuse_body(stack_global(module, name), "ForbiddenGlobal", name);
    refuse_body(stack_global(module, name) + short_text("true") + "\x85R", "ForbiddenGlobal", name);
  }
  refuse_body(stack_global("os", "a\nb"), "ForbiddenGlobal");
  refuse_body(stack_global("fine", "a\nb"), "ForbiddenGlobal", "no name");
}

TEST(PickleProtocols, UnsupportedOpcode) {
  const std::string known(
      "cRbQ(t\x85\x86\x87)]}N\x88\x89JKMG\x8AXUhjqraesu."
      "\x81\x8B\x8C\x8D\x8E\x8F\x90\x91\x92\x93\x94\x95\x96"
      "BCITdgl0p12");
  for (int opcode = 0; opcode < 256; ++opcode)
    if (known.find(char(opcode)) == std::string::npos)
      refuse_body(std::string(1, char(opcode)), "UnsupportedOpcode", "opcode " + std::to_string(opcode));
  refuse_body("\x97", "UnsupportedOpcode", "NEXT_BUFFER");
  refuse_body("N\x98", "UnsupportedOpcode", "READONLY_BUFFER");
  refuse_body("P0\n", "UnsupportedOpcode", "PERSID");
  refuse_body("\x82\1", "UnsupportedOpcode", "EXT1");
}

TEST(PickleProtocols, NamesAreBounded) {
  refuse_body(text(std::string(400, 'm')) + text(std::string(400, 'n')) + "\x93", "Limit", "a name of 800");
  std::string body;
  for (int i = 0; i < 10'000; ++i) body += text(std::string(250, 'm')) + text(std::to_string(i)) + "\x93\x30";
  refuse_body(body + "N", "Limit", "names of more than");
}

}  // namespace
}  // namespace plume::pickle_protocols_test
