// Stands for libcuda.so.1 where there is no driver: cuDNN compiles kernels only when it can also load them.
// Everything loads, nothing can run. These are the functions that cuDNN looks up; it wants them all.
#include <cstddef>

namespace {
int token;
}

extern "C" {

int cuDriverGetVersion(int* version) { return *version = 13000, 0; }
int cuGetErrorName(int, const char** text) { return *text = "STAND_IN", 0; }
int cuGetErrorString(int, const char** text) { return *text = "this driver is a stand-in", 0; }
int cuDeviceGetCount(int* count) { return *count = 0, 0; }
int cuDeviceGet(int* device, int ordinal) { return *device = ordinal, 0; }

int cuCtxGetCurrent(void** context) { return *context = &token, 0; }
int cuCtxPushCurrent(void*) { return 0; }
int cuCtxPopCurrent(void** context) { return *context = &token, 0; }
int cuCtxGetLimit(size_t* value, int) { return *value = 0, 0; }
int cuStreamGetCtx(void*, void** context) { return *context = &token, 0; }

int cuLibraryLoadData(void** library, const void* code, ...) { return *library = &token, code ? 0 : 1; }
int cuLibraryLoadFromFile(void** library, const char*, ...) { return *library = &token, 0; }
int cuLibraryUnload(void*) { return 0; }
int cuLibraryGetKernel(void** kernel, void*, const char*) { return *kernel = &token, 0; }
int cuKernelGetAttribute(int* value, int attribute, void*, int) {
  constexpr int kMaxThreadsPerBlock = 0;
  return *value = attribute == kMaxThreadsPerBlock ? 1024 : 0, 0;
}
int cuKernelSetAttribute(int, int, void*, int) { return 0; }
int cuOccupancyMaxPotentialClusterSize(int* size, void*, const void*) { return *size = 8, 0; }

// Looked up, but nobody may call them: cudaErrorNotSupported.
int cuLinkCreate(...) { return 801; }
int cuLinkAddData(...) { return 801; }
int cuLinkComplete(...) { return 801; }
int cuLinkDestroy(...) { return 801; }
int cuLaunchKernel(...) { return 801; }
int cuLaunchKernelEx(...) { return 801; }
int cuLaunchCooperativeKernel(...) { return 801; }

}  // extern "C"
