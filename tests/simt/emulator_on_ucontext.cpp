// The emulator's tests once more, with fibers that <ucontext.h> switches.
#include "tests/simt/emulator_test.cpp"
