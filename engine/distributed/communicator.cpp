#include "engine/distributed/communicator.h"

#include <dlfcn.h>

#include <array>
#include <atomic>
#include <condition_variable>
#include <cstdlib>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>

#include "engine/core/context.h"
#include "engine/distributed/launch.h"

namespace plume {
namespace {

std::array<const DeviceTransport*, kDeviceCount>& device_transports() {
  static std::array<const DeviceTransport*, kDeviceCount> table{};
  return table;
}

std::string plugin_path() {
  if (const char* path = std::getenv("PLUME_MPI_PLUGIN")) return path;
  Dl_info info{};
  const bool found = dladdr(reinterpret_cast<void*>(&plugin_path), &info) && info.dli_fname;
  const std::string path = found ? info.dli_fname : "";
  const size_t slash = path.rfind('/');
  return (slash == std::string::npos ? "." : path.substr(0, slash)) + "/libplume_mpi.so";
}

HostTransport open_mpi() {
  const Launch& l = launch();
  const auto refuse = [&](const std::string& reason) {
    fail(ErrorKind::resource, "{} started {} ranks, but they cannot talk to each other: {}", l.by, l.world,
         reason);
  };
  // Global: MPI's own plug-ins look for its symbols.
  void* plugin = dlopen(plugin_path().c_str(), RTLD_NOW | RTLD_GLOBAL);
  if (!plugin) refuse(message("the MPI plug-in could not be opened: {}", dlerror()));
  const auto open = reinterpret_cast<OpenHostTransport*>(dlsym(plugin, kOpenHostTransport));
  if (!open) refuse(message("{} is not a plume MPI plug-in", plugin_path()));
  HostTransport transport;
  if (const char* reason = open(&transport)) refuse(reason);
  if (transport.world != l.world || transport.rank != l.rank)
    refuse(message(
        "this is rank {} of {}, but MPI counts it as rank {} of {} (another MPI's launcher; for srun: "
        "--mpi=pmix or --mpi=pmi2)",
        l.rank, l.world, transport.rank, transport.world));
  return transport;
}

std::atomic<Communicator*> the_world = nullptr;
std::atomic<void (*)(int)> abort_all = nullptr;

}  // namespace

void register_device_transport(Device device, const DeviceTransport* transport) {
  device_transports()[size_t(device)] = transport;
}
const DeviceTransport* device_transport(Device device) { return device_transports()[size_t(device)]; }

// The one thread that talks to MPI, so that no MPI needs to be safe for several. It works off what it is
// given in order; that order is also what makes background reductions match between ranks.
class Communicator::Worker {
 public:
  Worker() {
    std::promise<void> opened;
    std::future<void> ready = opened.get_future();
    thread_ = std::thread([this, &opened] {
      try {
        transport_ = open_mpi();
        abort_all = transport_.abort;
      } catch (...) {
        opened.set_exception(std::current_exception());
        return;
      }
      opened.set_value();
      work();
      transport_.close();
    });
    try {
      ready.get();
    } catch (...) {
      thread_.join();
      throw;
    }
  }
  ~Worker() {
    {
      const std::lock_guard lock(mutex_);
      closing_ = true;
    }
    changed_.notify_one();
    thread_.join();
    abort_all = nullptr;
  }

  // Valid once made; only its numbers are for other threads than the worker's.
  const HostTransport& transport() const { return transport_; }

  std::future<void> start(std::function<void(const HostTransport&)> job) {
    std::packaged_task<void()> task([this, job = std::move(job)] { job(transport_); });
    std::future<void> done = task.get_future();
    {
      const std::lock_guard lock(mutex_);
      queue_.push_back(std::move(task));
    }
    changed_.notify_one();
    return done;
  }
  void run(std::function<void(const HostTransport&)> job) { start(std::move(job)).get(); }

 private:
  void work() {
    while (true) {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [&] { return closing_ || !queue_.empty(); });
      if (queue_.empty()) return;
      std::packaged_task<void()> task = std::move(queue_.front());
      queue_.pop_front();
      lock.unlock();
      task();
    }
  }

  HostTransport transport_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::packaged_task<void()>> queue_;
  bool closing_ = false;
  std::thread thread_;
};

Communicator::Communicator() = default;
Communicator::Communicator(std::unique_ptr<Worker> worker)
    : worker_(std::move(worker)), rank_(worker_->transport().rank), size_(worker_->transport().world) {}

Communicator::~Communicator() = default;

Communicator& Communicator::world() {
  static Communicator communicator = [] {
    return launch().world == 1 ? Communicator() : Communicator(std::make_unique<Worker>());
  }();
  return communicator;
}

void Communicator::abort_world(int code) {
  const auto abort = abort_all.load();
  if (!abort) return;
  abort(code);
  std::_Exit(code);  // a process that leaves without a word makes the launcher end the others
}

const DeviceTransport& Communicator::transport_of(Device device) {
  if (device_) return *device_;
  const DeviceTransport* transport = device_transport(device);
  if (!transport)
    fail(ErrorKind::resource, "several ranks on {}: this build has no NCCL (its header was not found)",
         device);
  // MPI carries the id of the GPUs' own group.
  std::vector<char> id(1024);
  if (rank_ == 0) {
    const std::string made = transport->make_id();
    PLUME_CHECK(made.size() <= id.size(), "communicator: an id of {} bytes", made.size());
    std::copy(made.begin(), made.end(), id.begin());
  }
  worker_->run([&](const HostTransport& host) { host.broadcast(id.data(), id.size(), 0); });
  transport->open(std::string(id.begin(), id.end()), rank_, size_);
  device_ = transport;
  return *device_;
}

namespace {

HostTransport::Element element_of(const Tensor& tensor) {
  PLUME_CHECK(tensor.dtype() == DType::f32 || tensor.dtype() == DType::i64,
              "all_reduce: {} is not f32 or i64", to_string(tensor));
  return tensor.dtype() == DType::f32 ? HostTransport::Element::f32 : HostTransport::Element::i64;
}

}  // namespace

void Communicator::all_reduce(Tensor& tensor, Reduction reduction) {
  const HostTransport::Element element = element_of(tensor);
  if (size_ == 1 || tensor.size() == 0) return;
  if (!is_host(tensor.device()))
    return transport_of(tensor.device())
        .all_reduce(tensor.raw(), size_t(tensor.size()), tensor.dtype(), reduction);
  worker_->run([&](const HostTransport& host) {
    host.all_reduce(tensor.raw(), size_t(tensor.size()), element, reduction);
  });
}

void Communicator::all_reduce(std::span<double> values, Reduction reduction) {
  if (size_ == 1) return;
  worker_->run([&](const HostTransport& host) {
    host.all_reduce(values.data(), values.size(), HostTransport::Element::f64, reduction);
  });
}

void Communicator::all_reduce(std::span<int64_t> values, Reduction reduction) {
  if (size_ == 1) return;
  worker_->run([&](const HostTransport& host) {
    host.all_reduce(values.data(), values.size(), HostTransport::Element::i64, reduction);
  });
}

std::future<void> Communicator::start_all_reduce(Tensor tensor) {
  const HostTransport::Element element = element_of(tensor);
  if (size_ == 1 || tensor.size() == 0) return std::async(std::launch::deferred, [] {});
  if (!is_host(tensor.device())) {
    const DeviceTransport& transport = transport_of(tensor.device());
    void* ticket =
        transport.start_all_reduce(tensor.raw(), size_t(tensor.size()), tensor.dtype(), Reduction::sum);
    return std::async(std::launch::deferred, [&transport, ticket, tensor] { transport.wait(ticket); });
  }
  return worker_->start([tensor, element](const HostTransport& host) mutable {
    host.all_reduce(tensor.raw(), size_t(tensor.size()), element, Reduction::sum);
  });
}

void Communicator::all_gather(const Tensor& mine, Tensor& all) {
  PLUME_CHECK(all.rank() > 0 && all.dim(0) == size_ && all.size() == size_ * mine.size() &&
                  all.dtype() == mine.dtype() && all.device() == mine.device(),
              "all_gather: {} does not hold {} times {}", to_string(all), size_, to_string(mine));
  if (size_ == 1) return all.reshape(mine.shape()).copy_from(mine);
  if (mine.size() == 0) return;
  if (!is_host(mine.device()))
    return transport_of(mine.device()).all_gather(mine.raw(), all.raw(), mine.bytes());
  worker_->run([&](const HostTransport& host) { host.all_gather(mine.raw(), all.raw(), mine.bytes()); });
}

std::vector<int64_t> Communicator::all_gather(std::span<const int64_t> mine) {
  std::vector<int64_t> all(mine.begin(), mine.end());
  if (size_ == 1) return all;
  all.resize(mine.size() * size_t(size_));
  worker_->run(
      [&](const HostTransport& host) { host.all_gather(mine.data(), all.data(), mine.size_bytes()); });
  return all;
}

void Communicator::broadcast(Tensor& tensor, int root) {
  PLUME_CHECK(root >= 0 && root < size_, "broadcast: from rank {} of {}", root, size_);
  if (size_ == 1 || tensor.size() == 0) return;
  if (!is_host(tensor.device()))
    return transport_of(tensor.device()).broadcast(tensor.raw(), tensor.bytes(), root);
  worker_->run([&](const HostTransport& host) { host.broadcast(tensor.raw(), tensor.bytes(), root); });
}

void Communicator::barrier() {
  int64_t nothing = 0;
  all_reduce(std::span(&nothing, 1));
}

}  // namespace plume
