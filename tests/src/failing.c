/* A card that gives input/output errors, for a program that knows nothing of it: loaded before the C library (LD_PRELOAD). In the
   folder OUTPOST_TEST_FAILS a file "sync" makes every sync fail, and "read" every read of the database file itself. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define REAL(name, type) ((type)dlsym(RTLD_NEXT, name))

static int fails(const char *what) {
  const char *folder = getenv("OUTPOST_TEST_FAILS");
  char place[4096];
  if (!folder || snprintf(place, sizeof place, "%s/%s", folder, what) >= (int)sizeof place) return 0;
  int before = errno, is_there = access(place, F_OK) == 0;
  errno = before;
  return is_there;
}

static int is_database(int file) {
  char link[64], place[4096];
  snprintf(link, sizeof link, "/proc/self/fd/%d", file);
  ssize_t length = readlink(link, place, sizeof place - 1);
  if (length < 0) return 0;
  place[length] = 0;
  const char *end = strrchr(place, '.');
  return end && strcmp(end, ".db") == 0;
}

static int error(void) {
  errno = EIO;
  return -1;
}

int fsync(int file) { return fails("sync") ? error() : REAL("fsync", int (*)(int))(file); }

int fdatasync(int file) { return fails("sync") ? error() : REAL("fdatasync", int (*)(int))(file); }

ssize_t read(int file, void *to, size_t length) {
  if (fails("read") && is_database(file)) return error();
  return REAL("read", ssize_t (*)(int, void *, size_t))(file, to, length);
}

ssize_t pread(int file, void *to, size_t length, off_t at) {
  if (fails("read") && is_database(file)) return error();
  return REAL("pread", ssize_t (*)(int, void *, size_t, off_t))(file, to, length, at);
}

ssize_t pread64(int file, void *to, size_t length, off64_t at) {
  if (fails("read") && is_database(file)) return error();
  return REAL("pread64", ssize_t (*)(int, void *, size_t, off64_t))(file, to, length, at);
}
