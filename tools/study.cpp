// study: trains, evaluates and compares networks on data sets, and writes the report.
#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <thread>

#include "engine/files/read_file.h"
#include "models/registry.h"
#include "tools/cli/json.h"
#include "tools/cli/main.h"
#include "tools/cli/signals.h"
#include "tools/study/cell.h"
#include "tools/study/embedded.h"
#include "tools/study/plan.h"
#include "tools/study/report.h"

namespace {

using namespace plume;
namespace fs = std::filesystem;

struct Request {
  std::string recipe = "paper", shard, device, threads;
  std::vector<std::string> models, data, settings, variants;
  int64_t epochs = 0;
  bool quick = false, report_only = false, list = false;
  tools::StudyOptions options;
};

std::string read_recipe(const std::string& name) {
  if (const std::string_view known = tools::study_recipe(name); !known.empty()) return std::string(known);
  PLUME_CHECK(name.find('/') != std::string::npos || name.ends_with(".json"),
              "--recipe: '{}' is neither one of {} nor a .json file", name, tools::study_recipe_names());
  constexpr int64_t kMostBytes = 1 << 20;
  const std::vector<uint8_t> bytes = read_small_file(name, kMostBytes, "a study's recipe in JSON");
  return {bytes.begin(), bytes.end()};
}

tools::StudySelection selection_of(const Request& r) {
  tools::StudySelection selection{r.models, r.data, {}};
  for (const std::string& text : r.settings) {
    const size_t equals = text.find('=');
    PLUME_CHECK(equals != std::string::npos && equals > 0, "--set: '{}' is not flag=value", text);
    selection.settings.emplace_back(text.substr(0, equals), text.substr(equals + 1));
  }
  if (r.epochs > 0) selection.settings.emplace_back("epochs", std::to_string(r.epochs));
  return selection;
}

std::vector<std::string> split_commas(const std::string& text) {
  std::vector<std::string> parts;
  for (size_t at = 0; at <= text.size();) {
    const size_t end = std::min(text.find(',', at), text.size());
    if (end > at) parts.push_back(text.substr(at, end - at));
    at = end + 1;
  }
  return parts;
}

std::vector<std::string> words_of(const std::vector<std::string>& lists) {
  std::vector<std::string> all;
  for (const std::string& list : lists)
    for (const std::string& word : split_commas(list)) all.push_back(word);
  return all;
}

void describe(const tools::CellResult& result) {
  const std::string id = result["id"], state = result["state"];
  if (state != "done") {
    std::printf("%s: %s: %s\n", id.c_str(), state.c_str(), result.value("error", "").c_str());
    return;
  }
  const auto& e = result["evaluation"];
  std::printf("%s: top-1 %.2f %%, macro F1 %.4f after %zu epochs\n", id.c_str(), 100 * e.value("top1", 0.0),
              e.value("macro_f1", 0.0), result["curve"].size());
}

// Runs the shard's cells until all are finished, by this process or another one. The signal that stopped it,
// or 0.
int run_cells(const tools::StudyPlan& plan, const tools::Shard& shard, const tools::StudyOptions& options) {
  constexpr auto kPatience = std::chrono::milliseconds(200);
  tools::StudyOptions again = options;  // a failed cell is run again once, not until it works
  std::vector<bool> seen(plan.cells.size());
  bool waiting_said = false;
  for (bool waiting = true; waiting;) {
    waiting = false;
    for (size_t i = 0; i < plan.cells.size(); ++i) {
      if (!shard.has(i) || seen[i]) continue;
      if (const int signal = tools::stop_signal()) return signal;
      const tools::StudyCell& cell = plan.cells[i];
      tools::CellResult result = tools::read_cell(cell, again);
      if (result.is_null()) {
        std::printf("[%zu/%zu] %s ...\n", i + 1, plan.cells.size(), cell.id.c_str());
        std::fflush(stdout);
        const tools::CellOutcome outcome = tools::run_cell(cell, again);
        if (outcome == tools::CellOutcome::interrupted) return tools::stop_signal();
        waiting = waiting || outcome == tools::CellOutcome::claimed_elsewhere;
        if (outcome == tools::CellOutcome::claimed_elsewhere) continue;
        tools::StudyOptions as_it_is = options;
        as_it_is.retry = false;
        result = tools::read_cell(cell, as_it_is);
      }
      seen[i] = true;
      if (!result.is_null()) describe(result);
      std::fflush(stdout);
    }
    if (waiting && !waiting_said) tools::log_line("waits for cells that other processes are at");
    waiting_said = waiting;
    if (waiting) std::this_thread::sleep_for(kPatience);
  }
  return 0;
}

tools::Shard shard_of(const Request& r) {
  return r.shard.empty() ? tools::shard_of_environment() : tools::parse_shard(r.shard);
}

void report(const tools::StudyPlan& plan, const tools::StudyOptions& options) {
  tools::StudyOptions as_it_is = options;
  as_it_is.retry = false;
  // One process at a time; the last one's report has all.
  const std::string lock = (fs::path(options.out) / "lock").string();
  const int file = open(lock.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  if (file < 0 || flock(file, LOCK_EX) != 0) fail(ErrorKind::resource, "{}: cannot be locked", lock);
  std::vector<tools::CellResult> results;
  for (const tools::StudyCell& cell : plan.cells) results.push_back(tools::read_cell(cell, as_it_is));
  tools::write_report(tools::study_report(plan, results, options.out), options.out);
  close(file);
  tools::log_line(message("wrote {}", (fs::path(options.out) / "report.html").string()));
}

int run(tools::Flags& flags) {
  Request r;
  tools::StudyOptions& o = r.options;
  flags.text("--recipe", r.recipe, "paper, cifar10, quick, or a JSON file (tools/recipes has examples)");
  flags.on("--quick", r.quick, "the recipe quick: the embedded data set, minutes on a CPU");
  flags.text("--out", o.out, "folder of the study").required();
  flags.text("--data", o.data, "folder that holds the data sets' folders");
  flags.text("--weights-dir", o.weights, "folder of pretrained weights, <network>.safetensors");
  flags.text("--cache-dir", o.cache, "folder for decoded images, for train");
  flags.list("--models", r.models, "only these networks; commas between them");
  flags.list("--datasets", r.data, "only these data sets; commas between them");
  flags.whole("--epochs", r.epochs, 1, 100'000, "instead of the recipe's");
  flags.list("--set", r.settings, "flag=value: a flag of train for every cell; may be repeated");
  flags.text("--shard", r.shard, "i/n: only every n-th cell, from the i-th (default: what SLURM or MPI say)");
  flags.on("--retry", o.retry, "run failed cells again");
  flags.on("--report-only", r.report_only, "run nothing, write the report of what is there");
  flags.on("--list", r.list, "print the cells and run nothing");
  flags.whole("--pictures", o.explained_images, 0, 100,
              "images per cell that the report shows, with what the network saw in them");
  flags.whole("--latency-batch", o.latency_batch, 1, 65'536, "images at once when a batch is timed");
  flags.number("--latency-seconds", o.latency_seconds, 0, tools::kMostLatencySeconds,
               "of timing per batch size, instead of the recipe's");
  flags.whole("--workers", o.workers, 0, 256, "loader threads of train");
  flags.text("--device", r.device, "cpu, cuda or simt, for all programs");
  flags.text("--threads", r.threads, "of the cpu device");
  flags.list("--variant", r.variants, "slot=name, for all programs; may be repeated");
  flags.parse();
  PLUME_CHECK(!(r.quick && flags.given("--recipe")), "--quick and --recipe exclude each other");
  if (r.quick) r.recipe = "quick";
  if (!r.device.empty()) o.forwarded.insert(o.forwarded.end(), {"--device", name(parse_device(r.device))});
  if (!r.threads.empty()) {
    tools::parse_whole("--threads", r.threads, 0, 4096);
    o.forwarded.insert(o.forwarded.end(), {"--threads", r.threads});
  }
  for (const std::string& variant : r.variants) o.forwarded.insert(o.forwarded.end(), {"--variant", variant});
  if (!flags.given("--workers")) o.workers = -1;
  tools::catch_signals();

  r.models = words_of(r.models);
  r.data = words_of(r.data);
  const tools::StudyPlan plan = tools::plan_study(read_recipe(r.recipe), r.recipe, selection_of(r));
  if (!flags.given("--latency-seconds")) o.latency_seconds = plan.latency_seconds;
  const tools::Shard shard = shard_of(r);
  if (r.list) {
    for (size_t i = 0; i < plan.cells.size(); ++i)
      if (shard.has(i)) std::printf("%s\n", plan.cells[i].id.c_str());
    return 0;
  }
  std::error_code error;
  fs::create_directories(o.out, error);
  if (error) fail(ErrorKind::resource, "--out {}: cannot be made: {}", o.out, error.message());
  // Also tells of cells that were run with other settings, before anything is done.
  for (const tools::StudyCell& cell : plan.cells) tools::read_cell(cell, o);
  const int signal = r.report_only ? 0 : run_cells(plan, shard, o);
  report(plan, o);
  if (!signal) return 0;
  tools::log_line("interrupted; the same command goes on with the study");
  return 128 + signal;
}

}  // namespace

int main(int argc, char** argv) {
  return plume::tools::run_tool(argc, argv, "Trains and compares networks on data sets, and writes a report.",
                                run);
}
