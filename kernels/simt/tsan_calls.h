// What code that was compiled with -fsanitize=thread calls, in place of the sanitizer's library. Included
// once in a binary, by a file that defines
//   SIMT_ON_ACCESS(pointer, bytes, write)    runs before the access; SIMT_CALLER is the place in the kernel
// The names and types are the compiler's.
#pragma once

#define SIMT_CALLER __builtin_return_address(0)
extern "C" {
void __tsan_init() {}
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
void __tsan_vptr_update(void**, void*) {}
void __tsan_vptr_read(void**) {}
#define SIMT_ACCESS(n)                                                    \
  void __tsan_read##n(void* p) { SIMT_ON_ACCESS(p, n, false); }           \
  void __tsan_write##n(void* p) { SIMT_ON_ACCESS(p, n, true); }           \
  void __tsan_unaligned_read##n(void* p) { SIMT_ON_ACCESS(p, n, false); } \
  void __tsan_unaligned_write##n(void* p) { SIMT_ON_ACCESS(p, n, true); } \
  void __tsan_volatile_read##n(void* p) { SIMT_ON_ACCESS(p, n, false); }  \
  void __tsan_volatile_write##n(void* p) { SIMT_ON_ACCESS(p, n, true); }  \
  void __tsan_read_write##n(void* p) { SIMT_ON_ACCESS(p, n, true); }      \
  void __tsan_unaligned_read_write##n(void* p) { SIMT_ON_ACCESS(p, n, true); }
SIMT_ACCESS(1)
SIMT_ACCESS(2)
SIMT_ACCESS(4)
SIMT_ACCESS(8)
SIMT_ACCESS(16)
void __tsan_read_range(void* p, unsigned long n) { SIMT_ON_ACCESS(p, n, false); }
void __tsan_write_range(void* p, unsigned long n) { SIMT_ON_ACCESS(p, n, true); }
void* __tsan_memcpy(void* to, const void* from, unsigned long n) {
  SIMT_ON_ACCESS(from, n, false);
  SIMT_ON_ACCESS(to, n, true);
  return __builtin_memcpy(to, from, n);
}
void* __tsan_memmove(void* to, const void* from, unsigned long n) {
  SIMT_ON_ACCESS(from, n, false);
  SIMT_ON_ACCESS(to, n, true);
  return __builtin_memmove(to, from, n);
}
void* __tsan_memset(void* to, int byte, unsigned long n) {
  SIMT_ON_ACCESS(to, n, true);
  return __builtin_memset(to, byte, n);
}
}
