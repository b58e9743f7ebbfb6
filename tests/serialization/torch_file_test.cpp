// PyTorch's files in both forms: what is legal, and each class of wrong file.
#include "engine/serialization/torch_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "tests/serialization/torch_writer.h"
#include "tests/support/test_support.h"

namespace plume::torch_file_test {
namespace {

using test::dict;
using test::Legacy;
using test::pickle_of;
using test::raw;
using test::storage;
using test::tensor;
using test::text;
using test::ZipEnd;
using test::ZipItem;
using testing::ElementsAre;
using testing::HasSubstr;

template <class T>
std::string bytes_of(const std::vector<T>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T)};
}
std::string ramp(int count) {
  std::vector<float> values;
  for (int i = 0; i < count; ++i) values.push_back(float(i));
  return bytes_of(values);
}

std::string one(const std::string& value) { return pickle_of(dict(text("w") + value)); }
std::string floats(int64_t count) { return storage("Float", "0", count); }

std::vector<ZipItem> items_of(const std::string& pickle, const std::string& record) {
  return {{.name = "top/data.pkl", .content = pickle},
          {.name = "top/data/0", .content = record},
          {.name = "top/version", .content = "3\n"}};
}

class TorchFileTest : public testing::Test {
 protected:
  void refuse(const std::string& bytes, const std::string& kind, const std::string& what = "") {
    test::write_file(path_, bytes);
    try {
      const TorchFile file(path_);
      ADD_FAILURE() << "accepted, expected " << kind << " " << what;
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::bad_input);
      EXPECT_THAT(error.what(), testing::StartsWith(path_ + ": "));
      EXPECT_THAT(error.what(), HasSubstr(": " + kind + ": "));
      EXPECT_THAT(error.what(), HasSubstr(what));
      EXPECT_THAT(error.what(), testing::Not(HasSubstr("\n")));
      EXPECT_LT(std::strlen(error.what()), 1000u);
    }
  }
  void refuse_zip(const std::vector<ZipItem>& items, const std::string& kind, const std::string& what = "",
                  const ZipEnd& end = {}) {
    refuse(test::zip_of(items, end), kind, what);
  }
  void refuse_pickle(const std::string& pickle, const std::string& kind, const std::string& what = "",
                     int count = 4) {
    refuse_zip(items_of(pickle, ramp(count)), kind, what);
  }
  std::vector<float> read(const std::string& bytes) {
    test::write_file(path_, bytes);
    const TorchFile file(path_);
    return file.read(file.tensors().at(0)).to_vector<float>();
  }

  test::TemporaryFolder folder_;
  std::string path_ = folder_.file("W.pth");
  const std::string good_ = one(tensor(floats(4), 0, {2, 2}, {2, 1}));
};

TEST_F(TorchFileTest, AcceptsWhatIsLegal) {
  EXPECT_THAT(read(test::zip_of(items_of(good_, ramp(4)))), ElementsAre(0, 1, 2, 3));
  EXPECT_THAT(read(test::zip_of(items_of(good_, ramp(4)), {.zip64 = true})), ElementsAre(0, 1, 2, 3));
  std::vector<ZipItem> items = items_of(good_, ramp(4));
  items[1].size_in_extra = true;
  items[1].extra = raw(uint16_t{1}) + raw(uint16_t{16}) + raw(uint64_t{16}) + raw(uint64_t{16});
  EXPECT_THAT(read(test::zip_of(items)), ElementsAre(0, 1, 2, 3));
  items = items_of(good_, ramp(4));
  items.push_back({.name = "top/byteorder", .content = "little"});
  EXPECT_THAT(read(test::zip_of(items)), ElementsAre(0, 1, 2, 3));

  const auto strided = [&](int64_t offset, const std::vector<int64_t>& size,
                           const std::vector<int64_t>& stride) {
    return read(test::zip_of(items_of(one(tensor(floats(6), offset, size, stride)), ramp(6))));
  };
  EXPECT_THAT(strided(0, {3, 2}, {1, 3}), ElementsAre(0, 3, 1, 4, 2, 5));
  EXPECT_THAT(strided(1, {2, 2}, {3, 1}), ElementsAre(1, 2, 4, 5));
  EXPECT_THAT(strided(2, {2, 1, 2}, {0, 1000, 1}), ElementsAre(2, 3, 2, 3));
  EXPECT_THAT(strided(5, {}, {}), ElementsAre(5));
  EXPECT_THAT(strided(5, {1}, {7}), ElementsAre(5));
  EXPECT_THAT(strided(6, {0, 4}, {4, 1}), ElementsAre());
  EXPECT_THAT(strided(0, {1, 1, 1, 1, 1, 1, 2, 2}, {9, 9, 9, 9, 9, 9, 1, 3}), ElementsAre(0, 3, 1, 4));
  EXPECT_TRUE(TorchFile(path_).tensors()[0].has_shape({1, 1, 1, 1, 1, 1, 2, 2}));

  test::write_file(path_, test::zip_of(items_of(pickle_of("}"), "")));
  EXPECT_TRUE(TorchFile(path_).tensors().empty());
  test::write_file(path_,
                   test::zip_of(items_of(one(tensor(storage("Double", "0", 1), 0, {1}, {1})), ramp(2))));
  const TorchFile wide(path_);
  EXPECT_EQ(wide.tensors()[0].describe(), "F64 [1]");
  EXPECT_EQ(wide.read(wide.tensors()[0]).dtype(), DType::f32);
}

TEST_F(TorchFileTest, BadZip) {
  const std::vector<ZipItem> good = items_of(good_, ramp(4));
  refuse("PK", "ZipNoEndRecord");
  refuse("PK\3\4" + std::string(100, '\0'), "ZipNoEndRecord");
  refuse(test::zip_of(good) + "x", "ZipNoEndRecord");
  refuse_zip(good, "ZipMultiDisk", "part 1", {.disk = 1});
  refuse_zip(good, "ZipContradiction", "", {.more_entries = 1});
  refuse_zip(good, "ZipContradiction", "directory", {.more_offset = 1});
  refuse_zip(good, "ZipContradiction", "two end records differ", {.more_entries = 1, .zip64 = true});
  refuse_zip(good, "ZipContradiction", "two end records differ", {.zip64 = true, .more_entries64 = 1});
  refuse_zip(good, "ZipContradiction", "not there", {.more_entries = 0xFFFF - 3});
  refuse_zip(good, "Limit", "entries",
             {.more_entries = 0xFFFF - 3, .zip64 = true, .more_entries64 = uint64_t{1} << 60});

  const auto with = [&](auto change, size_t i = 1) {
    std::vector<ZipItem> items = good;
    change(items[i]);
    return items;
  };
  refuse_zip(with([](ZipItem& i) { i.flags = 1; }), "ZipEncrypted", "'top/data/0'");
  refuse_zip(with([](ZipItem& i) { i.flags = 1 << 13; }), "ZipEncrypted");
  refuse_zip(with([](ZipItem& i) { i.method = 8; }), "ZipCompressed", "method 8");
  refuse_zip(with([](ZipItem& i) { i.name = "top/code/__torch__/net.py", i.method = 8; }), "ZipCompressed",
             "torch.jit.save() writes them");
  refuse_zip(with([](ZipItem& i) { i.local_signature = 0; }), "ZipLocalHeader");
  refuse_zip(with([](ZipItem& i) { i.local_name = "top/data/1"; }), "ZipLocalHeader");
  refuse_zip(with([](ZipItem& i) { i.local_name = "top/data/10"; }), "ZipLocalHeader");
  refuse_zip(with([](ZipItem& i) { i.wrong_size = 1; }), "ZipLocalHeader", "size");
  refuse_zip(with([](ZipItem& i) { i.wrong_crc = 1; }), "ZipLocalHeader", "checksum");
  refuse_zip(with([](ZipItem& i) { i.wrong_header = 1; }), "ZipLocalHeader");
  refuse_zip(with([](ZipItem& i) { i.wrong_header = 1 << 30; }), "ZipOutOfFile", "'top/data/0'");
  refuse_zip(with([](ZipItem& i) { i.wrong_size = 1 << 30; }), "ZipTooLarge");
  refuse_zip(with([](ZipItem& i) { i.size_in_extra = true; }), "ZipContradiction", "zip64 field");
  refuse_zip(with([](ZipItem& i) { i.extra = raw(uint16_t{1}) + raw(uint16_t{8}) + raw(uint64_t{16}); }),
             "ZipContradiction", "zip64 fields beyond");
  refuse_zip(with([](ZipItem& i) { i.extra = raw(uint16_t{1}) + raw(uint16_t{80}); }), "ZipContradiction");
  refuse_zip(with([](ZipItem& i) { i.name = i.local_name = "top/version"; }), "ZipDuplicateName");
  for (const std::string name :
       {"../data/0", "top/../data", "/top/data/0", "top/..", "c:top", "top\\data", "\xFF", ""})
    refuse_zip(with([&](ZipItem& i) { i.name = name; }), "ZipBadName");
  refuse_zip(with([](ZipItem& i) { i.name = std::string("top/a\0b", 7); }), "ZipBadName", "NUL");

  // The second entry's header lies in the first one's content.
  const std::string inner = test::zip_of({{.name = "top/b", .content = "bb"}});
  std::vector<ZipItem> nested = {{.name = "top/a", .content = inner.substr(0, 37)},
                                 {.name = "top/b", .content = "bb"}};
  nested[1].wrong_header = -37;
  refuse_zip(nested, "ZipOverlap", "'top/b'");

  std::string damaged = test::zip_of(good);
  damaged[damaged.find(ramp(4)) + 5] ^= 1;
  refuse(damaged, "ZipCrcMismatch", "'top/data/0'");
}

TEST_F(TorchFileTest, BadArchive) {
  const std::vector<ZipItem> good = items_of(good_, ramp(4));
  refuse_zip({}, "BadArchive", "no data.pkl");
  refuse_zip({good[1]}, "BadArchive", "no data.pkl");
  refuse_zip({good[0], good[1], {.name = "other/version", .content = "3\n"}}, "BadArchive", "two folders");
  refuse_zip({{.name = "data.pkl", .content = good_}}, "BadArchive", "in no folder");
  std::vector<ZipItem> items = good;
  items.push_back({.name = "top/byteorder", .content = "big"});
  refuse_zip(items, "BadArchive", "big-endian");
  items.back().content = "BIGGER";
  refuse_zip(items, "BadArchive", "big-endian");
  items.back() = {.name = "top/constants.pkl", .content = pickle_of(")")};
  refuse_zip(items, "BadArchive", "TorchScript");
  refuse_zip(items_of(std::string(Pickle::kMaxBytes + 1, 'N'), ""), "Limit", "data.pkl has 16777217 bytes");
  refuse_pickle(good_ + "x", "PickleCorrupt", "data.pkl ends");
  refuse_pickle(pickle_of("cposix\nsystem\n(" + text("true") + "tR"), "ForbiddenGlobal", "posix system");
}

TEST_F(TorchFileTest, StorageSizeMismatch) {
  const std::string layout = one(tensor(floats(4), 0, {1}, {1}));
  refuse_pickle(layout, "StorageSizeMismatch", "20 bytes, expected 4 elements of F32", 5);
  refuse_pickle(layout, "StorageSizeMismatch", "", 3);
  refuse_pickle(one(tensor(storage("Half", "0", 4), 0, {1}, {1})), "StorageSizeMismatch");
  refuse_pickle(one(tensor(floats(-1), 0, {1}, {1})), "StorageSizeMismatch", "-1 elements");
  refuse_pickle(one(tensor(floats((int64_t{1} << 62) + 4), 0, {1}, {1})), "StorageSizeMismatch");
  refuse_pickle(one(tensor(storage("Float", "7", 4), 0, {1}, {1})), "StorageSizeMismatch",
                "'7' is not there");
  refuse_pickle(one(tensor(storage("Float", "../data/0", 4), 0, {1}, {1})), "StorageSizeMismatch");
  const std::string two = text("a") + tensor(floats(4), 0, {1}, {1}) + text("b");
  refuse_pickle(pickle_of(dict(two + tensor(storage("Int", "0", 4), 0, {1}, {1}))), "StorageSizeMismatch",
                "in two ways");
  refuse_pickle(pickle_of(dict(two + tensor(floats(3), 0, {1}, {1}))), "StorageSizeMismatch", "in two ways");
}

TEST_F(TorchFileTest, TensorOutOfStorage) {
  const auto out = [&](int64_t offset, const std::vector<int64_t>& size, const std::vector<int64_t>& stride,
                       const std::string& what = "tensor 'w'") {
    refuse_pickle(one(tensor(floats(4), offset, size, stride)), "TensorOutOfStorage", what);
  };
  constexpr int64_t kHuge = INT64_MAX;
  out(-1, {1}, {1}, "begins at element -1");
  out(0, {-1}, {1}, "size -1");
  out(0, {1}, {-1}, "stride -1");
  out(0, {5}, {1}, "element 4 of a storage of 4");
  out(1, {4}, {1});
  out(4, {}, {});
  out(5, {0}, {1});
  out(kHuge, {1}, {1});
  out(0, {2}, {4});
  out(0, {2}, {kHuge});
  out(2, {3}, {kHuge}, "too large");
  out(kHuge, {3}, {kHuge - 1}, "too large");
  out(0, {kHuge, kHuge}, {0, 0}, "too large");
  out(0, {5}, {0}, "5 elements in a storage of 4");
  out(0, {1 << 20, 1 << 20}, {0, 0});
  out(0, {2, 2}, {1}, "2 sizes and 1 strides");
  out(0, {1, 1, 1, 1, 1, 1, 1, 1, 1}, {1, 1, 1, 1, 1, 1, 1, 1, 1}, "at most 8");
}

TEST_F(TorchFileTest, NotStateDict) {
  const std::string w = tensor(floats(4), 0, {1}, {1});
  refuse_pickle(pickle_of(w), "NotStateDict", "holds a tensor");
  refuse_pickle(pickle_of("]" + w + "a"), "NotStateDict", "holds a list");
  refuse_pickle(pickle_of("N"), "NotStateDict", "holds None");
  refuse_pickle(pickle_of(dict(text("epoch") + "K\1")), "NotStateDict", "'epoch' is an integer");
  refuse_pickle(pickle_of(dict(text("model") + "cmodels\nYolo\n)R")), "NotStateDict",
                "'model' is an object of models Yolo");
  refuse_pickle(pickle_of("cmodels\nYolo\n)R"), "NotStateDict", "holds an object of models Yolo");
  // An optimiser's are not a network's.
  refuse_pickle(pickle_of(dict(text("optimizer") + dict(text("w") + w))), "NotStateDict", "'optimizer'");
  refuse_pickle(pickle_of(dict("K\1" + w)), "NotStateDict", "an integer for a key");
  refuse_pickle(pickle_of(dict(text("w") + w + text("w") + w)), "NotStateDict", "twice");
  refuse_pickle(pickle_of(dict(text(std::string(1025, 'n')) + w)), "NotStateDict");
  refuse_pickle(pickle_of(dict(text(std::string("a\0b", 3)) + w)), "NotStateDict");
  refuse_pickle(pickle_of(dict(text("__metadata__") + w)), "NotStateDict");
}

TEST_F(TorchFileTest, Limits) {
  std::string entries = text("n") + tensor(floats(4), 0, {1}, {1}) + "q\1s";
  for (int i = 0; i < 65'536; ++i) entries += text(std::to_string(i)) + "h\1s";
  refuse_pickle(pickle_of("}" + entries), "Limit", "more than 65536 tensors");
  // Names are short, so that the tensors, which share one storage, soon have more bytes than the file allows.
  std::string shared = text("n") + tensor(floats(1000), 0, {1000}, {1}) + "q\1s";
  for (int i = 0; i < 1000; ++i) shared += text(std::to_string(i)) + "h\1s";
  refuse_pickle(pickle_of("}" + shared), "Limit", "16 times", 1000);
}

// One long text as the key of many entries: none of them is copied.
TEST_F(TorchFileTest, LongKeysManyTimes) {
  const std::string longest = text(std::string(4 << 20, 'k')) + "q\1N";
  std::string batches = dict(text("w") + tensor(floats(4), 0, {4}, {1}) + longest);
  for (int i = 0; i < 6; ++i) {
    batches += "(";
    for (int k = 0; k < 45'000; ++k) batches += "h\1N";
    batches += "u";
  }
  test::write_file(path_, test::zip_of(items_of(pickle_of(batches), ramp(4))));
  const TorchFile file(path_);
  EXPECT_EQ(file.tensors().size(), 1u);
  ASSERT_EQ(file.dictionaries().size(), 1u);
  EXPECT_EQ(file.dictionaries()[0].other_count, 270'001u);
  EXPECT_LT(file.dictionaries()[0].others.size(), 10u);
}

TEST_F(TorchFileTest, DictionariesInside) {
  const std::string w = tensor(floats(4), 0, {2, 2}, {2, 1}), bias = tensor(floats(4), 0, {4}, {1});
  const auto keys = [&](const std::string& object) {
    test::write_file(path_, test::zip_of(items_of(pickle_of(object), ramp(4))));
    std::vector<std::string> found;
    const TorchFile file(path_);
    for (const TorchFile::Dictionary& d : file.dictionaries())
      found.push_back(d.key + ":" + std::to_string(d.count));
    return found;
  };
  const std::string net = dict(text("w") + w + text("b") + bias);
  EXPECT_THAT(keys(net), ElementsAre(":2"));
  EXPECT_THAT(keys(dict(text("net") + net + text("acc") + bias)), ElementsAre("net:2"));
  EXPECT_THAT(keys(dict(text("a") + net + text("b") + dict(text("c") + net))), ElementsAre("a:2", "b.c:2"));
  EXPECT_THAT(keys(dict(text("a") + dict(text("b") + bias))), ElementsAre("a:1"));  // for want of better
  EXPECT_THAT(keys("](" + net + "K\1e"), ElementsAre("0:2"));
  EXPECT_THAT(keys(dict(text("net") + "caddict\nDict\n)\x81(" + text("w") + w + "u")), ElementsAre("net:1"));
  EXPECT_THAT(keys(dict(text("net") + net + "K\1" + net + text("optimizer_G") + net)), ElementsAre("net:2"));
}

// Dictionaries that lie in one another in more ways than could be followed.
TEST_F(TorchFileTest, DictionariesByManyWays) {
  std::string nested = dict(text("w") + tensor(floats(4), 0, {2, 2}, {2, 1}));
  for (int i = 0; i < 7; ++i) nested += "q\1" + std::string("0}(") + text("a") + "h\1" + text("b") + "h\1u";
  test::write_file(path_, test::zip_of(items_of(pickle_of(nested), ramp(4))));
  const TorchFile file(path_);
  ASSERT_EQ(file.dictionaries().size(), 1u);
  EXPECT_EQ(file.dictionaries()[0].key, "a.a.a.a.a.a.a");
}

Legacy legacy_of(const std::string& object) {
  Legacy legacy;
  legacy.object = object;
  legacy.keys = {"0"};
  legacy.storages = raw(int64_t{4}) + ramp(4);
  return legacy;
}

TEST_F(TorchFileTest, LegacyForm) {
  const std::string view = text("v") + test::integer(1) + test::integer(3) + "\x87";
  const auto object = [&](const std::string& from, int64_t offset, int64_t count) {
    return dict(text("w") + tensor(from, offset, {count}, {1}));
  };
  EXPECT_THAT(read(legacy_of(object(floats(4), 1, 2)).bytes()), ElementsAre(1, 2));
  EXPECT_THAT(read(legacy_of(object(storage("Float", "0", 4, "N"), 0, 4)).bytes()), ElementsAre(0, 1, 2, 3));
  EXPECT_THAT(read(legacy_of(object(storage("Float", "0", 4, view), 1, 2)).bytes()), ElementsAre(2, 3));

  refuse(legacy_of(object(storage("Float", "0", 4, view), 1, 3)).bytes(), "TensorOutOfStorage");
  for (const auto& [first, count] :
       {std::pair<int64_t, int64_t>{2, 3}, {5, 0}, {-1, 2}, {0, -1}, {INT64_MAX, 1}})
    refuse(legacy_of(object(storage("Float", "0", 4,
                                    text("v") + test::integer(first) + test::integer(count) + "\x87"),
                            0, 0))
               .bytes(),
           "TensorOutOfStorage", "a view of");

  const Legacy good = legacy_of(object(floats(4), 0, 4));
  const auto with = [&](auto change) {
    Legacy legacy = good;
    change(legacy);
    return legacy.bytes();
  };
  refuse(with([](Legacy& l) { l.magic[3] ^= 1; }), "BadLegacyFile", "magic number");
  refuse(with([](Legacy& l) { l.magic = "K\1"; }), "BadLegacyFile", "magic number");
  refuse(with([](Legacy& l) { l.version = 1002; }), "BadLegacyFile", "another version");
  refuse(with([](Legacy& l) { l.system = "N"; }), "BadLegacyFile", "which system");
  refuse(with([](Legacy& l) { l.system = dict(text("little_endian") + "\x89"); }), "BadLegacyFile",
         "big-endian");
  refuse(with([](Legacy& l) { l.object = "cposix\nsystem\n"; }), "ForbiddenGlobal");
  refuse(with([](Legacy& l) {
           l.keys = {};
           l.storages = "";
         }),
         "BadLegacyFile", "lists 0 storages");
  refuse(with([](Legacy& l) { l.keys = {"1"}; }), "BadLegacyFile", "'1', which no tensor uses");
  refuse(with([](Legacy& l) { l.keys = {"0", "0"}; }), "BadLegacyFile", "'0' twice");
  refuse(with([](Legacy& l) { l.storages = raw(int64_t{3}) + ramp(3); }), "StorageSizeMismatch",
         "3 elements");
  refuse(with([](Legacy& l) { l.storages = raw(int64_t{-4}) + ramp(4); }), "StorageSizeMismatch",
         "-4 elements");
  refuse(with([](Legacy& l) { l.storages.pop_back(); }), "BadLegacyFile", "inside storage '0'");
  refuse(with([](Legacy& l) { l.storages = "1234"; }), "BadLegacyFile", "before storage '0'");
  refuse(with([](Legacy& l) { l.storages += "x"; }), "BadLegacyFile", "1 bytes after");
  const Legacy huge = legacy_of(object(floats(int64_t{1} << 62), 0, 1));
  refuse(huge.bytes(), "StorageSizeMismatch");
  Legacy lying = legacy_of(object(floats(int64_t{1} << 40), 0, 1));
  lying.storages = raw(int64_t{1} << 40) + ramp(4);
  refuse(lying.bytes(), "BadLegacyFile", "inside storage");

  refuse(std::string(257, 'x') + "ustar" + std::string(250, '\0'), "LegacyTar");
  refuse("", "PickleCorrupt");
}

TEST_F(TorchFileTest, NotAFile) {
  EXPECT_THROW(TorchFile{folder_.file("absent")}, Error);
  EXPECT_THROW(TorchFile{folder_.path().string()}, Error);
}

}  // namespace
}  // namespace plume::torch_file_test
