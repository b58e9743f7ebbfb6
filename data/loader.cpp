#include "data/loader.h"

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "engine/core/error.h"

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
        augmenter(dataset->height(), dataset->width(), params.augment),
        batches(sampler.batches(params.batch_size)),
        ring(size_t(params.prefetch)) {}
  ~State() { stop(); }

  Batch make(int64_t index) const;
  void work();
  void stop();

  const std::shared_ptr<const Dataset> dataset;
  const LoaderParams params;
  const Sampler sampler;
  const Augmenter augmenter;
  const int64_t batches;

  // Written only while no worker runs.
  int64_t epoch = 0;
  std::vector<int64_t> order;
  std::vector<std::thread> threads;
  double waited = 0;

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
  const int64_t height = augmenter.height(), width = augmenter.width();
  Batch batch;
  batch.images = Tensor::empty({count, height, width, kChannels}, DType::f32, Device::cpu, "batch");
  batch.labels = Tensor::empty({count}, DType::i32, Device::cpu, "batch");
  batch.count = count;
  batch.epoch = epoch;
  batch.index = index;
  float* image = batch.images.data<float>();
  int32_t* label = batch.labels.data<int32_t>();
  for (int64_t i = 0; i < count; ++i, image += height * width * kChannels) {
    const int64_t which = order[size_t(first + i)];
    const Sample sample = dataset->get(which);
    augmenter(sample, epoch, which, image);
    label[i] = sample.label;
  }
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
double Loader::wait_seconds() const { return state_->waited; }

void Loader::start(int64_t epoch, int64_t first_batch) {
  State& s = *state_;
  PLUME_CHECK(epoch >= 0 && first_batch >= 0 && first_batch <= s.batches,
              "loader: start at epoch {}, batch {} of {}", epoch, first_batch, s.batches);
  s.stop();
  s.epoch = epoch;
  s.order = s.sampler.order(epoch);
  s.ring.assign(size_t(s.params.prefetch), State::Result());
  s.taken = s.consumed = first_batch;
  s.end = s.batches;
  s.stopping = false;
  const int64_t useful = std::min<int64_t>(s.params.workers, s.batches - first_batch);
  for (int64_t i = 0; i < useful; ++i) s.threads.emplace_back([&s] { s.work(); });
}

std::optional<Batch> Loader::next() {
  using Clock = std::chrono::steady_clock;
  State& s = *state_;
  const auto begin = Clock::now();
  const auto account = [&] { s.waited += std::chrono::duration<double>(Clock::now() - begin).count(); };
  if (s.consumed >= s.end) return std::nullopt;
  if (s.params.workers == 0) {
    const int64_t index = s.consumed++;
    try {
      Batch batch = s.make(index);
      account();
      return batch;
    } catch (...) {
      s.end = s.consumed;
      throw;
    }
  }
  std::unique_lock lock(s.mutex);
  State::Result& slot = s.ring[size_t(s.consumed % s.params.prefetch)];
  s.arrival.wait(lock, [&] { return slot.ready; });
  State::Result result = std::exchange(slot, State::Result());
  ++s.consumed;
  if (result.error) s.end = s.consumed;
  lock.unlock();
  s.space.notify_all();
  account();
  if (result.error) std::rethrow_exception(result.error);
  return std::move(result.batch);
}

}  // namespace plume::data
