// MPI for host memory: libplume_mpi.so, opened by communicator.cpp where a launcher started several ranks.
#include <mpi.h>

#include <algorithm>
#include <climits>
#include <string>

#include "engine/core/error.h"
#include "engine/distributed/transport.h"

namespace plume {
namespace {

void check(const char* call, int status) {
  if (status == MPI_SUCCESS) return;
  char text[MPI_MAX_ERROR_STRING] = "";
  int length = 0;
  MPI_Error_string(status, text, &length);
  fail(ErrorKind::resource, "{}: {}", call, std::string(text, size_t(length)));
}

MPI_Datatype type_of(HostTransport::Element element) {
  switch (element) {
    case HostTransport::Element::f64:
      return MPI_DOUBLE;
    case HostTransport::Element::i64:
      return MPI_INT64_T;
    default:
      return MPI_FLOAT;
  }
}

// MPI counts in int: longer data goes in pieces.
template <class F>
void in_pieces(void* data, size_t count, size_t element_bytes, F&& f) {
  constexpr size_t kMost = size_t(INT_MAX) / 2;
  for (size_t first = 0; first < count; first += kMost)
    f(static_cast<char*>(data) + first * element_bytes, int(std::min(kMost, count - first)));
}

void all_reduce(void* data, size_t count, HostTransport::Element element, Reduction reduction) {
  const size_t bytes = element == HostTransport::Element::f32 ? 4 : 8;
  in_pieces(data, count, bytes, [&](void* piece, int n) {
    check("MPI_Allreduce", MPI_Allreduce(MPI_IN_PLACE, piece, n, type_of(element),
                                         reduction == Reduction::max ? MPI_MAX : MPI_SUM, MPI_COMM_WORLD));
  });
}

void all_gather(const void* mine, void* all, size_t bytes_of_one) {
  PLUME_CHECK(bytes_of_one <= INT_MAX, "all_gather: {} bytes for each rank", bytes_of_one);
  check("MPI_Allgather",
        MPI_Allgather(mine, int(bytes_of_one), MPI_BYTE, all, int(bytes_of_one), MPI_BYTE, MPI_COMM_WORLD));
}

void broadcast(void* data, size_t bytes, int root) {
  in_pieces(data, bytes, 1, [&](void* piece, int n) {
    check("MPI_Bcast", MPI_Bcast(piece, n, MPI_BYTE, root, MPI_COMM_WORLD));
  });
}

}  // namespace
}  // namespace plume

extern "C" const char* plume_mpi_open(plume::HostTransport* transport) {
  // Several threads only for abort(), which another thread may have to call while this one waits.
  int provided = 0;
  if (MPI_Init_thread(nullptr, nullptr, MPI_THREAD_MULTIPLE, &provided) != MPI_SUCCESS)
    return "MPI_Init failed";
  MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
  MPI_Comm_rank(MPI_COMM_WORLD, &transport->rank);
  MPI_Comm_size(MPI_COMM_WORLD, &transport->world);
  transport->all_reduce = plume::all_reduce;
  transport->all_gather = plume::all_gather;
  transport->broadcast = plume::broadcast;
  transport->abort = [](int code) { MPI_Abort(MPI_COMM_WORLD, code); };
  transport->close = [] { MPI_Finalize(); };
  return nullptr;
}
