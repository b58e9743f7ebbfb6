#include "tools/machine_code/machine_code.h"

#include <fmt/core.h>

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <string_view>

#include "engine/core/error.h"
#include "engine/files/read_file.h"
#include "tools/machine_code/kernel_report.h"

namespace plume::tools {
namespace {

constexpr int64_t kMostBytes = int64_t{256} << 20;

[[noreturn]] void bad_line(const std::string& path, int line, std::string_view text) {
  fail(ErrorKind::bad_input, "{}:{}: expected a line of tools/kernel_report.sh --sass, found '{}'", path,
       line, text.substr(0, 40));
}

bool starts(std::string_view text, std::initializer_list<std::string_view> beginnings) {
  return std::any_of(beginnings.begin(), beginnings.end(), [&](auto b) { return text.starts_with(b); });
}

Pipe pipe_of(std::string_view op) {
  if (starts(op, {"HMMA", "IMMA", "DMMA", "BMMA", "HGMMA", "QGMMA", "IGMMA"})) return Pipe::tensor;
  if (starts(op, {"LDG", "LDS", "LDL", "LD.", "STG", "STS", "STL", "ST.", "ATOM", "RED", "SHFL", "CCTL",
                  "MEMBAR", "LDC", "ERRBAR", "MATCH"}))
    return Pipe::load_store;
  if (starts(op, {"BAR",  "BRA", "BRX", "BSSY",     "BSYNC",     "BREAK",        "CALL", "RET",
                  "EXIT", "JMP", "NOP", "WARPSYNC", "DEPBAR",    "YIELD",        "S2R",  "CS2R",
                  "VOTE", "R2P", "P2R", "BMOV",     "NANOSLEEP", "ENDCOLLECTIVE"}))
    return Pipe::control;
  if (starts(op, {"MUFU", "F2I", "I2F", "F2F.", "FRND", "POPC", "FLO", "BREV", "I2I"})) return Pipe::special;
  if (starts(op, {"FFMA", "FMUL", "FADD", "IMAD", "HFMA2", "HADD2", "HMUL2", "FSWZ"})) return Pipe::fma;
  if (starts(op, {"DADD", "DMUL", "DFMA", "DSETP"})) return Pipe::fp64;
  if (op.starts_with("U") || op.starts_with("R2UR")) return Pipe::uniform;
  return Pipe::alu;
}

CodeAction action_of(std::string_view op) {
  if (op.starts_with("LDGSTS")) return CodeAction::async_load;
  if (starts(op, {"LDG.", "LD."})) return CodeAction::load;
  if (starts(op, {"STG", "ST."})) return CodeAction::store;
  if (op.starts_with("LDSM")) return CodeAction::ldmatrix;
  if (op.starts_with("LDS")) return CodeAction::shared_load;
  if (op.starts_with("STS")) return CodeAction::shared_store;
  if (starts(op, {"LDL", "STL"})) return CodeAction::local;
  if (starts(op, {"ATOM", "RED"})) return CodeAction::atomic;
  if (pipe_of(op) == Pipe::tensor) return CodeAction::mma;
  if (op.starts_with("BAR.")) return CodeAction::barrier;
  if (starts(op, {"SHFL", "VOTE"})) return CodeAction::shuffle;
  return CodeAction::none;
}

bool has_part(std::string_view op, std::string_view part) {
  for (size_t at = op.find(part); at != std::string_view::npos; at = op.find(part, at + 1)) {
    const size_t end = at + part.size();
    if (end == op.size() || op[end] == '.') return true;
  }
  return false;
}

unsigned bytes_of(std::string_view op) {
  if (has_part(op, ".128")) return 16;
  if (has_part(op, ".64")) return 8;
  if (has_part(op, ".U16") || has_part(op, ".S16")) return 2;
  if (has_part(op, ".U8") || has_part(op, ".S8")) return 1;
  return 4;
}

// How many registers an operand takes: `operand` counts registers, the destination is 0.
unsigned registers_of(std::string_view op, size_t operand) {
  if (op.starts_with("LDSM")) return operand > 0 ? 1 : op.ends_with(".4") ? 4 : op.ends_with(".2") ? 2 : 1;
  if (starts(op, {"LD"})) return operand == 0 ? std::max(bytes_of(op) / 4, 1u) : 1;
  if (starts(op, {"ST"})) return operand == 1 ? std::max(bytes_of(op) / 4, 1u) : 1;
  if (op.starts_with("HMMA")) {
    const bool deep = op.find(".16816") != std::string_view::npos;
    if (operand == 1) return deep ? 4 : 2;
    if (operand == 2) return deep ? 2 : 1;
    return op.find(".F32") != std::string_view::npos ? 4 : 2;
  }
  if (op.starts_with("IMAD.WIDE")) return operand == 0 || operand == 3 ? 2 : 1;
  if (starts(op, {"DADD", "DMUL", "DFMA"})) return 2;
  return op.starts_with("CS2R") && !has_part(op, ".32") ? 2 : 1;
}

std::vector<std::string_view> split_operands(std::string_view text) {
  std::vector<std::string_view> parts;
  int depth = 0;
  size_t begin = 0;
  for (size_t i = 0; i <= text.size(); ++i) {
    const char c = i < text.size() ? text[i] : ',';
    depth += (c == '[' || c == '(') - (c == ']' || c == ')');
    if (c != ',' || (depth > 0 && i < text.size())) continue;
    while (begin < i && text[begin] == ' ') ++begin;
    if (begin < i) parts.push_back(text.substr(begin, i - begin));
    begin = i + 1;
  }
  return parts;
}

// Registers R0, R1, ... named in an operand; not UR4, not RZ.
void find_registers(std::string_view operand, unsigned count, std::vector<uint16_t>& found) {
  for (size_t i = 0; i < operand.size(); ++i) {
    if (operand[i] != 'R' || (i > 0 && (std::isalnum(operand[i - 1]) || operand[i - 1] == '_'))) continue;
    unsigned number = 0;
    const char* end = operand.data() + operand.size();
    const auto [after, error] = std::from_chars(operand.data() + i + 1, end, number);
    if (error != std::errc() || number > 255) continue;
    const bool pair = std::string_view(after, size_t(end - after)).starts_with(".64");
    for (unsigned k = 0; k < std::max(count, pair ? 2u : 1u); ++k) found.push_back(uint16_t(number + k));
  }
}

MachineInstruction parse_instruction(std::string_view text) {
  MachineInstruction i;
  if (text.starts_with("@")) {
    i.predicated = true;
    text.remove_prefix(std::min(text.find(' ') + 1, text.size()));
  }
  const size_t space = std::min(text.find(' '), text.size());
  i.opcode = text.substr(0, space);
  i.operands = text.substr(std::min(space + 1, text.size()));
  i.pipe = pipe_of(i.opcode);
  i.action = action_of(i.opcode);
  if (i.action != CodeAction::none) i.bytes = bytes_of(i.opcode);
  const std::vector<std::string_view> operands = split_operands(i.operands);
  const bool no_result = starts(i.opcode, {"ST", "RED", "LDGSTS"}) || i.pipe == Pipe::uniform;
  // After a predicate the result follows: of a shuffle, an atomic, a logical operation.
  const bool second =
      !operands.empty() && operands[0].starts_with("P") && starts(i.opcode, {"SHFL", "ATOM", "LOP3"});
  const size_t result = no_result ? operands.size() : second ? 1 : 0;
  size_t counted = no_result ? 1 : 0;
  if (starts(i.opcode, {"ST"})) counted = 0;  // the address, then the value
  for (size_t k = 0; k < operands.size(); ++k) {
    const std::string_view operand = operands[k];
    const bool is_result = k == result && operand.starts_with("R");
    const bool predicate = operand.starts_with("P") || operand.starts_with("!P");
    find_registers(operand, registers_of(i.opcode, counted), is_result ? i.writes : i.reads);
    if (!predicate) ++counted;
  }
  return i;
}

// "... `(.L_x_3)" gives ".L_x_3".
std::string target_of(const MachineInstruction& i) {
  const size_t begin = i.operands.find("`("), end = i.operands.find(')', begin);
  return end == std::string::npos ? "" : i.operands.substr(begin + 2, end - begin - 2);
}

bool ends_block(const MachineInstruction& i) {
  return starts(i.opcode, {"BRA", "EXIT", "RET", "BRX", "JMP", "CALL"});
}

void find_blocks(KernelCode& code, const std::map<std::string, uint32_t>& labels) {
  const auto count = uint32_t(code.instructions.size());
  std::vector<uint8_t> leader(count + 1);
  leader[0] = leader[count] = 1;
  for (const auto& [label, at] : labels) leader[at] = 1;
  for (uint32_t i = 0; i < count; ++i)
    if (ends_block(code.instructions[i])) leader[i + 1] = 1;
  std::vector<uint32_t> block_at(count + 1);
  for (uint32_t i = 0; i < count; ++i) {
    if (leader[i]) code.blocks.push_back({i, i, {}, {}, {}, false});
    block_at[i] = uint32_t(code.blocks.size() - 1);
    code.blocks.back().last = i + 1;
  }
  for (uint32_t b = 0; b < code.blocks.size(); ++b) {
    CodeBlock& block = code.blocks[b];
    const MachineInstruction& last = code.instructions[block.last - 1];
    const bool call = last.opcode.starts_with("CALL");
    const auto target = labels.find(target_of(last));
    const bool known = target != labels.end() && target->second < count;
    if (call) {
      if (known) block.calls.push_back(block_at[target->second]);
      block.unlikely = last.operands.find("$__") != std::string::npos;
    } else if (last.opcode.starts_with("BRA") && known) {
      block.next.push_back(block_at[target->second]);
    }
    const bool always = last.opcode.starts_with("BRA") ? last.operands.starts_with("`(") : !call;
    if ((!ends_block(last) || last.predicated || !always) && b + 1 < code.blocks.size() &&
        (block.next.empty() || block.next[0] != b + 1))
      block.next.push_back(b + 1);
    for (const uint32_t to : block.next) code.blocks[to].before.push_back(b);
  }
}

// Calls use(line, number) for every line of text[begin, end).
template <class Use>
void each_line(std::string_view text, int number, Use&& use) {
  for (size_t at = 0; at < text.size(); ++number) {
    const size_t end = std::min(text.find('\n', at), text.size());
    use(text.substr(at, end - at), number, at);
    at = end + 1;
  }
}

// Reads a number and the blank after it.
bool take_number(std::string_view& text, double& value) {
  const auto [after, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc()) return false;
  text.remove_prefix(size_t(after - text.data()));
  while (text.starts_with(" ") || text.starts_with(":")) text.remove_prefix(1);
  return true;
}

}  // namespace

std::string source_label(const std::string& path) {
  for (const char* folder : {"/kernels/", "/engine/"})
    if (const size_t at = path.rfind(folder); at != std::string::npos) return path.substr(at + 1);
  return path;
}

std::string to_text(const std::vector<CodePlace>& chain) {
  if (chain.empty()) return "a line not known";
  std::string text = fmt::format("{}:{}", chain.front().file, chain.front().line);
  if (chain.size() > 1) text += fmt::format(" ({}:{})", chain.back().file, chain.back().line);
  return text;
}

KernelCode parse_kernel(const std::string& text, int first_line, const std::vector<std::string>& files,
                        const std::string& path) {
  KernelCode code;
  code.chains.emplace_back();
  std::map<std::string, uint32_t> labels;
  each_line(text, first_line, [&](std::string_view line, int number, size_t) {
    std::string_view rest = line.substr(std::min<size_t>(line.size(), 2));
    if (line.starts_with("K ")) {
      if (!take_number(rest, code.registers) || !take_number(rest, code.shared_bytes) ||
          !take_number(rest, code.stack_bytes) || !take_number(rest, code.spilled_bytes))
        bad_line(path, number, line);
      code.name = short_kernel_name(std::string(rest));
    } else if (line.starts_with("P ")) {  // read with the file
    } else if (line.starts_with("C ")) {
      double id = 0, file = 0, at = 0;
      if (!take_number(rest, id) || id != double(code.chains.size())) bad_line(path, number, line);
      std::vector<CodePlace>& chain = code.chains.emplace_back();
      while (!rest.empty()) {
        if (!take_number(rest, file) || !take_number(rest, at) || file < 1 || file > double(files.size()))
          bad_line(path, number, line);
        chain.push_back({files[size_t(file) - 1], int(at)});
      }
    } else if (line.starts_with(":")) {
      labels[std::string(line.substr(1))] = uint32_t(code.instructions.size());
    } else {
      double chain = 0;
      rest = line;
      if (!take_number(rest, chain) || chain < 0 || chain >= double(code.chains.size()) || rest.empty())
        bad_line(path, number, line);
      code.instructions.push_back(parse_instruction(rest));
      code.instructions.back().chain = uint32_t(chain);
    }
  });
  if (code.instructions.empty()) bad_line(path, first_line, "a kernel without instructions");
  find_blocks(code, labels);
  return code;
}

MachineCode::MachineCode(const std::string& folder, const std::string& arch) {
  const std::string ending = fmt::format(".sm_{}.sass", arch);
  std::vector<std::string> paths;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(folder, error))
    if (entry.path().string().ends_with(ending)) paths.push_back(entry.path().string());
  PLUME_CHECK(!paths.empty(), "--sass: no *{} in '{}'; tools/kernel_report.sh --sass {} writes them", ending,
              folder, folder);
  std::sort(paths.begin(), paths.end());
  for (const std::string& path : paths) {
    const std::vector<uint8_t> bytes =
        read_small_file(path, kMostBytes, "machine code of tools/kernel_report.sh");
    Source source{path, std::string(bytes.begin(), bytes.end()), {}};
    Entry* last = nullptr;
    each_line(source.text, 1, [&](std::string_view line, int number, size_t at) {
      if (line.starts_with("P ")) source.files.push_back(source_label(std::string(line.substr(2))));
      if (!line.starts_with("K ")) return;
      if (last) last->end = at;
      std::string_view name = line.substr(2);
      double value = 0;
      for (int i = 0; i < 4; ++i)
        if (!take_number(name, value)) bad_line(path, number, line);
      last = &kernels_[short_kernel_name(std::string(name))];
      *last = {sources_.size(), at, 0, number, nullptr};
    });
    if (!last) bad_line(path, 1, source.text);
    last->end = source.text.size();
    sources_.push_back(std::move(source));
  }
}

const KernelCode* MachineCode::find(const std::string& short_name) {
  const auto found = kernels_.find(short_name);
  if (found == kernels_.end()) return nullptr;
  Entry& entry = found->second;
  const Source& source = sources_[entry.source];
  if (!entry.code)
    entry.code = std::make_unique<KernelCode>(parse_kernel(
        source.text.substr(entry.begin, entry.end - entry.begin), entry.line, source.files, source.path));
  return entry.code.get();
}

bool MachineCode::is_older(const std::string& short_name, const std::string& source) const {
  const auto found = kernels_.find(short_name);
  std::error_code missing;
  const auto changed = std::filesystem::last_write_time(source, missing);
  if (found == kernels_.end() || missing) return false;
  return std::filesystem::last_write_time(sources_[found->second.source].path, missing) < changed && !missing;
}

std::vector<std::string> MachineCode::names() const {
  std::vector<std::string> names;
  for (const auto& [name, entry] : kernels_) names.push_back(name);
  return names;
}

}  // namespace plume::tools
