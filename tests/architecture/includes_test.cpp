// Who may include whom, and which devices every slot must have.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <regex>
#include <set>
#include <sstream>

#include "engine/core/kernel_slot.h"
#include "tests/support/test_support.h"

namespace plume::includes_test {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

using Rooms = std::set<std::string>;

// core <- memory <- autograd <- distributed <- ops <- modules: each includes all that is below it. An
// operation's parameters hold activations and epilogues, and its cost rule speaks to the profiler, so math
// and profiler are below ops.
const Rooms kBelowMemory{"engine/core"};
const Rooms kBelowAutograd{"engine/core", "engine/memory"};
const Rooms kBelowDistributed{"engine/core", "engine/memory", "engine/autograd"};
const Rooms kBelowOps{"engine/core",        "engine/memory", "engine/autograd",
                      "engine/distributed", "engine/math",   "engine/profiler"};
const Rooms kBelowModules{"engine/core", "engine/memory",   "engine/autograd", "engine/distributed",
                          "engine/math", "engine/profiler", "engine/ops"};
const Rooms kModulesAndBelow{"engine/core", "engine/memory",   "engine/autograd", "engine/distributed",
                             "engine/math", "engine/profiler", "engine/ops",      "engine/modules"};
const Rooms kColumn{"engine/core", "engine/memory", "engine/math", "engine/ops"};
Rooms operator+(Rooms rooms, const Rooms& more) {
  rooms.insert(more.begin(), more.end());
  return rooms;
}
// What the rooms that programs share are built from.
const Rooms kBelowTools =
    kModulesAndBelow +
    Rooms{"engine/optim", "engine/serialization", "engine/metrics", "engine/files", "models", "data",
          "data/sets",    "data/images",          "data/augment"};

// What a room may include besides itself: rooms, or single headers of one. Rooms that are not listed (tests,
// bench, the programs of tools) may include anything but a column.
const std::map<std::string, Rooms> kAllowed{
    {"engine/core", {}},
    {"engine/files", {"engine/core"}},
    {"engine/memory", kBelowMemory},
    {"engine/math", {"engine/core"}},
    {"engine/profiler", {"engine/core"}},
    {"engine/metrics", {"engine/core"}},
    {"engine/autograd", kBelowAutograd},
    {"engine/distributed", kBelowDistributed},
    {"engine/ops", kBelowOps},
    {"engine/modules", kBelowModules},
    {"engine/optim", kModulesAndBelow},
    {"engine/serialization", kModulesAndBelow + Rooms{"engine/files"}},
    {"engine/cpu", kColumn + Rooms{"engine/cpu/conv"}},
    {"engine/cpu/conv", kColumn + Rooms{"engine/cpu"}},
    // The GPU tells the profiler about its kernels, and brings what carries data between GPUs.
    {"engine/cuda", kColumn + Rooms{"engine/profiler", "engine/distributed"}},
    // The emulator tells the profiler what it counts.
    {"kernels", kColumn + Rooms{"engine/profiler/kernel_counts.h", "engine/profiler/dominators.h"}},
    {"data/images", {"engine/core", "engine/files", "engine/math"}},
    {"data/augment", {"engine/core", "engine/math", "data/dataset.h", "data/images"}},
    {"data/sets", {"engine/core", "engine/files", "data/dataset.h", "data/images"}},
    {"data", {"engine/core", "engine/memory", "engine/math", "data/augment", "data/images"}},
    {"models", kModulesAndBelow},
    {"tools/cli", kBelowTools},
    {"tools/pictures", kBelowTools},
    {"tools/machine_code", kBelowTools},
    {"tools/profiling", kBelowTools + Rooms{"tools/cli", "tools/machine_code", "tools/pictures"}},
    {"tools/training", kBelowTools + Rooms{"tools/cli", "tools/profiling"}},
    {"tools/study", kBelowTools + Rooms{"tools/cli", "tools/training"}},
    // Stands in for the CUDA runtime under the cuda plug-in, with the emulator's launches.
    {"tests/cuda_host/stand_in", {"engine/core", "kernels"}},
};
// They plug in by registration: nobody else knows them.
const Rooms kColumns{"engine/cpu", "engine/cpu/conv", "engine/cuda", "kernels"};
const Rooms kCudaRooms{"engine/cuda", "kernels", "tests/cuda_host/stand_in"};

// Single includes beyond the table, each with its reason.
const std::set<std::pair<std::string, std::string>> kExceptions{
    {"engine/autograd/tape.cpp", "engine/ops/add.h"},  // gradients are added up by the operation's slot
    {"engine/autograd/tape.cpp", "engine/ops/partial_sums.h"},  // and who reads them settles them first
};

std::string folder_of(const std::string& path) {
  const size_t slash = path.rfind('/');
  return slash == std::string::npos ? "" : path.substr(0, slash);
}

// The innermost room with a rule around a file, or the top folder that it lies in: "engine/cpu/conv" of
// "engine/cpu/conv/onednn.h", "kernels" of "kernels/common/vector.h", "tests" of "tests/support/fill.h".
std::string room_of(const std::string& path) {
  std::string room = folder_of(path);
  while (!kAllowed.contains(room) && room.find('/') != std::string::npos) room = folder_of(room);
  return room;
}

bool is_cuda_header(const std::string& header) {
  static const std::regex pattern("(.*/)?(cuda|cublas|cudnn|nccl|cupti|nvtx|nvtools|curand|nvrtc|nvml)[^/]*",
                                  std::regex::icase);
  return std::regex_match(header, pattern) || header == "mma.h" || header == "cooperative_groups.h" ||
         header.starts_with("cute/") || header.starts_with("cutlass/") || header.starts_with("cub/");
}

struct Include {
  std::string header;
  bool quoted;
};

std::vector<Include> includes_of(const std::string& text) {
  static const std::regex line(R"re(^\s*#\s*include\s*(["<])([^">]+)[">])re");
  std::vector<Include> found;
  std::istringstream lines(text);
  std::smatch match;
  for (std::string one; std::getline(lines, one);)
    if (std::regex_search(one, match, line)) found.push_back({match[2], match[1] == "\""});
  return found;
}

// One line per include of `path` that breaks a rule.
std::vector<std::string> violations(const std::string& path, const std::string& text) {
  const std::string room = room_of(path);
  std::vector<std::string> found;
  const auto report = [&](const Include& include, const std::string& why) {
    found.push_back(message("{} includes {}: {}", path, include.header, why));
  };
  for (const Include& include : includes_of(text)) {
    if (is_cuda_header(include.header) && !kCudaRooms.contains(room))
      report(include, "CUDA headers stay in engine/cuda and kernels");
    const std::string other = room_of(include.header);
    const bool ours = Rooms{"engine", "kernels", "models", "data", "tools", "bench", "tests"}.contains(
        include.header.substr(0, include.header.find('/')));
    if (!ours) {
      if (include.quoted) report(include, "our headers are named from the top folder, all others in <>");
      continue;
    }
    if (other == room || kExceptions.contains({path, include.header})) continue;
    const auto allowed = kAllowed.find(room);
    const bool fine = allowed == kAllowed.end()
                          ? !kColumns.contains(other)
                          : allowed->second.contains(other) || allowed->second.contains(include.header);
    if (!fine && kColumns.contains(other))
      report(include, "nothing includes a column from outside");
    else if (!fine)
      report(include, message("{} may not include {}", room, other));
    else if (kColumns.contains(room) && other == "engine/ops" && !include.header.ends_with(".h"))
      report(include, "columns include the headers of operations only");
  }
  return found;
}

std::vector<std::string> source_files(const std::vector<std::string>& folders) {
  const fs::path root = PLUME_SOURCE_DIR;
  std::vector<std::string> files;
  for (const std::string& folder : folders)
    for (const auto& entry : fs::recursive_directory_iterator(root / folder)) {
      const std::string extension = entry.path().extension();
      if (extension == ".h" || extension == ".cpp" || extension == ".cu")
        files.push_back(fs::relative(entry.path(), root));
    }
  std::sort(files.begin(), files.end());
  return files;
}

std::string source(const std::string& path) { return test::read_file(PLUME_SOURCE_DIR "/" + path); }

TEST(Includes, EveryFileKeepsTheRules) {
  const std::vector<std::string> files = source_files({"engine", "kernels", "models", "data", "tools"});
  EXPECT_GT(files.size(), 100u);
  for (const std::string& file : files)
    for (const std::string& violation : violations(file, source(file))) ADD_FAILURE() << violation;
}

// A new folder of sources is a new room: it needs a line in the table.
TEST(Includes, EveryRoomHasARule) {
  for (const std::string& file : source_files({"engine", "models", "data", "tools"})) {
    const std::string folder = folder_of(file);
    EXPECT_TRUE(folder == "tools" || kAllowed.contains(folder)) << file << " lives in a room without a rule";
  }
}

TEST(Includes, RoomsOfTheTableAreThere) {
  for (const auto& [room, others] : kAllowed)
    for (const std::string& name : others + Rooms{room})
      EXPECT_TRUE(fs::exists(fs::path(PLUME_SOURCE_DIR) / name)) << name;
}

TEST(Includes, EveryExceptionIsStillNeeded) {
  for (const auto& [file, header] : kExceptions) {
    bool used = false;
    for (const Include& include : includes_of(source(file))) used = used || include.header == header;
    EXPECT_TRUE(used) << file << " no longer includes " << header;
  }
}

TEST(Includes, PlantedViolationsAreFound) {
  const auto lines = [](const std::string& path, const std::string& include) {
    return violations(path, "// text\n#pragma once\n  # include " + include + "  // why\nint x;\n");
  };
  EXPECT_THAT(lines("engine/core/shape.h", "\"engine/memory/allocator.h\""),
              ElementsAre("engine/core/shape.h includes engine/memory/allocator.h: engine/core may not "
                          "include engine/memory"));
  EXPECT_THAT(lines("engine/autograd/tape.h", "\"engine/ops/add.h\""), testing::SizeIs(1));
  EXPECT_THAT(lines("engine/ops/add.cpp", "\"engine/modules/module.h\""), testing::SizeIs(1));
  EXPECT_THAT(lines("engine/math/activation.h", "\"engine/autograd/tape.h\""), testing::SizeIs(1));
  EXPECT_THAT(lines("engine/cpu/relu.cpp", "\"engine/autograd/tape.h\""), testing::SizeIs(1));
  EXPECT_THAT(lines("kernels/relu.cu", "\"engine/autograd/tape.h\""), testing::SizeIs(1));
  EXPECT_THAT(lines("data/images/image.cpp", "\"engine/ops/cast.h\""), testing::SizeIs(1));
  EXPECT_THAT(lines("models/resnet18.cpp", "\"engine/optim/sgd.h\""), testing::SizeIs(1));
  EXPECT_THAT(lines("engine/ops/relu.cpp", "\"kernels/common/vector.h\""),
              ElementsAre(HasSubstr("nothing includes a column from outside")));
  EXPECT_THAT(lines("engine/cuda/operands.h", "\"engine/cpu/parallel.h\""), testing::SizeIs(1));
  EXPECT_THAT(lines("tools/train.cpp", "\"engine/cuda/handles.h\""), testing::SizeIs(1));
  EXPECT_THAT(lines("engine/core/graph.cpp", "<cuda_runtime.h>"),
              ElementsAre(HasSubstr("CUDA headers stay")));
  EXPECT_THAT(lines("engine/profiler/trace.cpp", "<nvtx3/nvToolsExt.h>"), testing::SizeIs(1));
  EXPECT_THAT(lines("tools/train.cpp", "<cublasLt.h>"), testing::SizeIs(1));
  EXPECT_THAT(lines("engine/core/shape.cpp", "\"shape.h\""), ElementsAre(HasSubstr("top folder")));

  EXPECT_THAT(lines("engine/modules/module.h", "\"engine/autograd/tape.h\""), IsEmpty());
  EXPECT_THAT(lines("kernels/relu.cu", "\"kernels/common/vector.h\""), IsEmpty());
  EXPECT_THAT(lines("engine/cuda/check.h", "<cudnn_graph.h>"), IsEmpty());
  EXPECT_THAT(lines("tools/train.cpp", "\"models/registry.h\""), IsEmpty());
  EXPECT_THAT(lines("tools/train.cpp", "\"tools/training/training.h\""), IsEmpty());
  EXPECT_THAT(lines("engine/cpu/linear.cpp", "\"engine/cpu/conv/panel_gemm.h\""), IsEmpty());
  EXPECT_THAT(lines("data/sets/cifar.cpp", "\"data/dataset.h\""), IsEmpty());
  EXPECT_THAT(lines("engine/core/half.h", "<cstdint>"), IsEmpty());
}

// What engine/ops defines: C++ name -> slot name.
std::map<std::string, std::string> defined_slots() {
  static const std::regex definition(
      R"re(\bconstinit\s+KernelSlot<\w+>\s+(\w+)\s*(?:\{|=)\s*(?:\{\s*)?"([^"]+)")re");
  std::map<std::string, std::string> slots;
  for (const std::string& file : source_files({"engine/ops"})) {
    const std::string text = source(file);
    for (std::sregex_iterator i(text.begin(), text.end(), definition), end; i != end; ++i)
      slots[(*i)[1]] = (*i)[2];
  }
  return slots;
}

int variants(const std::string& slot, Device device) {
  for (const KernelSlotBase* one : all_slots())
    if (one->name() == slot) return one->variant_count(device);
  return 0;
}

// From the sources, since a slot that nobody fills is not among all_slots().
TEST(Slots, EveryOneHasACpuVariant) {
  const auto slots = defined_slots();
  EXPECT_GT(slots.size(), 20u);
  for (const auto& [identifier, slot] : slots)
    EXPECT_GT(variants(slot, Device::cpu), 0) << slot << " has no variant on cpu";
}

TEST(Slots, TheSourcesDefineAllThatAreRegistered) {
  std::set<std::string> defined;
  for (const auto& [identifier, slot] : defined_slots()) defined.insert(slot);
  for (const KernelSlotBase* slot : all_slots())
    EXPECT_TRUE(defined.contains(slot->name())) << slot->name() << " is defined outside engine/ops";
}

// Each kernels/*.cu registers for the device that it is compiled for; the emulator must have them all.
TEST(Slots, EveryHandWrittenKernelHasASimtVariant) {
  static const std::regex registration(R"re(\b(\w+)\.add\(\s*kThisDevice)re");
  const auto slots = defined_slots();
  int kernels = 0;
  for (const std::string& file : source_files({"kernels"})) {
    if (!file.ends_with(".cu")) continue;
    if (file == "kernels/probe.cu") continue;  // asked about, never launched
    const std::string text = source(file);
    for (std::sregex_iterator i(text.begin(), text.end(), registration), end; i != end; ++i, ++kernels) {
      const auto slot = slots.find((*i)[1]);
      ASSERT_NE(slot, slots.end()) << file << " fills " << (*i)[1] << ", which engine/ops does not define";
      EXPECT_GT(variants(slot->second, Device::simt), 0) << slot->second << " of " << file;
    }
    EXPECT_TRUE(std::regex_search(text, registration)) << file << " registers nothing";
  }
  EXPECT_GT(kernels, 20);
}

// Ours on the GPU means ours on the emulator: every slot that has a cpu variant has a simt one.
TEST(Slots, EveryOneHasASimtVariant) {
  for (const auto& [identifier, slot] : defined_slots())
    EXPECT_GT(variants(slot, Device::simt), 0) << slot << " has no hand-written kernel";
}

}  // namespace
}  // namespace plume::includes_test
