/* Stands before syscall() in the programs for 32-bit machines: cross/build.sh links it in with --wrap.
 *
 * Clocks go on after 2038 there because Rust's struct timespec is musl's, whose seconds have 64 bits. But Rust's standard library
 * hands that struct to the kernel's futex call as it is, and this call has 32 bits for each part: it would take the upper half of
 * the seconds, a zero, for the nanoseconds. So every wait would end up to a second too early, and who waits until it is time, as
 * a channel does, would not sleep but run in circles. musl makes the time shorter before such a call, and so does this. */
#include <limits.h>
#include <linux/futex.h>
#include <stdarg.h>
#include <sys/syscall.h>
#include <time.h>

_Static_assert(sizeof(long) == 4 && sizeof(time_t) == 8, "only there the two differ");

long __real_syscall(long number, ...);

long __wrap_syscall(long number, ...) {
  long given[6], until[2];
  va_list rest;
  va_start(rest, number);
  for (int i = 0; i < 6; i++) given[i] = va_arg(rest, long);
  va_end(rest);
  int command = given[1] & FUTEX_CMD_MASK;
  if (number == SYS_futex && (command == FUTEX_WAIT || command == FUTEX_WAIT_BITSET) && given[3]) {
    const struct timespec *time = (const struct timespec *)given[3];
    until[0] = time->tv_sec > LONG_MAX ? LONG_MAX : time->tv_sec;
    until[1] = time->tv_nsec;
    given[3] = (long)until;
  }
  return __real_syscall(number, given[0], given[1], given[2], given[3], given[4], given[5]);
}
