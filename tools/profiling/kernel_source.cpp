#include "tools/profiling/kernel_source.h"

#include <fmt/core.h>

#include <algorithm>
#include <fstream>
#include <map>

#include "engine/core/error.h"
#include "engine/core/text.h"
#include "tools/machine_code/machine_code.h"
#include "tools/pictures/svg.h"
#include "tools/profiling/text.h"

namespace plume::tools {
namespace {

constexpr int kContext = 1;  // lines around one that was counted

std::vector<std::string> lines_of(const std::string& path) {
  std::vector<std::string> lines;
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) lines.push_back(line);
  return lines;
}

// What stands beside a line, column by column.
struct Column {
  const char* name;
  const char* meaning;
  std::string (*value)(const KernelCounts&);
};
std::string thousands(double value) {
  if (value <= 0) return "";
  return value < 1e4   ? fmt::format("{:.0f}", value)
         : value < 1e7 ? fmt::format("{:.0f}k", value * 1e-3)
                       : fmt::format("{:.0f}M", value * 1e-6);
}
std::string ratio(double found, double ideal) {
  return ideal > 0 ? fmt::format("{:.2f}", found / ideal) : "";
}
const Column kColumns[] = {
    {"instr", "instructions of warps: of the machine code where it is at hand, else estimated",
     [](const KernelCounts& c) { return thousands(c.instructions); }},
    {"req", "loads and stores of global memory",
     [](const KernelCounts& c) { return thousands(c.requests()); }},
    {"lanes", "active lanes of a request",
     [](const KernelCounts& c) { return ratio(c.global_lanes, c.requests()); }},
    {"sect", "32-byte sectors", [](const KernelCounts& c) { return thousands(c.sectors); }},
    {"/ideal", "sectors over those that the bytes need",
     [](const KernelCounts& c) { return ratio(c.sectors, c.ideal_sectors); }},
    {"L2 KB", "from and to L2", [](const KernelCounts& c) { return thousands(c.l2_bytes / 1024); }},
    {"wave", "wavefronts of shared memory", [](const KernelCounts& c) { return thousands(c.wavefronts); }},
    {"/ideal", "wavefronts over those that the bytes need",
     [](const KernelCounts& c) { return ratio(c.wavefronts, c.ideal_wavefronts); }},
    {"wait B", "bytes on their way when a warp waits here",
     [](const KernelCounts& c) { return thousands(c.bytes_in_flight()); }},
    {"other", "barriers, shuffles, atomics' turns, ldmatrix, mma", [](const KernelCounts& c) {
       return thousands(c.barriers + c.shuffles + c.atomic_turns + c.ldmatrix + c.mma);
     }}};

// What the machine code says.
std::string code_text(const CountedLaunch& launch, const Prediction& p, const GpuDescription& gpu) {
  const CompiledCounts& code = launch.compiled;
  if (!code.known) return "no machine code of this kernel: instructions are estimated\n";
  std::string text =
      fmt::format("machine code: {} instructions", thousands(launch.scaled_counts().instructions));
  for (size_t pipe = 0; pipe < kPipes; ++pipe)
    if (const double share = code.instructions[pipe] / launch.counts.instructions; share >= 0.005)
      text += fmt::format(", {} {:.0f} %", name(Pipe(pipe)), share * 100);
  text += fmt::format("\nbytes in flight {:.0f} a warp, {:.1f} KB an SM; most waits at {}\n",
                      code.bytes_in_flight(), bytes_in_flight_per_sm(launch, p, gpu) / 1024,
                      code.wait_line.empty() ? "no line" : code.wait_line);
  if (code.spilled_bytes > 0 || code.local_instructions > 0)
    text +=
        fmt::format("local memory: {:.0f} bytes spilled, first at {}\n", code.spilled_bytes, code.local_line);
  if (code.instructions[size_t(Pipe::tensor)] > 0 && code.early.empty())
    text += "no load is needed before most of a turn's tensor instructions are issued\n";
  for (const CompiledCounts::EarlyConsumer& e : code.early)
    text += fmt::format("loaded at {}, needed at {} after {} of a turn's {} tensor instructions\n", e.load,
                        e.consumer, e.tensor_before, e.tensor_in_loop);
  return text;
}

std::string launch_text(const CountedLaunch& launch, const Prediction& p, const GpuDescription& gpu) {
  const KernelCounts c = launch.scaled_counts();
  std::string text = launch.kernel + "\n";
  text += fmt::format(
      "grid {} x {} x {}, block {} x {} x {}, {} bytes of shared memory; {} of {} blocks counted\n",
      launch.grid[0], launch.grid[1], launch.grid[2], launch.block[0], launch.block[1], launch.block[2],
      launch.shared_bytes, launch.counted_blocks, launch.blocks);
  text += fmt::format(
      "predicted for {}: {:.1f} us ({:.1f} to {:.1f}), occupancy {:.0f} % ({}), "
      "{:.2f} rounds\n",
      gpu.name, p.seconds * 1e6, p.low * 1e6, p.high * 1e6, p.occupancy * 100,
      launch.registers > 0 ? fmt::format("{:.0f} registers", launch.registers) : "registers not known",
      p.rounds);
  text += "each bound alone:";
  for (int b = 0; b < kBounds; ++b)
    if (p.parts[size_t(b)] > 0)
      text += fmt::format(" {} {:.1f} us", name(Bound(b)), p.parts[size_t(b)] * 1e6);
  text += fmt::format(
      "\nsectors {} ({} ideal), wavefronts {} ({}), lanes per request {:.1f}, bytes in flight {:.0f}"
      " a warp\n",
      thousands(c.sectors), thousands(c.ideal_sectors), thousands(c.wavefronts),
      thousands(c.ideal_wavefronts), c.lanes_per_request(), c.bytes_in_flight());
  return text + code_text(launch, p, gpu);
}

using Launches = std::pair<std::vector<const CountedLaunch*>, std::vector<Prediction>>;
Launches with_nested(const CountedPass& pass, size_t call, const GpuDescription& gpu) {
  Launches found;
  for (size_t c = call; c < end_of_call(pass.profiler->calls(), call); ++c) {
    for (const CountedLaunch* launch : pass.of_call(c)) found.first.push_back(launch);
    for (const Prediction& p : predict_call(pass, c, gpu)) found.second.push_back(p);
  }
  return found;
}

std::string title_of(const ProfileCall& call, int64_t batch) {
  return fmt::format("{}  {}  {}  {}", operation_label(call), shape_label(call, batch), name(call.dtype()),
                     layer_label(call.scope));
}

}  // namespace

size_t find_call(const std::vector<ProfileCall>& calls, const KernelChoice& choice, int64_t batch) {
  const size_t slash = choice.kernel.find('/');
  const std::string slot = choice.kernel.substr(0, slash),
                    variant = slash == std::string::npos ? "" : choice.kernel.substr(slash + 1);
  std::vector<std::string> others;
  for (size_t i = 0; i < calls.size(); ++i) {
    const bool fits = slot == calls[i].slot && (variant.empty() || variant == calls[i].variant);
    const std::string shapes = shape_label(calls[i], batch);
    if (fits && shapes.find(choice.shape) != std::string::npos) return i;
    const std::string other = fits ? "shapes " + shapes : std::string(calls[i].slot) + "/" + calls[i].variant;
    if (std::find(others.begin(), others.end(), other) == others.end())
      others.insert(fits ? others.begin() : others.end(), other);
  }
  fail(ErrorKind::usage, "--kernel: the network does not call {}{}; it calls {}", choice.kernel,
       choice.shape.empty() ? "" : " with " + choice.shape, brief_list(others, ""));
}

std::vector<SourceFile> source_of(const CountedLaunch& launch) {
  std::map<std::string, std::map<int, KernelCounts>> files;
  std::map<std::string, std::string> paths;
  for (const CountedPlace& place : launch.places) {
    KernelCounts counts = place.counts;
    // The host's code goes through lines of which the compiler for the GPU has left nothing.
    const bool accesses = counts.requests() + counts.shared_requests() + counts.barriers + counts.shuffles +
                              counts.atomics + counts.mma + counts.waits >
                          0;
    if (launch.compiled.known && counts.instructions == 0 && !accesses) continue;
    counts *= double(launch.blocks) / double(std::max<uint64_t>(launch.counted_blocks, 1));
    paths.try_emplace(source_label(place.file), place.file);
    files[source_label(place.file)][place.line] += counts;
  }
  std::vector<SourceFile> sources;
  for (const auto& [label, counted] : files) {
    const std::vector<std::string> text = lines_of(paths[label]);
    SourceFile& file = sources.emplace_back(SourceFile{label, {}});
    std::map<int, KernelCounts> shown = counted;
    for (const auto& [line, counts] : counted)
      for (int near = std::max(line - kContext, 1); near <= line + kContext; ++near)
        if (size_t(near) <= text.size()) shown.try_emplace(near);
    for (const auto& [line, counts] : shown)
      file.lines.push_back(
          {line, line >= 1 && size_t(line) <= text.size() ? text[size_t(line) - 1] : "", counts});
  }
  // The kernel's own file, then what it includes, then what stands nowhere.
  const auto rank = [](const SourceFile& file) {
    return file.path.empty() ? 2 : !file.path.ends_with(".cu");
  };
  std::stable_sort(sources.begin(), sources.end(),
                   [&](const SourceFile& a, const SourceFile& b) { return rank(a) < rank(b); });
  return sources;
}

std::string kernel_text(const CountedPass& pass, size_t call, const GpuDescription& gpu, int64_t batch) {
  std::string text = title_of(pass.profiler->calls()[call], batch) + "\n" + pass.instructions_from + "\n";
  const auto [launches, predictions] = with_nested(pass, call, gpu);
  for (size_t i = 0; i < launches.size(); ++i) {
    text += "\n" + launch_text(*launches[i], predictions[i], gpu);
    for (const SourceFile& file : source_of(*launches[i])) {
      text += "\n";
      for (const Column& column : kColumns) text += fmt::format("{:>7}", column.name);
      text += "  " + (file.path.empty() ? "(no line known)" : file.path) + "\n";
      int before = 0;
      for (const SourceLine& line : file.lines) {
        if (before > 0 && line.number != before + 1) text += "\n";
        before = line.number;
        for (const Column& column : kColumns) text += fmt::format("{:>7}", column.value(line.counts));
        text += fmt::format(" {:>4} {}\n", line.number, line.text);
      }
    }
  }
  return text;
}

std::string kernel_page(const CountedPass& pass, size_t call, const GpuDescription& gpu, int64_t batch) {
  const std::string title = escape_xml(title_of(pass.profiler->calls()[call], batch));
  std::string page = "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>" + title +
                     "</title><style>"
                     "body{font:14px/1.45 system-ui,sans-serif;margin:24px;color:#1f2430;background:#fff}"
                     "pre,td{font:12px/1.35 ui-monospace,Menlo,Consolas,monospace}"
                     "table{border-collapse:collapse}td,th{padding:0 8px;text-align:right;white-space:pre}"
                     "th{color:#6b7280;font-weight:500;font-size:12px}td:last-child{text-align:left}"
                     "td.n{color:#6b7280}tr.gap td{height:10px}</style></head><body><h1>" +
                     title + "</h1><p>" + escape_xml(pass.instructions_from) + "</p>";
  const auto [launches, predictions] = with_nested(pass, call, gpu);
  for (size_t i = 0; i < launches.size(); ++i) {
    page += "<pre>" + escape_xml(launch_text(*launches[i], predictions[i], gpu)) + "</pre>";
    for (const SourceFile& file : source_of(*launches[i])) {
      double most = 0;  // the darkest line of the file
      for (const SourceLine& line : file.lines) most = std::max(most, line.counts.instructions);
      page += "<h2>" + escape_xml(file.path.empty() ? "(no line known)" : file.path) + "</h2><table><tr>";
      for (const Column& column : kColumns)
        page += fmt::format("<th title=\"{}\">{}</th>", column.meaning, column.name);
      page += "<th></th><th></th></tr>\n";
      int before = 0;
      for (const SourceLine& line : file.lines) {
        if (before > 0 && line.number != before + 1) page += "<tr class=\"gap\"></tr>";
        before = line.number;
        const double share = most > 0 ? line.counts.instructions / most : 0;
        page += fmt::format("<tr style=\"background:rgba(238,102,119,{:.2f})\">", 0.45 * share);
        for (const Column& column : kColumns) page += "<td>" + column.value(line.counts) + "</td>";
        page += fmt::format("<td class=\"n\">{}</td><td>{}</td></tr>\n", line.number, escape_xml(line.text));
      }
      page += "</table>";
    }
  }
  return page + "</body></html>\n";
}

}  // namespace plume::tools
