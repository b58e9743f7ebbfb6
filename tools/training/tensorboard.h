// Scalars in TensorBoard's event files: TFRecords of the protocol buffer tensorflow.Event (tensorflow's
// core/util/event.proto, core/framework/summary.proto).
#pragma once
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace plume::tools {

struct ScalarEvent {
  double wall_time = 0;  // seconds since 1970
  int64_t step = 0;
  std::vector<std::pair<std::string, float>> scalars;  // tag, value
};

// The record that every event file begins with.
std::string tensorboard_header(double wall_time);
std::string tensorboard_record(const ScalarEvent& event);

// CRC-32C (Castagnoli), as TFRecords mask it.
uint32_t crc32c(const void* data, size_t bytes);
uint32_t masked_crc32c(const void* data, size_t bytes);

}  // namespace plume::tools
