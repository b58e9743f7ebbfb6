#include "tools/study/plan.h"

#include <algorithm>
#include <cstdlib>
#include <map>

#include "data/sets/registry.h"
#include "engine/core/error.h"
#include "engine/core/text.h"
#include "engine/serialization/safetensors.h"
#include "models/registry.h"
#include "tools/cli/flags.h"
#include "tools/cli/json.h"
#include "tools/study/paper.h"

namespace plume::tools {
namespace {

struct Override {
  std::map<std::string, std::string> when;
  StudySettings settings;
};

// One combination of a group's axes.
struct Combination {
  std::string model, data, start, variant;
};

// Reads a recipe, naming the place of whatever does not belong.
class Reader {
 public:
  explicit Reader(std::string source) : source_(std::move(source)) {}

  [[noreturn]] void reject(const std::string& place, const std::string& what) const {
    fail(ErrorKind::bad_input, "{}: {}: {}", source_, place, what);
  }
  void only(const Json& object, const std::string& place, const std::vector<std::string>& known) const {
    if (!object.is_object()) reject(place, "expected an object");
    for (const auto& [key, value] : object.items())
      if (std::find(known.begin(), known.end(), key) == known.end())
        reject(place, message("'{}' is unknown; nearest: '{}'", key, nearest(key, known)));
  }
  std::string text(const Json& object, const char* key, const std::string& place) const {
    if (!object.contains(key) || !object[key].is_string() || object[key].get<std::string>().empty())
      reject(place, message("'{}' is missing or no text", key));
    return object[key];
  }
  std::vector<std::string> texts(const Json& object, const char* key, const std::string& place,
                                 const std::vector<std::string>& allowed) const {
    if (!object.contains(key) || !object[key].is_array() || object[key].empty())
      reject(place, message("'{}' is missing or no list", key));
    std::vector<std::string> all;
    for (const Json& item : object[key]) {
      if (!item.is_string()) reject(place, message("'{}' holds something that is no text", key));
      all.push_back(item);
      if (std::find(allowed.begin(), allowed.end(), all.back()) == allowed.end())
        reject(place,
               message("{} '{}' is unknown; nearest: '{}'", key, all.back(), nearest(all.back(), allowed)));
    }
    return all;
  }
  StudySettings settings(const Json& object, const std::string& place) const {
    if (!object.is_object()) reject(place, "expected an object of train's flags");
    StudySettings all;
    for (const auto& [key, value] : object.items()) {
      if (key.empty() || key.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789-") != std::string::npos)
        reject(place, message("{} is no flag's name", in_quotes(key)));
      for (const char* own : {"model", "data", "weights", "out", "resume", "overwrite", "config"})
        if (key == own) reject(place, message("'{}' is set by the study", key));
      if (value.is_string())
        all.emplace_back(key, value.get<std::string>());
      else if (value.is_number() || value.is_boolean())
        all.emplace_back(key, to_text(value));
      else
        reject(place, message("'{}' is neither text, number nor true or false", key));
    }
    return all;
  }

 private:
  std::string source_;
};

void overlay(StudySettings& settings, const StudySettings& over) {
  for (const auto& [key, value] : over) {
    const auto same = [&key = key](const auto& entry) { return entry.first == key; };
    const auto found = std::find_if(settings.begin(), settings.end(), same);
    if (found == settings.end())
      settings.emplace_back(key, value);
    else
      found->second = value;
  }
}

std::vector<Override> read_overrides(const Reader& reader, const Json& recipe) {
  std::vector<Override> all;
  if (!recipe.contains("overrides")) return all;
  if (!recipe["overrides"].is_array()) reader.reject("overrides", "expected a list");
  for (const Json& item : recipe["overrides"]) {
    const std::string place = message("overrides[{}]", all.size());
    reader.only(item, place, {"when", "settings"});
    Override one;
    if (item.contains("when")) {
      reader.only(item["when"], place + ".when", {"model", "data", "start"});
      for (const auto& [key, value] : item["when"].items())
        one.when[key] = reader.text(item["when"], key.c_str(), place + ".when");
    }
    if (!item.contains("settings")) reader.reject(place, "'settings' is missing");
    one.settings = reader.settings(item["settings"], place + ".settings");
    all.push_back(std::move(one));
  }
  return all;
}

bool applies(const Override& o, const Combination& c) {
  for (const auto& [key, value] : o.when)
    if (value != (key == "model" ? c.model : key == "data" ? c.data : c.start)) return false;
  return true;
}

std::string slug(const std::string& text) {
  std::string out;
  for (const char c : text)
    if (std::isalnum(uint8_t(c)) || c == '_')
      out += char(std::tolower(uint8_t(c)));
    else if (!out.empty() && out.back() != '-')
      out += '-';
  while (out.ends_with('-')) out.pop_back();
  return out;
}

bool wanted(const std::vector<std::string>& selected, const std::string& name) {
  return selected.empty() || std::find(selected.begin(), selected.end(), name) != selected.end();
}

class Planner {
 public:
  Planner(const std::string& source, const StudySelection& selection)
      : reader_(source), selection_(selection) {}

  StudyPlan plan(const Json& recipe, const std::string& source) {
    reader_.only(recipe, "recipe", {"title", "about", "latency_seconds", "settings", "overrides", "groups"});
    plan_.recipe = source;
    plan_.title = reader_.text(recipe, "title", "recipe");
    if (recipe.contains("about")) plan_.about = reader_.text(recipe, "about", "recipe");
    if (recipe.contains("latency_seconds")) {
      const Json& seconds = recipe["latency_seconds"];
      if (!seconds.is_number() || seconds < 0.0 || seconds > kMostLatencySeconds)
        reader_.reject("recipe", message("'latency_seconds' is no number from 0 to {}", kMostLatencySeconds));
      plan_.latency_seconds = seconds;
    }
    if (recipe.contains("settings")) settings_ = reader_.settings(recipe["settings"], "settings");
    overrides_ = read_overrides(reader_, recipe);
    if (!recipe.contains("groups") || !recipe["groups"].is_array() || recipe["groups"].empty())
      reader_.reject("recipe", "'groups' is missing or no list");
    for (const Json& group : recipe["groups"]) add_group(group);
    return std::move(plan_);
  }

 private:
  void add_group(const Json& json) {
    const std::string place = message("groups[{}]", plan_.groups.size());
    reader_.only(json, place, {"name", "title", "kind", "axes"});
    StudyGroup group;
    group.name = reader_.text(json, "name", place);
    group.title = json.contains("title") ? reader_.text(json, "title", place) : group.name;
    const std::string kind = json.contains("kind") ? reader_.text(json, "kind", place) : "ablation";
    if (kind != "main" && kind != "ablation") reader_.reject(place, "'kind' is neither main nor ablation");
    group.main = kind == "main";
    if (!json.contains("axes")) reader_.reject(place, "'axes' is missing");
    const Json& axes = json["axes"];
    reader_.only(axes, place + ".axes", {"model", "data", "start", "variant"});
    std::vector<std::pair<std::string, StudySettings>> variants = {{"", {}}};
    if (axes.contains("variant")) {
      if (!axes["variant"].is_object() || axes["variant"].empty())
        reader_.reject(place + ".axes", "'variant' is no object of names and settings");
      variants.clear();
      for (const auto& [name, settings] : axes["variant"].items())
        variants.emplace_back(name, reader_.settings(settings, message("{}.axes.variant.{}", place, name)));
    }
    for (const std::string& data : reader_.texts(axes, "data", place + ".axes", known_data()))
      for (const std::string& model : reader_.texts(axes, "model", place + ".axes", model_names()))
        for (const std::string& start :
             reader_.texts(axes, "start", place + ".axes", {"pretrained", "scratch"}))
          for (const auto& [variant, settings] : variants)
            if (wanted(selection_.models, model) && wanted(selection_.data, data))
              group.entries.push_back(
                  {add_cell({model, data, start, variant}, settings, group.name), variant});
    plan_.groups.push_back(std::move(group));
  }

  // The paper's too, so that its recipe reads the same in a build that lacks one: those cells then say so.
  static std::vector<std::string> known_data() {
    std::vector<std::string> names = data::dataset_names();
    for (const PaperScratch& paper : paper_scratch())
      if (std::find(names.begin(), names.end(), paper.data) == names.end()) names.emplace_back(paper.data);
    return names;
  }

  std::string add_cell(const Combination& c, const StudySettings& variant, const std::string& group) {
    StudyCell cell{"", c.model, c.data, c.start == "pretrained", settings_};
    for (const Override& o : overrides_)
      if (applies(o, c)) overlay(cell.settings, o.settings);
    overlay(cell.settings, variant);
    overlay(cell.settings, selection_.settings);
    StudySettings sorted = cell.settings;
    std::sort(sorted.begin(), sorted.end());
    std::string key = c.model + '\n' + c.data + '\n' + c.start;
    for (const auto& [name, value] : sorted) key += '\n' + name + '=' + value;
    const auto [found, fresh] = known_.emplace(key, "");
    if (!fresh) return found->second;
    cell.id = slug(c.model + "-" + c.data + "-" + c.start +
                   (c.variant.empty() ? "" : "-" + group + "-" + c.variant));
    for (int n = 2; plan_.find(cell.id); ++n)
      if (const std::string next = message("{}-{}", cell.id, n); !plan_.find(next)) cell.id = next;
    found->second = cell.id;
    plan_.cells.push_back(std::move(cell));
    return found->second;
  }

  Reader reader_;
  const StudySelection& selection_;
  StudySettings settings_;
  std::vector<Override> overrides_;
  std::map<std::string, std::string> known_;  // what makes a cell -> its id
  StudyPlan plan_;
};

const char* first_set(std::initializer_list<const char*> names) {
  for (const char* name : names)
    if (const char* value = std::getenv(name)) return value;
  return nullptr;
}

}  // namespace

const StudyCell* StudyPlan::find(const std::string& id) const {
  for (const StudyCell& cell : cells)
    if (cell.id == id) return &cell;
  return nullptr;
}

StudyPlan plan_study(const std::string& text, const std::string& source, const StudySelection& selection) {
  StudyPlan plan = Planner(source, selection).plan(parse_json(text, source), source);
  PLUME_CHECK(!plan.cells.empty(),
              "{}: nothing is left of the study; it has neither of the models and data sets "
              "asked for",
              source);
  return plan;
}

Shard parse_shard(const std::string& text) {
  const size_t slash = text.find('/');
  PLUME_CHECK(slash != std::string::npos, "--shard: '{}' is not i/n, like 0/4", text);
  Shard shard;
  shard.count = parse_whole("--shard", text.substr(slash + 1), 1, 1'000'000);
  shard.index = parse_whole("--shard", text.substr(0, slash), 0, shard.count - 1);
  return shard;
}

Shard shard_of_environment() {
  Shard shard;
  const char *index = first_set({"SLURM_ARRAY_TASK_ID"}), *count = first_set({"SLURM_ARRAY_TASK_COUNT"});
  const char* first = first_set({"SLURM_ARRAY_TASK_MIN"});
  if (!index || !count) {
    index = first_set({"OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK", "SLURM_PROCID"});
    count = first_set({"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_NTASKS"});
    first = nullptr;
  }
  if (!index || !count) return shard;
  constexpr int64_t kMost = 1'000'000;
  shard.count = parse_whole("the environment's number of tasks", count, 1, kMost);
  shard.index = parse_whole("the environment's task", index, 0, kMost);
  if (first) shard.index -= parse_whole("SLURM_ARRAY_TASK_MIN", first, 0, kMost);
  PLUME_CHECK(shard.index >= 0 && shard.index < shard.count,
              "the environment says task {} of {}; give --shard i/n", index, count);
  return shard;
}

}  // namespace plume::tools
