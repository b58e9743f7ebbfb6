// What a classifier gets right: top-k accuracy, confusion matrix, precision, recall, macro F1.
#pragma once
#include <cstdint>
#include <span>
#include <vector>

namespace plume {

// Counts add up over batches, so that every sample counts once whatever the batch size.
class ClassificationMetrics {
 public:
  // top_k: the k of top_k_accuracy(); at most `classes` are looked at.
  explicit ClassificationMetrics(int classes, int top_k = 5);

  // logits [count, classes]; labels [count] in 0..classes-1 (throws usage otherwise; numeric on a NaN).
  // A tie counts for the lower class.
  void add(std::span<const float> logits, std::span<const int32_t> labels);

  // All counters in one row, to be added up with those of other processes and put back.
  std::vector<int64_t> counters() const;
  void set_counters(std::span<const int64_t> counters);

  int classes() const { return classes_; }
  int top_k() const { return top_k_; }
  int64_t count() const { return count_; }
  int64_t confusion(int label, int predicted) const {
    return confusion_[size_t(label) * size_t(classes_) + size_t(predicted)];
  }
  // In 0..1; 0 where nothing was counted.
  double accuracy() const;
  double top_k_accuracy() const;
  double precision(int c) const;  // TP / (TP + FP), 0 where never predicted
  double recall(int c) const;     // TP / (TP + FN), 0 where there is no such sample
  // 2 TP / (2 TP + FP + FN), 0 where all are zero
  double f1(int c) const;
  // The unweighted mean of f1 over the classes that occur among the labels or the predictions, as
  // scikit-learn's f1_score(average="macro") has it; 0 where nothing was counted.
  double macro_f1() const;
  int occurring_classes() const;  // how many that are

 private:
  int64_t predicted_as(int c) const;
  int64_t labelled(int c) const;
  bool occurs(int c) const { return predicted_as(c) + labelled(c) > 0; }

  int classes_, top_k_;
  int64_t count_ = 0, correct_ = 0, correct_top_k_ = 0;
  std::vector<int64_t> confusion_;  // [label, predicted]
};

}  // namespace plume
