#include "engine/metrics/classification.h"

#include <algorithm>
#include <cmath>

#include "engine/core/error.h"

namespace plume {
namespace {

double ratio(int64_t part, int64_t whole) { return whole ? double(part) / double(whole) : 0.0; }

}  // namespace

ClassificationMetrics::ClassificationMetrics(int classes, int top_k)
    : classes_(classes), top_k_(std::min(top_k, classes)) {
  PLUME_CHECK(classes > 0 && top_k > 0, "metrics: {} classes, top {}", classes, top_k);
  confusion_.resize(size_t(classes) * size_t(classes));
}

void ClassificationMetrics::add(std::span<const float> logits, std::span<const int32_t> labels) {
  PLUME_CHECK(logits.size() == labels.size() * size_t(classes_),
              "metrics: {} logits for {} labels of {} classes", logits.size(), labels.size(), classes_);
  for (const int32_t label : labels)
    PLUME_CHECK(label >= 0 && label < classes_, "metrics: label {} of {} classes", label, classes_);
  for (size_t n = 0; n < labels.size(); ++n) {
    const std::span<const float> row = logits.subspan(n * size_t(classes_), size_t(classes_));
    const size_t label = size_t(labels[n]);
    if (std::any_of(row.begin(), row.end(), [](float v) { return std::isnan(v); }))
      fail(ErrorKind::numeric, "metrics: sample {} has a NaN among its logits", count_);
    const size_t predicted = size_t(std::max_element(row.begin(), row.end()) - row.begin());
    ++count_;
    ++confusion_[label * size_t(classes_) + predicted];
    int before = 0;  // classes that rank higher than the label
    for (size_t c = 0; c < row.size(); ++c)
      before += row[c] > row[label] || (row[c] == row[label] && c < label);
    correct_ += before == 0;
    correct_top_k_ += before < top_k_;
  }
}

std::vector<int64_t> ClassificationMetrics::counters() const {
  std::vector<int64_t> all = confusion_;
  all.insert(all.end(), {count_, correct_, correct_top_k_});
  return all;
}

void ClassificationMetrics::set_counters(std::span<const int64_t> counters) {
  const size_t pairs = confusion_.size();
  PLUME_CHECK(counters.size() == pairs + 3, "metrics: {} counters for {} classes", counters.size(), classes_);
  confusion_.assign(counters.begin(), counters.begin() + int64_t(pairs));
  count_ = counters[pairs];
  correct_ = counters[pairs + 1];
  correct_top_k_ = counters[pairs + 2];
}

double ClassificationMetrics::accuracy() const { return ratio(correct_, count_); }
double ClassificationMetrics::top_k_accuracy() const { return ratio(correct_top_k_, count_); }

int64_t ClassificationMetrics::predicted_as(int c) const {
  int64_t sum = 0;
  for (int label = 0; label < classes_; ++label) sum += confusion(label, c);
  return sum;
}

int64_t ClassificationMetrics::labelled(int c) const {
  int64_t sum = 0;
  for (int predicted = 0; predicted < classes_; ++predicted) sum += confusion(c, predicted);
  return sum;
}

double ClassificationMetrics::precision(int c) const { return ratio(confusion(c, c), predicted_as(c)); }
double ClassificationMetrics::recall(int c) const { return ratio(confusion(c, c), labelled(c)); }
double ClassificationMetrics::f1(int c) const {
  return ratio(2 * confusion(c, c), predicted_as(c) + labelled(c));
}

double ClassificationMetrics::macro_f1() const {
  double sum = 0;
  for (int c = 0; c < classes_; ++c) sum += f1(c);  // 0 for a class that does not occur
  const int occurring = occurring_classes();
  return occurring ? sum / occurring : 0.0;
}

int ClassificationMetrics::occurring_classes() const {
  int found = 0;
  for (int c = 0; c < classes_; ++c) found += occurs(c);
  return found;
}

}  // namespace plume
