// Machine code: listings are read, and what follows from them is right where it can be worked out by hand.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "engine/core/error.h"
#include "tests/support/test_support.h"
#include "tools/machine_code/code_counts.h"
#include "tools/machine_code/machine_code.h"

namespace plume::test::machine_code_test {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

const std::vector<std::string> kFiles{"kernels/a.cu", "kernels/common/vector.h"};

tools::KernelCode parse(const std::string& body) {
  return tools::parse_kernel("K 40 512 0 0 rows<bf16, 8>\n" + body, 1, kFiles, "a.sm_90.sass");
}

// A loop of four loads a turn, unrolled from one; a rest; a store.
const char* const kUnrolled =
    "C 1 1:10\n"
    "C 2 2:60 1:12\n"
    "C 3 1:14\n"
    "1 S2R R0, SR_TID.X\n"
    ":.L_x_1\n"
    "2 LDG.E.128 R4, desc[UR6][R2.64]\n"
    "2 LDG.E.128 R8, desc[UR6][R2.64+0x10]\n"
    "2 LDG.E.128 R12, desc[UR6][R2.64+0x20]\n"
    "2 LDG.E.128 R16, desc[UR6][R2.64+0x30]\n"
    "1 FADD R20, R4, R8\n"
    "1 FADD R20, R12, R20\n"
    "1 FADD R20, R16, R20\n"
    "1 @P0 BRA `(.L_x_1)\n"
    "3 STG.E desc[UR6][R22.64], R20\n"
    "1 EXIT\n";

TEST(MachineCode, IsRead) {
  const tools::KernelCode code = parse(kUnrolled);
  EXPECT_EQ(code.name, "rows<bf16, 8>");
  EXPECT_EQ(code.registers, 40);
  EXPECT_EQ(code.shared_bytes, 512);
  ASSERT_EQ(code.instructions.size(), 11u);
  EXPECT_EQ(code.instructions[1].action, tools::CodeAction::load);
  EXPECT_EQ(code.instructions[1].bytes, 16u);
  EXPECT_THAT(code.instructions[1].writes, ElementsAre(4, 5, 6, 7));
  EXPECT_THAT(code.instructions[1].reads, ElementsAre(2, 3));
  EXPECT_THAT(code.instructions[9].reads, ElementsAre(22, 23, 20));
  EXPECT_TRUE(code.instructions[9].writes.empty());
  EXPECT_EQ(tools::to_text(code.chains[2]), "kernels/common/vector.h:60 (kernels/a.cu:12)");
  ASSERT_EQ(code.blocks.size(), 3u);
  EXPECT_THAT(code.blocks[1].next, ElementsAre(1, 2));
}

TEST(MachineCode, RegistersOfWideInstructions) {
  const tools::KernelCode code = parse(
      "0 HMMA.16816.F32.BF16 R4, R8, R12, R4\n0 LDSM.16.M88.4 R16, [R3]\n0 SHFL.BFLY PT, R5, R6, 0x1, 0x1f\n"
      "0 ISETP.GE.AND P0, PT, R5, R7, PT\n0 LDGSTS.E.BYPASS.128 [R9], desc[UR4][R10.64]\n0 IMAD.WIDE R2, R3, "
      "0x4, R6\n");
  EXPECT_THAT(code.instructions[0].writes, ElementsAre(4, 5, 6, 7));
  EXPECT_THAT(code.instructions[0].reads, ElementsAre(8, 9, 10, 11, 12, 13, 4, 5, 6, 7));
  EXPECT_THAT(code.instructions[1].writes, ElementsAre(16, 17, 18, 19));
  EXPECT_THAT(code.instructions[2].writes, ElementsAre(5));
  EXPECT_THAT(code.instructions[2].reads, ElementsAre(6));
  EXPECT_THAT(code.instructions[3].reads, ElementsAre(5, 7));
  EXPECT_TRUE(code.instructions[4].writes.empty());
  EXPECT_THAT(code.instructions[4].reads, ElementsAre(9, 10, 11));
  EXPECT_THAT(code.instructions[5].writes, ElementsAre(2, 3));
}

TEST(MachineCode, MistakesAreNamed) {
  const auto error_of = [](const std::string& body) -> std::string {
    try {
      parse(body);
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::bad_input);
      return error.what();
    }
    return "";
  };
  EXPECT_THAT(error_of("9 EXIT\n"),
              HasSubstr("a.sm_90.sass:2: expected a line of tools/kernel_report.sh --sass"));
  EXPECT_THAT(error_of("C 1 7:1\n0 EXIT\n"), HasSubstr("a.sm_90.sass:2:"));
  EXPECT_THAT(error_of("0 NOP\nsomething\n"), HasSubstr("a.sm_90.sass:3:"));
  EXPECT_THAT(error_of(""), HasSubstr("without instructions"));
}

TEST(MachineCode, AFolderIsSearchedByName) {
  const TemporaryFolder folder;
  EXPECT_THROW(tools::MachineCode(folder.path().string(), "90"), Error);
  std::ofstream(folder.file("a.sm_90.sass")) << "K 32 0 0 0 first<float>\nP kernels/a.cu\nC 1 1:4\n1 EXIT\n"
                                                "K 48 0 8 4 second\nP kernels/b.h\nC 1 2:5\n1 NOP\n1 EXIT\n";
  tools::MachineCode code(folder.path().string(), "90");
  ASSERT_NE(code.find("second"), nullptr);
  EXPECT_EQ(code.find("second")->spilled_bytes, 4);
  EXPECT_EQ(code.find("second")->chains[1][0].file, "kernels/b.h");
  EXPECT_EQ(code.find("third"), nullptr);
  EXPECT_THROW(tools::MachineCode(folder.path().string(), "80"), Error);
  EXPECT_FALSE(code.is_older("second", folder.file("nothing.cu")));
  std::ofstream(folder.file("b.h")) << "\n";
  const auto written = std::filesystem::last_write_time(folder.file("a.sm_90.sass"));
  std::filesystem::last_write_time(folder.file("b.h"), written - std::chrono::seconds(1));
  EXPECT_FALSE(code.is_older("second", folder.file("b.h")));
  std::filesystem::last_write_time(folder.file("b.h"), written + std::chrono::seconds(1));
  EXPECT_TRUE(code.is_older("second", folder.file("b.h")));
}

TEST(CodeFlow, LoopsAndBranches) {
  //   0 -> 1 (loop: 1 -> 2 or 3 -> 4 -> 1) -> 5
  const tools::CodeFlow flow = tools::analyse_flow(
      parse("0 NOP\n:.a\n0 @P0 BRA `(.b)\n0 NOP\n0 BRA `(.c)\n:.b\n0 NOP\n:.c\n0 @P1 BRA `(.a)\n0 EXIT\n"));
  ASSERT_EQ(flow.loops.size(), 1u);
  EXPECT_THAT(flow.loops[0].blocks, ElementsAre(1, 2, 3, 4));
  EXPECT_EQ(flow.class_of[1], flow.class_of[4]);
  EXPECT_NE(flow.class_of[2], flow.class_of[1]);
  EXPECT_NE(flow.class_of[2], flow.class_of[3]);
  EXPECT_EQ(flow.class_of[0], flow.class_of[5]);
  EXPECT_TRUE(flow.classes[flow.class_of[1]].loop);
  EXPECT_EQ(flow.classes[flow.class_of[3]].parent, int(flow.class_of[1]));
}

CountedPlace place(int line, double loads, double stores) {
  CountedPlace p{"/somewhere/kernels/a.cu", line, {}};
  p.counts.loads = loads;
  p.counts.stores = stores;
  p.counts.global_lanes = 32 * (loads + stores);
  p.counts.global_lane_bytes = p.counts.global_bytes = (16 * loads + 4 * stores) * 32;
  return p;
}

CountedLaunch launch_of(std::vector<CountedPlace> places) {
  CountedLaunch launch;
  launch.kernel = "rows<plume::bf16, 8>";
  launch.block[0] = 64;
  launch.blocks = 20, launch.counted_blocks = 10;
  launch.places = std::move(places);
  for (const CountedPlace& p : launch.places) launch.counts += p.counts;
  return launch;
}

// 20 warps load 12 times each: three turns of the unrolled loop.
TEST(CodeCounts, UnrolledLoopsAreSeenThrough) {
  const tools::KernelCode code = parse(kUnrolled);
  CountedLaunch launch = launch_of({place(12, 240, 0), place(14, 0, 20)});
  const tools::AnalysedKernel kernel{&code, tools::analyse_flow(code)};
  const tools::CodeRuns runs = tools::runs_of(code, kernel.flow, launch);
  EXPECT_NEAR(runs.of_block[0], 20, 1e-6);
  EXPECT_NEAR(runs.of_block[1], 60, 0.01);
  EXPECT_NEAR(runs.of_block[2], 20, 1e-6);
  EXPECT_EQ(runs.matched, 1);
  tools::count_code(launch, kernel);
  EXPECT_NEAR(launch.counts.instructions, 20 * 1 + 60 * 8 + 20 * 2, 0.1);
  EXPECT_NEAR(launch.scaled_counts().instructions, 2 * 540, 0.2);
  EXPECT_EQ(launch.registers, 40);
  EXPECT_NEAR(launch.compiled.instructions[size_t(Pipe::load_store)], 60 * 4 + 20, 0.1);
  double of_places = 0;
  for (const CountedPlace& p : launch.places) of_places += p.counts.instructions;
  EXPECT_NEAR(of_places, launch.counts.instructions, 1e-6);
  EXPECT_NEAR(launch.places[0].counts.instructions, 240, 0.01);  // nothing but the loads is of its line
}

// The compiler has put the loads of line 20 at line 23, which uses them.
TEST(CodeCounts, MovedLoadsAreFound) {
  const tools::KernelCode code =
      parse("C 1 1:23\n0 NOP\n:.a\n1 LDG.E.128 R4, [R2.64]\n1 FADD R4, R4, R5\n0 @P0 BRA `(.a)\n0 EXIT\n");
  const tools::CodeRuns runs =
      tools::runs_of(code, tools::analyse_flow(code), launch_of({place(20, 100, 0)}));
  EXPECT_NEAR(runs.of_block[1], 100, 0.01);
}

// A load whose predicate never held says nothing about its block; one that never ran does.
TEST(CodeCounts, LoadsThatNeverRan) {
  const auto runs_of = [&](const std::string& block) {
    const tools::KernelCode code = parse("C 1 1:40\nC 2 1:14\n0 @P1 BRA `(.a)\n" + block + ":.a\n0 EXIT\n");
    return tools::runs_of(code, tools::analyse_flow(code), launch_of({place(14, 0, 15)})).of_block[1];
  };
  const std::string store = "2 STG.E [R22.64], R20\n", load = "LDG.E R4, [R2.64]\n";
  EXPECT_NEAR(runs_of(store), 15, 0.01);
  EXPECT_NEAR(runs_of(store + "1 @P0 " + load), 15, 0.01);
  EXPECT_EQ(runs_of("1 " + load), 0);
}

// A branch without accesses: as often as the line's branches say, and not at all for rare operands.
TEST(CodeCounts, BranchesFollowTheirLines) {
  const tools::KernelCode code = parse(
      "C 1 1:10\nC 2 1:30\n1 @P0 BRA `(.a)\n2 FADD R1, R1, R2\n:.a\n1 @P1 BRA `(.b)\n"
      "1 CALL.REL.NOINC `($__internal_0_$__cuda_sm20_div_u64)\n:.b\n1 EXIT\n"
      ":$__internal_0_$__cuda_sm20_div_u64\n0 FADD R1, R1, R2\n0 RET.REL.NODEC R8 `(rows)\n");
  CountedPlace branch{"/somewhere/kernels/a.cu", 30, {}};
  branch.counts.steps = 5;
  const tools::CodeRuns runs = tools::runs_of(code, tools::analyse_flow(code), launch_of({branch}));
  EXPECT_THAT(runs.of_block, ElementsAre(20, 5, 20, 0, 20, 0));
}

// Loops in loops, none with accesses of its own; loads of one line stand before the inner one and in it.
TEST(CodeCounts, LoopsWithoutAccesses) {
  const tools::KernelCode code = parse(
      "C 1 1:10\nC 2 1:20\nC 3 1:30\nC 4 1:40\nC 5 1:50\n0 NOP\n"
      ":.outer\n1 IADD3 R8, R8, R9, RZ\n5 @P2 BRA `(.inner)\n3 LDG.E R4, [R2.64]\n"
      ":.inner\n2 IADD3 R1, R1, R9, RZ\n5 @P3 BRA `(.work)\n3 LDG.E R4, [R2.64]\n"
      ":.work\n2 @P4 BRA `(.next)\n4 FADD R6, R6, R4\n"
      ":.next\n2 @P0 BRA `(.inner)\n1 @P1 BRA `(.outer)\n0 EXIT\n");
  const auto met = [](int line, double times) {
    CountedPlace branch{"/somewhere/kernels/a.cu", line, {}};
    branch.counts.steps = times;
    return branch;
  };
  // Of 20 warps each turns 5 times, within that 8 times; 700 of the 800 inner turns work.
  const tools::CodeRuns runs =
      tools::runs_of(code, tools::analyse_flow(code),
                     launch_of({met(10, 100), met(20, 800), place(30, 900, 0), met(40, 700), met(50, 900)}));
  const std::vector<double> expected{20, 100, 100, 800, 800, 800, 700, 800, 100, 20};
  ASSERT_EQ(runs.of_block.size(), expected.size());
  for (size_t b = 0; b < expected.size(); ++b) EXPECT_NEAR(runs.of_block[b] / expected[b], 1, 0.1) << b;
}

TEST(CodeLoads, BytesOnTheirWay) {
  const tools::KernelCode together = parse(kUnrolled);
  const tools::LoadWaits all = tools::waits_of(together, {1, 10, 1}, 32);
  EXPECT_EQ(all.waits, 10);
  EXPECT_EQ(all.waited_bytes, 10 * 4 * 16 * 32);
  const tools::KernelCode alone = parse(
      "0 LDG.E.128 R4, [R2.64]\n0 FADD R4, R4, R5\n0 LDG.E.128 R8, [R2.64]\n0 FADD R8, R8, R5\n0 EXIT\n");
  const tools::LoadWaits each = tools::waits_of(alone, {1}, 32);
  EXPECT_EQ(each.waits, 2);
  EXPECT_EQ(each.waited_bytes, 2 * 16 * 32);
  // Loaded in one turn, used in the next.
  const tools::KernelCode ahead =
      parse("0 LDG.E R4, [R2.64]\n:.a\n0 MOV R6, R4\n0 LDG.E R4, [R2.64]\n0 @P0 BRA `(.a)\n0 EXIT\n");
  EXPECT_EQ(tools::waits_of(ahead, {1, 8, 1}, 32).waits, 8);
}

std::string loop_of(const std::string& before, const std::string& after) {
  const std::string tensor = "0 HMMA.16816.F32.BF16 R40, R44, R48, R40\n";
  return "0 NOP\n:.a\nC 1 1:50\n1 LDG.E.128 R4, [R2.64]\n" + before + tensor + tensor + after +
         "0 @P0 BRA `(.a)\n0 EXIT\n";
}

TEST(CodeLoads, EarlyConsumersAreFound) {
  const auto early_of = [](const std::string& body) {
    const tools::KernelCode code = parse(body);
    return tools::early_consumers(code, tools::analyse_flow(code));
  };
  const auto found = early_of(loop_of("0 PRMT R20, R4, R5, R6\n", "0 STS [R30], R20\n"));
  ASSERT_EQ(found.size(), 1u);
  EXPECT_EQ(found[0].load, 1u);
  EXPECT_EQ(found[0].consumer, 2u);
  EXPECT_EQ(found[0].tensor_before, 0);
  EXPECT_EQ(found[0].tensor_in_loop, 2);
  EXPECT_TRUE(early_of(loop_of("", "0 STS.128 [R30], R4\n")).empty());
  // Copies past the registers: waited for before the tensor cores, or a turn later.
  const std::string copy = "0 LDGSTS.E.128 [R9], [R10.64]\n0 LDGDEPBAR\n";
  EXPECT_EQ(early_of(loop_of(copy + "0 DEPBAR.LE SB0, 0x0\n", "0 MOV R5, R6\n")).size(), 1u);
  EXPECT_TRUE(early_of(loop_of(copy + "0 DEPBAR.LE SB0, 0x1\n", "0 MOV R5, R6\n")).empty());
}

}  // namespace
}  // namespace plume::test::machine_code_test
