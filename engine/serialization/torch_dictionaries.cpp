#include "engine/serialization/torch_dictionaries.h"

#include <algorithm>

namespace plume {
namespace {

using Kind = PickleValue::Kind;

// Bounds that no checkpoint reaches.
constexpr size_t kMaxDepth = 8, kMaxKey = 1024, kMaxListed = 64, kMaxPlaces = 10'000, kMaxDictionaries = 1000;

bool is_dict(const PickleValue& value) { return value.kind == Kind::dict || value.kind == Kind::opaque; }
bool is_list(const PickleValue& value) { return value.kind == Kind::list || value.kind == Kind::tuple; }

bool belongs_to_optimizer(std::string_view key) {
  return key.find("optim") != std::string_view::npos || key.find("Optim") != std::string_view::npos;
}

struct Tensors {
  bool any = false, matrices = false;
};

Tensors tensors_in(const Pickle& pickle, const PickleValue& dict) {
  Tensors found;
  for (size_t i = 0; i + 1 < dict.items.size(); i += 2) {
    const PickleValue& value = pickle[dict.items[i + 1]];
    if (pickle[dict.items[i]].kind != Kind::string || value.kind != Kind::tensor) continue;
    found.any = true;
    found.matrices = found.matrices || pickle[value.items[2]].items.size() >= 2;
  }
  return found;
}

}  // namespace

std::vector<FoundDictionary> find_dictionaries(const Pickle& pickle) {
  struct Place {
    std::string key;
    PickleRef ref;
    size_t depth;
  };
  std::vector<Place> places;
  std::vector<bool> seen(pickle.values().size(), false);
  const auto visit = [&](const std::string& parent, std::string_view key, PickleRef ref, size_t depth) {
    const PickleValue& value = pickle[ref];
    if (seen[ref] || (!is_dict(value) && !is_list(value)) || depth > kMaxDepth) return;
    if (places.size() == kMaxPlaces) return;
    if (parent.size() + key.size() >= kMaxKey || belongs_to_optimizer(key)) return;
    seen[ref] = true;
    places.push_back({parent + (parent.empty() ? "" : ".") + std::string(key), ref, depth});
  };
  visit("", "", pickle.top_ref(), 0);

  std::vector<FoundDictionary> all, with_matrices;
  for (size_t p = 0; p < places.size() && all.size() < kMaxDictionaries; ++p) {
    const Place place = places[p];  // `places` grows
    const PickleValue& value = pickle[place.ref];
    if (is_list(value)) {
      for (size_t i = 0; i < std::min(value.items.size(), kMaxListed); ++i)
        visit(place.key, std::to_string(i), value.items[i], place.depth + 1);
      continue;
    }
    const Tensors tensors = tensors_in(pickle, value);
    if (tensors.any) all.push_back({place.key, place.ref});
    if (tensors.matrices) with_matrices.push_back({place.key, place.ref});
    for (size_t i = 0; i + 1 < value.items.size(); i += 2)
      if (pickle[value.items[i]].kind == Kind::string)
        visit(place.key, pickle[value.items[i]].text, value.items[i + 1], place.depth + 1);
  }
  return with_matrices.empty() ? all : with_matrices;
}

}  // namespace plume
