// The device that is not there: memory, streams that run late, recordings. No CUDA here: the entry points
// (*_api.cpp) translate.
//
// A stream keeps what it is given and runs it when somebody waits for it, as late as a GPU could: what the
// host frees or overwrites too early is gone by then. Device memory is closed to the host meanwhile.
#pragma once
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "tests/cuda_host/stand_in/control.h"

namespace plume::stand_in {

// The numbers of cudaError_t.
enum Status : int {
  kSuccess = 0,
  kInvalidValue = 1,
  kOutOfMemory = 2,
  kNoDevice = 100,
  kNoKernelImage = 209,
  kIllegalState = 401,
  kNotReady = 600,
  kCaptureUnsupported = 900,
  kCaptureInvalidated = 901,
  kCaptureUnmatched = 903,
  kCaptureUnjoined = 904,
  kCaptureIsolation = 905,
  kCaptureImplicit = 906,
  kUnknown = 999
};

// A block that a piece of work reads or writes.
struct Use {
  const char* begin;
  uint64_t serial;  // of the allocation
};

struct Work {
  std::string name;
  std::function<void()> run;
  std::vector<Use> uses;
  uint64_t node = 0;         // of a recording; 0: given to a stream
  uint32_t correlation = 0;  // of the call that gave it, for the tracer
  double microseconds = 1;   // what events see of it
  bool at_once = false;      // needs other processes, and runs before the call that gives it returns
};

enum class CaptureMode { global, thread_local_, relaxed };
struct Stream;
struct Capture {
  std::vector<Work> nodes;
  Stream* origin = nullptr;
  CaptureMode mode = CaptureMode::relaxed;
  bool invalid = false;
};

struct Stream {
  std::deque<Work> queue;
  uint64_t given = 0, done = 0;  // pieces of work so far
  double microseconds = 0;       // of what was given
  bool running = false;
  std::shared_ptr<Capture> capture;
  uint64_t recorded = 0, joined = 0;  // of what it recorded, how much the origin waits for
};

struct Event {
  Stream* stream = nullptr;
  uint64_t position = 0;
  double microseconds = 0;           // of what the stream was given before it
  std::shared_ptr<Capture> capture;  // recorded into this
};

// Blocks by address, to tell which memory a pointer is in.
class Blocks {
 public:
  void add(char* begin, size_t bytes) { blocks_[begin] = {bytes, ++serial_}; }
  void remove(char* begin) { blocks_.erase(begin); }
  bool has(const void* p) const { return find(p) != blocks_.end(); }
  bool begins(char* p) const { return blocks_.count(p) > 0; }
  size_t bytes(char* begin) const { return blocks_.at(begin).bytes; }
  void note(const void* p, std::vector<Use>& uses) const;  // nothing where p is elsewhere
  bool alive(const Use& use) const;

 private:
  struct Block {
    size_t bytes;
    uint64_t serial;
  };
  std::map<const char*, Block>::const_iterator find(const void* p) const;
  std::map<const char*, Block> blocks_;
  inline static uint64_t serial_ = 0;
};

// What the tracer (cupti_api.cpp) is told.
struct Watcher {
  void (*node_made)(uint64_t node) = nullptr;
  void (*given)(Work& work) = nullptr;
  void (*ran)(const Work& work, uint64_t begin_ns, uint64_t end_ns) = nullptr;
};

class Machine {
 public:
  static Machine& get();
  static uint64_t now();  // nanoseconds

  // Every entry point begins so: counts the call, and the status it must return where it is to fail.
  Status enter(const char* call);
  std::recursive_mutex& mutex() { return mutex_; }
  Status last_error() { return last_; }
  Status clear_error();
  Status report(Status status) { return status == kSuccess ? status : last_ = status; }
  // A mistake that a driver lets pass.
  void remark(const std::string& what);

  // ---- memory
  Status allocate(void** pointer, size_t bytes);
  Status release(void* pointer);
  Status allocate_pinned(void** pointer, size_t bytes);
  Status release_pinned(void* pointer);
  bool on_device(const void* p) const { return device_.has(p); }
  bool pinned(const void* p) const { return pinned_.has(p); }
  void memory(size_t* available, size_t* total) const;
  void note_use(const void* p, std::vector<Use>& uses) const;

  // ---- streams
  Stream* make_stream();
  // Onto the stream's queue, or into its recording.
  Status give(Stream* stream, Work work);
  Status copy(void* to, const void* from, size_t bytes, Stream* stream);
  Status wait(Stream* stream);
  Status wait_for_all();
  Status query(Stream* stream);
  Status record(Event& event, Stream* stream);
  Status wait(const Event& event);  // the host
  Status query(const Event& event);
  Status wait(Stream* stream, const Event& event);

  // ---- recordings
  Status begin_capture(Stream* stream, CaptureMode mode);
  Status end_capture(Stream* stream, std::shared_ptr<Capture>* capture);
  Status replay(const std::shared_ptr<Capture>& graph, Stream* stream);

  Counts counts;
  Watcher watcher;
  uint64_t fail_call = 0, fail_malloc = 0;
  std::string fail_named;  // the first call of that name fails
  std::string last_failed;
  bool tracer_works = true;
  bool has_kernels = true;  // for its architecture
  int tracer_refuses = 0;   // what enabling an activity returns

 private:
  Machine();
  void run_until(Stream& stream, uint64_t position);
  void run(const Work& work);
  // For calls that a recording forbids; `unsafe`: unless it is relaxed.
  Status forbidden(const char* call, bool unsafe);
  void open();
  void close();
  bool take_range(size_t bytes, size_t& offset);

  mutable std::recursive_mutex mutex_;
  Status last_ = kSuccess;
  std::vector<std::unique_ptr<Stream>> streams_;
  Blocks device_, pinned_;
  char* arena_ = nullptr;
  size_t arena_bytes_ = 0;
  std::map<size_t, size_t> free_;  // ranges of the arena
  int open_depth_ = 0;
  struct Fill {
    char* begin;
    size_t bytes;
    int byte;
  };
  std::vector<Fill> fills_;  // to be done when it is next open
  bool guard_ = true;
  int key_ = -1;  // of memory protection; none where the processor has none
  uint64_t nodes_ = 0;
};

}  // namespace plume::stand_in
