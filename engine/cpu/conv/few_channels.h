// Convolutions of images of one to three channels in f32, a row of outputs at a time: what operations share
// that begin with one (few_channels.cpp, few_channels_pool.cpp).
#pragma once
#include <vector>

#include "engine/cpu/conv/few_channels_row.h"
#include "engine/math/epilogue.h"
#include "engine/ops/conv2d.h"

namespace plume::cpu {

// What every thread needs.
class FewChannels {
 public:
  // The epilogue has no residual.
  FewChannels(const Tensor& x, const Tensor& w, const Conv2dParams&, const Epilogue&);

  static bool fits(const Tensor& x, const Tensor& w, const Conv2dParams&, const Epilogue&);

  static constexpr int kMostFilterRows = 16;

  // One thread's rows, in any order; quickest from the top down, since an image row under several rows of
  // outputs is then copied once. One at a time in a thread.
  class Rows {
   public:
    explicit Rows(const FewChannels& job);
    // out [out_width, filters]: row p of the outputs of image n.
    void compute(int64_t n, int64_t p, float* out);

   private:
    float* line(int64_t h) const { return memory_ + (h & (places_ - 1)) * length_; }
    void find(int64_t n, int64_t first);

    const FewChannels& job_;
    int64_t rows_, places_, padding_, length_, image_ = -1, next_ = 0;
    float* memory_;
    const float* lines_[kMostFilterRows];
  };

 private:
  const Tensor &x_, &w_;
  const Conv2dParams& params_;
  const EpilogueView<float> epilogue_;
  const int64_t out_width_;
  std::vector<float> made_;
  const float* panels_;
  FewChannelsRowKernel* kernel_;
};

}  // namespace plume::cpu
