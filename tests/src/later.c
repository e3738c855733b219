/* A wall clock that is ahead, or behind, for a program that knows nothing of it: loaded before the C library (LD_PRELOAD). */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <time.h>

int clock_gettime(clockid_t clock, struct timespec *now) {
  int (*real)(clockid_t, struct timespec *) = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
  int result = real(clock, now);
  const char *ahead = getenv("OUTPOST_TEST_AHEAD_SECONDS");
  if (result == 0 && clock == CLOCK_REALTIME && ahead) now->tv_sec += atol(ahead);
  return result;
}
