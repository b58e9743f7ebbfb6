// Streams, events and recordings of the machine.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "tests/cuda_host/stand_in/machine.h"

namespace plume::stand_in {
namespace {

[[noreturn]] void die(const char* what, const std::string& name) {
  std::fprintf(stderr, "stand-in: %s: %s\n", what, name.c_str());
  std::abort();
}

}  // namespace

uint64_t Machine::now() {
  return uint64_t(std::chrono::steady_clock::now().time_since_epoch() / std::chrono::nanoseconds(1));
}

Machine& Machine::get() {
  static auto* const never_destroyed = new Machine;
  return *never_destroyed;
}

Status Machine::enter(const char* call) {
  const bool named = !fail_named.empty() && fail_named == call;
  if (++counts.calls != fail_call && !named) return kSuccess;
  fail_named.clear();
  last_failed = call;
  return report(kUnknown);
}

Status Machine::clear_error() {
  const Status status = last_;
  last_ = kSuccess;
  return status;
}

void Machine::remark(const std::string& what) {
  ++counts.remarks;
  std::fprintf(stderr, "stand-in: %s\n", what.c_str());
}

Status Machine::forbidden(const char* call, bool unsafe) {
  Status status = kSuccess;
  for (const auto& stream : streams_) {
    if (!stream->capture) continue;
    if (unsafe && stream->capture->mode == CaptureMode::relaxed) {
      // Allowed, and wrong but for an allocation: the memory may be a recording's.
      if (std::strcmp(call, "cudaMalloc") != 0) remark(std::string(call) + " while a step is recorded");
      continue;
    }
    stream->capture->invalid = true;
    status = kCaptureUnsupported;
  }
  return status;
}

Stream* Machine::make_stream() { return streams_.emplace_back(std::make_unique<Stream>()).get(); }

void Machine::run(const Work& work) {
  for (const Use& use : work.uses)
    if (!device_.alive(use) && !pinned_.alive(use)) {
      remark(work.name + " uses memory that has been freed");
      return;  // its address may be somebody else's
    }
  const uint64_t begin = now();
  work.run();
  if (watcher.ran) watcher.ran(work, begin, now());
}

void Machine::run_until(Stream& stream, uint64_t position) {
  if (stream.done >= position) return;
  open();
  while (stream.done < position) {
    if (stream.running) die("streams wait for each other", stream.queue.front().name);
    stream.running = true;
    run(stream.queue.front());
    stream.running = false;
    stream.queue.pop_front();
    ++stream.done;
  }
  close();
}

Status Machine::give(Stream* stream, Work work) {
  if (!stream) {
    // The legacy stream waits for the others, which one that records cannot.
    for (const auto& other : streams_)
      if (other->capture) {
        other->capture->invalid = true;
        return kCaptureImplicit;
      }
    remark(work.name + " on the default stream");
    if (const Status s = wait_for_all()) return s;
    open();
    run(work);
    close();
    return kSuccess;
  }
  if (stream->capture) {
    if (stream->capture->invalid) return kCaptureInvalidated;
    work.node = ++nodes_;
    ++stream->recorded;
    if (watcher.node_made) watcher.node_made(work.node);
    stream->capture->nodes.push_back(std::move(work));
    return kSuccess;
  }
  if (watcher.given) watcher.given(work);
  const bool at_once = work.at_once;
  stream->microseconds += work.microseconds;
  stream->queue.push_back(std::move(work));
  ++stream->given;
  if (at_once) run_until(*stream, stream->given);
  return kSuccess;
}

Status Machine::copy(void* to, const void* from, size_t bytes, Stream* stream) {
  ++counts.copies;
  Work work{"memcpy", [=] { std::memcpy(to, from, bytes); }, {}};
  note_use(to, work.uses);
  note_use(from, work.uses);
  const bool to_pageable = !on_device(to) && !pinned(to), from_pageable = !on_device(from) && !pinned(from);
  if (stream && stream->capture) {
    // Accepted, and each replay looks at that address anew.
    if (to_pageable || from_pageable) remark("a recorded copy of pageable host memory");
    return give(stream, std::move(work));
  }
  if (from_pageable) {  // read before the call returns
    const auto* const bytes_of = static_cast<const char*>(from);
    const auto staged = std::make_shared<std::vector<char>>(bytes_of, bytes_of + bytes);
    work.run = [=] { std::memcpy(to, staged->data(), bytes); };
  }
  const Status status = give(stream, std::move(work));
  if (to_pageable && stream && status == kSuccess) run_until(*stream, stream->given);
  return status;
}

Status Machine::wait(Stream* stream) {
  if (!stream) return wait_for_all();
  if (stream->capture) {
    stream->capture->invalid = true;
    return kCaptureUnsupported;
  }
  if (stream->done < stream->given) ++counts.waits;
  run_until(*stream, stream->given);
  return kSuccess;
}

Status Machine::wait_for_all() {
  ++counts.waits;
  if (const Status s = forbidden("cudaDeviceSynchronize", false)) return s;
  for (const auto& stream : streams_) run_until(*stream, stream->given);
  return kSuccess;
}

Status Machine::query(Stream* stream) {
  if (stream->capture) {
    stream->capture->invalid = true;
    return kCaptureUnsupported;
  }
  return stream->done == stream->given ? kSuccess : kNotReady;
}

Status Machine::record(Event& event, Stream* stream) {
  if (!stream) return kInvalidValue;
  event = {stream, stream->capture ? stream->recorded : stream->given, stream->microseconds, stream->capture};
  return kSuccess;
}

Status Machine::wait(const Event& event) {
  if (event.capture) {
    event.capture->invalid = true;
    return kCaptureUnsupported;
  }
  if (event.stream && event.stream->done < event.position) {
    ++counts.waits;
    run_until(*event.stream, event.position);
  }
  return kSuccess;
}

Status Machine::query(const Event& event) {
  if (event.capture) {
    event.capture->invalid = true;
    return kCaptureUnsupported;
  }
  return !event.stream || event.stream->done >= event.position ? kSuccess : kNotReady;
}

Status Machine::wait(Stream* stream, const Event& event) {
  if (!stream || !event.stream) return stream ? kSuccess : kInvalidValue;
  if (event.capture) {
    if (!stream->capture) {  // it joins the recording
      stream->capture = event.capture;
      stream->recorded = stream->joined = 0;
    } else if (stream->capture != event.capture) {
      stream->capture->invalid = event.capture->invalid = true;
      return kCaptureIsolation;
    } else if (stream->capture->origin == stream) {
      event.stream->joined = std::max(event.stream->joined, event.position);
    }
    return kSuccess;
  }
  if (stream->capture) {
    stream->capture->invalid = true;
    return kCaptureIsolation;
  }
  return give(stream, {"wait", [this, event] { run_until(*event.stream, event.position); }, {}});
}

Status Machine::begin_capture(Stream* stream, CaptureMode mode) {
  if (!stream) return kCaptureUnsupported;
  if (stream->capture) return kIllegalState;
  stream->capture = std::make_shared<Capture>();
  stream->capture->origin = stream;
  stream->capture->mode = mode;
  stream->recorded = stream->joined = 0;
  return kSuccess;
}

Status Machine::end_capture(Stream* stream, std::shared_ptr<Capture>* capture) {
  if (!stream || !stream->capture) return kIllegalState;
  const std::shared_ptr<Capture> ended = stream->capture;
  if (ended->origin != stream) return kCaptureUnmatched;
  bool joined = true;
  for (const auto& other : streams_) {
    if (other->capture != ended) continue;
    joined = joined && (other.get() == stream || other->joined == other->recorded);
    other->capture.reset();
  }
  if (ended->invalid) return kCaptureInvalidated;
  if (!joined) return kCaptureUnjoined;
  counts.recorded += ended->nodes.size();
  *capture = ended;
  return kSuccess;
}

Status Machine::replay(const std::shared_ptr<Capture>& graph, Stream* stream) {
  ++counts.replays;
  if (!stream || stream->capture) return kCaptureUnsupported;
  bool at_once = false;
  for (const Work& node : graph->nodes) {
    stream->queue.push_back(node);
    ++stream->given;
    at_once = at_once || node.at_once;
  }
  if (at_once) run_until(*stream, stream->given);
  return kSuccess;
}

}  // namespace plume::stand_in
