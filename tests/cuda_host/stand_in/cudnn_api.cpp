// No cuDNN: its handle cannot be made, and its variants are not built in.
#include <cudnn_graph.h>

extern "C" {
size_t cudnnGetVersion() { return 0; }
const char* cudnnGetErrorString(cudnnStatus_t) { return "CUDNN_STATUS_NOT_INITIALIZED"; }
void cudnnGetLastErrorString(char* message, size_t bytes) {
  if (bytes) *message = 0;
}
cudnnStatus_t cudnnCreate(cudnnHandle_t*) { return CUDNN_STATUS_NOT_INITIALIZED; }
cudnnStatus_t cudnnSetStream(cudnnHandle_t, cudaStream_t) { return CUDNN_STATUS_NOT_INITIALIZED; }
}
