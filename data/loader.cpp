#include "data/loader.h"

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "data/batch_maker.h"
#include "engine/core/error.h"
#include "engine/memory/staging.h"

namespace plume::data {
namespace {

LoaderParams checked(const std::shared_ptr<const Dataset>& dataset, const LoaderParams& params) {
  constexpr int kMostWorkers = 256, kMostPrefetch = 1024;
  PLUME_CHECK(dataset != nullptr, "loader: no data set");
  PLUME_CHECK(params.batch_size > 0, "loader: batch size {}, expected at least 1", params.batch_size);
  PLUME_CHECK(params.workers >= 0 && params.workers <= kMostWorkers, "loader: {} workers, expected 0 to {}",
              params.workers, kMostWorkers);
  PLUME_CHECK(params.prefetch >= 1 && params.prefetch <= kMostPrefetch,
              "loader: prefetch {}, expected 1 to {} batches", params.prefetch, kMostPrefetch);
  PLUME_CHECK(params.resident_bytes >= 0, "loader: {} resident bytes", params.resident_bytes);
  return params;
}

}  // namespace

struct Loader::State {
  // A finished batch, or what was thrown while it was made.
  struct Result {
    bool ready = false;
    Batch batch;
    std::exception_ptr error;
  };

  State(std::shared_ptr<const Dataset> d, const LoaderParams& p)
      : dataset(std::move(d)),
        params(checked(dataset, p)),
        sampler(dataset->size(), params.sampler),
        maker(*dataset, params),
        batches(sampler.batches(params.batch_size)),
        staging(params.device),
        ring(size_t(params.prefetch)) {}
  ~State() { stop(); }

  Batch make(int64_t index) const;
  void work();
  std::optional<Result> take(bool wait);
  void stage(Batch& batch);
  void unstage(Batch& batch);
  void stop();

  const std::shared_ptr<const Dataset> dataset;
  const LoaderParams params;
  const Sampler sampler;
  const BatchMaker maker;
  const int64_t batches;

  // Written only while no worker runs.
  int64_t epoch = 0;
  std::vector<int64_t> order;
  std::vector<std::thread> threads;
  double waited = 0;
  Staging staging;
  std::optional<Result> ahead;  // the next batch, under way to the device

  std::mutex mutex;  // guards what follows
  std::condition_variable space, arrival;
  std::vector<Result> ring;  // batch b lies in ring[b % prefetch]
  int64_t taken = 0;         // the next batch that no worker has begun
  int64_t consumed = 0;      // the next batch that next() returns
  int64_t end = 0;           // of the epoch; moved to the front by an error
  bool stopping = false;
};

Batch Loader::State::make(int64_t index) const {
  const int64_t first = index * params.batch_size;
  const int64_t count = std::min(params.batch_size, sampler.size() - first);
  Batch batch = maker.make(std::span(order).subspan(size_t(first), size_t(count)), epoch);
  batch.index = index;
  return batch;
}

void Loader::State::work() {
  std::unique_lock lock(mutex);
  for (;;) {
    space.wait(lock, [&] { return stopping || taken >= end || taken < consumed + params.prefetch; });
    if (stopping || taken >= end) return;
    const int64_t index = taken++;
    lock.unlock();
    Result result;
    try {
      result.batch = make(index);
    } catch (...) {
      result.error = std::current_exception();
    }
    result.ready = true;
    lock.lock();
    ring[size_t(index % params.prefetch)] = std::move(result);
    arrival.notify_one();
  }
}

void Loader::State::stop() {
  {
    const std::lock_guard lock(mutex);
    stopping = true;
  }
  space.notify_all();
  for (std::thread& thread : threads) thread.join();
  threads.clear();
}

Loader::Loader(std::shared_ptr<const Dataset> dataset, const LoaderParams& params)
    : state_(std::make_unique<State>(std::move(dataset), params)) {}
Loader::~Loader() = default;

const Dataset& Loader::dataset() const { return *state_->dataset; }
const LoaderParams& Loader::params() const { return state_->params; }
int64_t Loader::batches_per_epoch() const { return state_->batches; }
int64_t Loader::samples_per_epoch() const {
  return std::min(state_->sampler.size(), state_->batches * state_->params.batch_size);
}
bool Loader::resident() const { return state_->maker.resident(); }
double Loader::wait_seconds() const { return state_->waited; }

void Loader::start(int64_t epoch, int64_t first_batch) {
  State& s = *state_;
  PLUME_CHECK(epoch >= 0 && first_batch >= 0 && first_batch <= s.batches,
              "loader: start at epoch {}, batch {} of {}", epoch, first_batch, s.batches);
  s.stop();
  s.ahead.reset();
  s.staging.clear();
  s.epoch = epoch;
  s.order = s.sampler.order(epoch);
  s.ring.assign(size_t(s.params.prefetch), State::Result());
  s.taken = s.consumed = first_batch;
  s.end = s.batches;
  s.stopping = false;
  const int64_t useful = std::min<int64_t>(s.params.workers, s.batches - first_batch);
  for (int64_t i = 0; i < useful; ++i) s.threads.emplace_back([&s] { s.work(); });
}

// The next result in order; nothing after the last, or, without `wait`, when it is not ready.
std::optional<Loader::State::Result> Loader::State::take(bool wait) {
  if (consumed >= end) return std::nullopt;
  Result result;
  if (params.workers == 0) {
    if (!wait) return std::nullopt;
    try {
      result.batch = make(consumed);
    } catch (...) {
      result.error = std::current_exception();
    }
    ++consumed;
  } else {
    std::unique_lock lock(mutex);
    Result& slot = ring[size_t(consumed % params.prefetch)];
    if (!wait && !slot.ready) return std::nullopt;
    arrival.wait(lock, [&] { return slot.ready; });
    result = std::exchange(slot, Result());
    ++consumed;
    lock.unlock();
    space.notify_all();
  }
  if (result.error) {
    const std::lock_guard lock(mutex);
    end = consumed;
  }
  return result;
}

// The batch's host tensors begin their way to the device.
void Loader::State::stage(Batch& batch) {
  AugmentBatch& source = batch.source;
  staging.begin({maker.resident() ? Tensor() : source.pixels, source.plans, source.taps, batch.labels});
}

void Loader::State::unstage(Batch& batch) {
  const std::vector<Tensor>& here = staging.take();
  AugmentBatch& source = batch.source;
  if (!maker.resident()) source.pixels = here[0];
  source.plans = here[1];
  source.taps = here[2];
  batch.labels = here[3];
}

std::optional<Batch> Loader::next() {
  using Clock = std::chrono::steady_clock;
  State& s = *state_;
  const auto begin = Clock::now();
  std::optional<State::Result> result = std::exchange(s.ahead, std::nullopt);
  const bool staged = result.has_value();
  if (!staged) result = s.take(true);
  if (!result) return std::nullopt;
  if (s.params.augment_on_device && !result->error) {
    if (!staged) s.stage(result->batch);
    s.unstage(result->batch);
    // The batch after it sets out while the device works on this one.
    s.ahead = s.take(false);
    if (s.ahead && !s.ahead->error) s.stage(s.ahead->batch);
  }
  s.waited += std::chrono::duration<double>(Clock::now() - begin).count();
  if (result->error) std::rethrow_exception(result->error);
  return std::move(result->batch);
}

}  // namespace plume::data
