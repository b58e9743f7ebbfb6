#include "engine/serialization/fit_weights.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "engine/serialization/checkpoint.h"
#include "engine/serialization/double_precision.h"
#include "engine/serialization/fit_names.h"
#include "engine/serialization/state_dict.h"
#include "engine/serialization/weight_faults.h"

namespace plume {
namespace {

constexpr const char* kFlag = "--weights-key";
constexpr const char* kTop = ".";

// A dictionary, or the part of one under a prefix, on its way to the network.
struct Candidate {
  std::string key;  // as --weights-key names it
  std::vector<WeightTensor> tensors;
  std::vector<std::string> done;  // "takes 'module.' off the names"
  size_t matches = 0;             // wanted names that are there
  bool fits = false;              // but for the last layer
  bool headless = false;
};

std::string joined(const std::vector<std::string>& parts, const char* between) {
  std::string text;
  for (const std::string& part : parts) text += (text.empty() ? "" : between) + part;
  return text;
}

std::string last_component(const std::string& name) {
  const size_t dot = name.rfind('.');
  return dot == std::string::npos ? name : name.substr(dot + 1);
}

// A key that is empty cannot be given.
std::string readable_key(const std::string& key) { return key.empty() ? kTop : key; }

std::string keys_of(const std::vector<WeightGroup>& groups) {
  std::vector<std::string> keys;
  for (const WeightGroup& g : groups) keys.push_back(readable_key(g.key));
  return some_names(keys);
}

bool is_below(const std::string& name, const std::string& key) {
  return name.size() > key.size() && name.starts_with(key) && name[key.size()] == '.';
}

std::string names_and_count(const std::vector<std::string>& names) {
  return message("{} ({})", some_names(names), names.size());
}

// The tensors of a group whose names begin with `prefix`, which is taken off.
WeightGroup part_of(const WeightGroup& group, const std::string& key, const std::string& prefix) {
  WeightGroup part{key, {}};
  for (WeightTensor t : group.tensors)
    if (t.name.size() > prefix.size() && t.name.starts_with(prefix)) {
      t.name = t.name.substr(prefix.size());
      part.tensors.push_back(std::move(t));
    }
  return part;
}

// The groups that `key` names: whole ones, or parts of them.
std::vector<WeightGroup> named_groups(const Weights& weights, const std::string& key) {
  if (key.empty()) return weights.groups;
  std::vector<WeightGroup> named;
  for (const WeightGroup& group : weights.groups)
    if (group.key == (key == kTop ? "" : key)) return {group};
  for (const WeightGroup& group : weights.groups) {
    if (is_below(group.key, key)) named.push_back(group);
    const bool inside = group.key.empty() || is_below(key, group.key);
    if (!inside) continue;
    const std::string prefix = key.substr(group.key.empty() ? 0 : group.key.size() + 1) + ".";
    WeightGroup part = part_of(group, key, prefix);
    if (!part.tensors.empty()) named.push_back(std::move(part));
  }
  if (!named.empty()) return named;
  const bool plain = weights.groups.size() == 1 && weights.groups[0].key.empty();
  fail(ErrorKind::bad_input, "{}: {} {}: there is no such dictionary of tensors; {}", weights.path, kFlag,
       in_quotes(key), plain ? "the file is one itself" : "there are " + keys_of(weights.groups));
}

// A checkpoint of a training run has the optimiser's tensors too, under a prefix.
void drop_optimizer(const Weights& weights, std::vector<WeightTensor>& tensors) {
  if (!weights.metadata.contains("plume.format")) return;
  std::erase_if(tensors, [](const WeightTensor& t) { return t.name.starts_with(kOptimizerPrefix); });
}

class Ignored {
 public:
  explicit Ignored(const std::vector<std::string>& patterns) : patterns_(patterns) {}
  void drop(std::vector<WeightTensor>& tensors, std::vector<std::string>& dropped) {
    std::erase_if(tensors, [&](const WeightTensor& t) {
      const auto found = std::find_if(patterns_.begin(), patterns_.end(),
                                      [&](const std::string& p) { return matches(p, t.name); });
      if (found == patterns_.end()) return false;
      used_.insert(*found);
      dropped.push_back(t.name);
      return true;
    });
  }
  // A pattern that nothing fits is a slip.
  void check(const std::string& path) const {
    for (const std::string& p : patterns_)
      if (!used_.contains(p))
        fail(ErrorKind::bad_input, "{}: --ignore {}: no tensor has such a name", path, in_quotes(p));
  }

 private:
  const std::vector<std::string>& patterns_;
  Names used_;
};

bool is_harmless(const WeightTensor& tensor) {
  const std::string last = last_component(tensor.name);
  for (const char* counter : {"total_ops", "total_params", "n_averaged", "num_batches_tracked"})
    if (last == counter) return true;
  return false;
}

// mean and std of three channels: a network that normalises its images itself.
bool is_normalization(const WeightTensor& tensor) {
  const std::string last = last_component(tensor.name);
  const bool named = last == "mean" || last == "std" || last == "pixel_mean" || last == "pixel_std";
  uint64_t elements = 1;
  for (const uint64_t extent : tensor.shape) elements *= std::min<uint64_t>(extent, 4);
  return named && (elements == 1 || elements == 3);
}

void refuse_clashes(const std::string& path, const std::vector<WeightTensor>& tensors) {
  Names seen;
  for (const WeightTensor& t : tensors)
    if (!seen.insert(t.name).second)
      fail(ErrorKind::bad_input, "{}: has {} under two prefixes; {} or --ignore chooses", path,
           in_quotes(t.name), kFlag);
}

// "ema", "student." -> "ema.student"
std::string key_of(const std::string& group, const std::string& prefix) {
  if (prefix.empty()) return group;
  std::string key = group;
  if (!key.empty()) key += '.';
  key.append(prefix, 0, prefix.size() - 1);
  return key;
}

// Of real numbers, whole ones; 0 for what is none or beyond 2^53.
Tensor counted(const Tensor& reals) {
  Tensor whole = Tensor::empty(reals.shape(), DType::i64, Device::cpu, "file");
  dispatch_floating(reals.dtype(), [&](auto zero) {
    const auto* in = reals.data<decltype(zero)>();
    for (int64_t i = 0; i < reals.size(); ++i) {
      const auto value = double(float(in[i]));
      whole.data<int64_t>()[i] = std::abs(value) <= 0x1p53 ? std::llround(value) : 0;
    }
  });
  return whole;
}

class Fitter {
 public:
  Fitter(const std::string& path, const std::vector<TensorSource>& wanted, const FitOptions& options)
      : path_(path), wanted_(wanted), options_(options) {
    for (const TensorSource& w : wanted) names_.insert(w.name);
  }

  // One for each prefix that serves equally well.
  std::vector<Candidate> candidates(const WeightGroup& group, std::vector<std::string> done) const {
    std::vector<WeightTensor> plain = group.tensors;
    size_t wrapped = 0;
    Names removed;
    for (WeightTensor& t : plain) {
      const std::string bare = without_wrappers(t.name, names_, removed);
      wrapped += bare != t.name;
      t.name = bare;
    }
    if (wrapped > 0)
      done.push_back(message("takes {} off {} names",
                             joined({removed.begin(), removed.end()}, ". and ") + ".", wrapped));
    std::vector<std::string> names;
    for (const WeightTensor& t : plain) names.push_back(t.name);
    const std::vector<std::string> prefixes = best_prefixes(names, names_);
    std::vector<Candidate> found;
    for (const std::string& prefix : prefixes) {
      Candidate c{.key = group.key, .tensors = {}, .done = done};
      if (prefixes.size() > 1) c.key = key_of(group.key, prefix);
      for (WeightTensor t : plain) {
        const bool of_another = std::any_of(prefixes.begin(), prefixes.end(), [&](const std::string& other) {
          return other != prefix && other.size() >= prefix.size() && t.name.starts_with(other);
        });
        if (of_another || (prefixes.size() > 1 && !t.name.starts_with(prefix))) continue;
        if (t.name.starts_with(prefix)) t.name = t.name.substr(prefix.size());
        c.tensors.push_back(std::move(t));
      }
      if (!prefix.empty()) c.done.push_back(message("takes {} off the names", in_quotes(prefix)));
      finish(c);
      found.push_back(std::move(c));
    }
    return found;
  }

 private:
  void finish(Candidate& c) const {
    drop_left_over(c);
    refuse_clashes(path_, c.tensors);
    std::map<std::string_view, WeightTensor*> index;
    for (WeightTensor& t : c.tensors) index.emplace(t.name, &t);
    bool backbone = true, head = false;
    size_t reals = 0;
    const std::string block = options_.head.substr(0, options_.head.find('.') + 1);
    for (const TensorSource& w : wanted_) {
      const auto found = index.find(w.name);
      const bool of_head = !options_.head.empty() && w.name.starts_with(options_.head);
      if (found == index.end()) {
        // With the last layer those go that stand in a sequence with it: "classifier.0", "classifier.3".
        const bool near_head = !options_.head.empty() && w.name.starts_with(block);
        backbone = backbone && (near_head || is_batch_counter(w.name));
        continue;
      }
      ++c.matches;
      head = head || of_head;
      reals += adapt(*found->second, w);
      if (!of_head) backbone = backbone && fits_shape(*found->second, w.shape);
    }
    if (reals > 0) c.done.push_back(message("rounds {} counters that are real numbers", reals));
    c.headless = backbone && !head && !options_.head.empty();
    c.fits = backbone && std::all_of(c.tensors.begin(), c.tensors.end(),
                                     [&](const WeightTensor& t) { return names_.contains(t.name); });
  }

  void drop_left_over(Candidate& c) const {
    std::vector<std::string> counters, statistics;
    std::erase_if(c.tensors, [&](const WeightTensor& t) {
      if (names_.contains(t.name)) return false;
      if (is_harmless(t)) return counters.push_back(t.name), true;
      if (is_normalization(t)) return statistics.push_back(t.name), true;
      return false;
    });
    if (!counters.empty()) c.done.push_back("leaves out counters: " + names_and_count(counters));
    if (!statistics.empty())
      c.done.push_back("leaves out a normalisation, which images get beforehand here: " +
                       names_and_count(statistics));
  }

  // Whether a counter is a real number: what comes of halving or doubling all of a dictionary.
  static bool adapt(WeightTensor& t, const TensorSource& wanted) {
    if (wanted.shape.rank() == 0 && t.has_shape({1})) {
      t.shape.clear();
      t.read = [read = t.read] { return read().reshape({}); };
    }
    if (wanted.dtype != DType::i64) return false;
    const std::optional<DType> dtype = loaded_dtype(*t.type);
    const bool real = dtype && is_floating(*dtype) && is_batch_counter(wanted.name);
    if (!real && dtype != DType::i32) return false;
    t.type = &format_dtype(DType::i64);
    t.read = [read = t.read, real] { return real ? counted(read()) : widened(read()); };
    return real;
  }

  const std::string& path_;
  const std::vector<TensorSource>& wanted_;
  const FitOptions& options_;
  Names names_;
};

// The group with what is to be ignored left out, and what is said of it.
std::vector<std::string> prepare(const Weights& weights, WeightGroup& group, Ignored& ignored) {
  std::vector<std::string> done, dropped;
  if (!group.key.empty()) done.push_back("takes " + in_quotes(group.key));
  drop_optimizer(weights, group.tensors);
  ignored.drop(group.tensors, dropped);
  if (!dropped.empty()) done.push_back("leaves out as told: " + names_and_count(dropped));
  if (group.other_count > 0)
    done.push_back(message("leaves out what is no tensor: {} ({})",
                           some_names(group.others, group.other_count), group.other_count));
  return done;
}

FittedWeights result_of(const Weights& weights, const std::string& key, std::vector<WeightTensor> tensors,
                        const std::vector<std::string>& done) {
  FittedWeights result{.weights = weights, .note = {}, .headless = false};
  result.weights.groups = {{key, tensors}};
  result.weights.tensors = std::move(tensors);
  if (!done.empty()) result.note = weights.path + ": " + joined(done, "; ");
  return result;
}

[[noreturn]] void refuse_to_choose(const Weights& weights, const std::vector<std::string>& keys,
                                   const char* what) {
  fail(ErrorKind::bad_input, "{}: holds {} dictionaries of tensors{}: {}; choose with {}", weights.path,
       keys.size(), what, some_names(keys), kFlag);
}

}  // namespace

FittedWeights fit_weights(const Weights& weights, const std::vector<TensorSource>& wanted,
                          const FitOptions& options) {
  const Fitter fitter(weights.path, wanted, options);
  Ignored ignored(options.ignore);
  std::vector<Candidate> all;
  for (WeightGroup& group : named_groups(weights, options.key)) {
    const std::vector<std::string> done = prepare(weights, group, ignored);
    for (Candidate& c : fitter.candidates(group, done)) all.push_back(std::move(c));
  }
  ignored.check(weights.path);
  size_t most = 0;
  for (const Candidate& c : all) most = std::max(most, c.matches);
  const bool any_fits = std::any_of(all.begin(), all.end(), [](const Candidate& c) { return c.fits; });
  std::vector<std::string> keys;
  const Candidate* chosen = nullptr;
  for (const Candidate& c : all)
    if (any_fits ? c.fits : c.matches == most) {
      chosen = &c;
      keys.push_back(readable_key(c.key));
    }
  if (keys.size() > 1) refuse_to_choose(weights, keys, any_fits ? " that fit" : ", none of which fits");
  FittedWeights result = result_of(weights, chosen->key, chosen->tensors, chosen->done);
  result.headless = chosen->headless;
  return result;
}

FittedWeights choose_weights(const Weights& weights, const FitOptions& options) {
  std::vector<WeightGroup> groups = named_groups(weights, options.key);
  if (groups.size() > 1) {
    std::vector<std::string> keys;
    for (const WeightGroup& g : groups) keys.push_back(readable_key(g.key));
    refuse_to_choose(weights, keys, "");
  }
  Ignored ignored(options.ignore);
  const std::vector<std::string> done = prepare(weights, groups[0], ignored);
  ignored.check(weights.path);
  return result_of(weights, groups[0].key, std::move(groups[0].tensors), done);
}

}  // namespace plume
