// Rows of an image of three channels in shared memory, for first layers: filters of 3x3 or 7x7 pixels, two
// pixels apart. They lie there as they do in memory, zeros beside them. Under a row of the filter lie 9 (21)
// neighbouring values, 5 (11) words of which one has a value too many: its first where the filter begins in
// the middle of a word, else its last. A pitch of 8 words more than a multiple of 16 keeps four rows' words
// apart: those of eight pixels, three words from one to the next, are then in banks of their own.
#pragma once
#include "kernels/common/matrix_operands.h"
#include "kernels/conv2d_sizes.h"

namespace plume::PLUME_KERNELS {

template <int kSide>
struct StemDepth {
  static constexpr int kTaps = 3 * kSide;         // values of a row of the filter
  static constexpr int kWords = (kTaps + 1) / 2;  // under it
};

struct StemWalk {
  int height, row_values, rows, columns, filters;  // of x, of y
  int padding, lead;                               // 1: the first word under a filter has a value too many
  int left, begin, pitch;  // words: zeros before a row, where column 0's filter begins, from row to row
  int groups;              // of filters
  bool whole, even;        // copies of 16 bytes, of 4
  FastDivide by_chunks;

  // Columns from -`before` to `end` of y are multiplied.
  StemWalk(const ConvSizes& s, const void* x, int before, int end, int filters_of_group)
      : height(s.height),
        row_values(s.width * s.channels),
        rows(s.out_height),
        columns(s.out_width),
        filters(s.filters),
        padding(s.padding),
        lead(s.padding % 2),
        left((first(s) + 3 * before + 3) / 4 * 4),
        begin(left - first(s)),
        pitch(round(std::max(left + (row_values + 1) / 2, begin + 3 * end + (3 * s.filter_width + 1) / 2))),
        groups(int(ceil_div(s.filters, filters_of_group))),
        whole(row_values % kChunk == 0 && reinterpret_cast<uintptr_t>(x) % 16 == 0),
        even(row_values % 2 == 0 && reinterpret_cast<uintptr_t>(x) % 4 == 0),
        by_chunks(pitch / 4) {}

  static int first(const ConvSizes& s) { return (3 * s.padding + s.padding % 2) / 2; }
  static int round(int words) { return (words + 7) / 16 * 16 + 8; }
  static bool fits(const ConvSizes& s) {
    return s.channels == 3 && s.stride == 2 && s.dilation == 1 && s.filter_height == s.filter_width &&
           (s.filter_width == 3 || s.filter_width == 7) && s.filters % 8 == 0;
  }
  int row_bytes() const { return 4 * pitch; }
};

// Rows of y and those of x under them: n neighbouring ones from row r on need span + (n - 1) * step from row
// r * step + top on. All rows of y are shared out among blocks, neighbouring ones to each, and these take
// them in bands, of which none leaves its image.
struct StemBands {
  int images, rows, step, top, span;
  int most = 0;                       // rows of a band
  int parts = 0, each = 0, more = 0;  // shares, and rows of each; so many have one more

  // For so many `blocks` on a multiprocessor, and groups of filters, where a block has room for `most_rows`.
  // False: not even for one.
  bool cut(int most_rows, int blocks, int groups) {
    if (most_rows < 1) return false;
    most = int(ceil_div(rows, ceil_div(rows, most_rows)));
    const int64_t places = std::max<int64_t>(blocks * simt::multiprocessors() / groups, 1);
    const int64_t all = int64_t(images) * rows;
    parts = int(std::min(places, all));
    each = int(all / parts);
    more = int(all % parts);
    return true;
  }
  PLUME_HD int rows_of_x(int n) const { return span + (n - 1) * step; }
};

// Bytes of shared memory that each of so many blocks may take.
inline int stem_bytes(int blocks) { return simt::most_shared_bytes() / blocks - 1024; }

// The block's way through its share.
struct StemShare {
  const StemBands& bands;
  int group, next, last;  // of the filters; of all rows of y
  int image, row, rows;   // the band

  __device__ __forceinline__ StemShare(const StemBands& bands_, int groups) : bands(bands_) {
    const int part = int(blockIdx.x) / groups;
    group = int(blockIdx.x) - part * groups;
    next = part * bands.each + min(part, bands.more);
    last = next + bands.each + (part < bands.more ? 1 : 0);
    image = next / bands.rows;
    row = next - image * bands.rows;
    measure();
  }
  // To the next band; false behind the last one.
  __device__ __forceinline__ bool go_on() {
    next += rows;
    row += rows;
    if (row == bands.rows) {
      row = 0;
      ++image;
    }
    measure();
    return next < last;
  }
  // Starts the copies of the rows of x under the band.
  template <class T, int kThreads>
  __device__ __forceinline__ void fetch(const T* x, const StemWalk& walk, char* to) const {
    const int first = row * bands.step + bands.top, chunks = walk.pitch / 4;
    for (int i = int(threadIdx.x); i < bands.rows_of_x(rows) * chunks; i += kThreads) {
      const int of_band = walk.by_chunks(i), h = first + of_band;
      const int value = (i - of_band * chunks) * kChunk - 2 * walk.left;
      const bool inside = unsigned(h) < unsigned(walk.height) && value >= 0;
      const int valid = inside ? min(max(walk.row_values - value, 0), kChunk) : 0;
      const T* const from = x + ((image * walk.height + h) * walk.row_values + value);
      if (walk.whole)
        copy_chunk<true, false>(to + 16 * i, from, valid, true);
      else
        copy_chunk<false, false>(to + 16 * i, from, valid, walk.even);
    }
  }

 private:
  __device__ __forceinline__ void measure() { rows = min(min(bands.most, bands.rows - row), last - next); }
};

}  // namespace plume::PLUME_KERNELS
