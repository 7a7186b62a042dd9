// A wall clock that a test sets, for one process: preloaded, it takes the place of the C library's clock and waits.
//
// The file that SANDPIPER_TEST_CLOCK names holds the seconds, as eight bytes, that the wall clock is ahead; it is looked at
// again with every call. The monotonic clock stays as it is.
//
// As with a clock that is really set, a wait until a moment of the wall clock ends at once when a step forward passes that
// moment, and lasts longer after a step back. The C library's own condition variables would wait by the real clock, so
// here stands another: a number that each signal raises, waited for in slices. No signal is lost between two of them.
// Mutexes and semaphores are not here: the daemon waits for none of them until a moment.

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <threads.h>
#include <time.h>
#include <unistd.h>

static const int64_t *ahead;

__attribute__((constructor)) static void map(void) {
    const char *path = getenv("SANDPIPER_TEST_CLOCK");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    void *found = file < 0 ? MAP_FAILED : mmap(NULL, sizeof *ahead, PROT_READ, MAP_SHARED, file, 0);
    if (found == MAP_FAILED) abort();
    close(file);
    ahead = found;
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    int failed = syscall(SYS_clock_gettime, clock, now);
    int is_wall = clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE;
    if (!failed && is_wall && ahead) now->tv_sec += __atomic_load_n(ahead, __ATOMIC_RELAXED);
    return failed;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    struct timespec wall;
    (void)zone;
    int failed = clock_gettime(CLOCK_REALTIME, &wall);
    *now = (struct timeval){wall.tv_sec, wall.tv_nsec / 1000};
    return failed;
}

time_t time(time_t *now) {
    struct timespec wall;
    clock_gettime(CLOCK_REALTIME, &wall);
    if (now) *now = wall.tv_sec;
    return wall.tv_sec;
}

int timespec_get(struct timespec *now, int base) {
    return base == TIME_UTC && !clock_gettime(CLOCK_REALTIME, now) ? base : 0;
}

// In the place of a pthread_cond_t, whose initializer is all zeros, and zero is the wall clock.
struct cond {
    uint32_t signals;
    clockid_t clock;
};

static const struct timespec SLICE = {0, 20 * 1000 * 1000};

static int wait_until(void *at, pthread_mutex_t *mutex, clockid_t clock, const struct timespec *end) {
    struct cond *cond = at;
    uint32_t before = __atomic_load_n(&cond->signals, __ATOMIC_SEQ_CST);
    int result = 0;
    pthread_mutex_unlock(mutex);
    while (__atomic_load_n(&cond->signals, __ATOMIC_SEQ_CST) == before) {
        struct timespec now, slice = SLICE;
        if (end) {
            clock_gettime(clock, &now);
            int64_t left = (int64_t)(end->tv_sec - now.tv_sec) * 1000000000 + end->tv_nsec - now.tv_nsec;
            if (left <= 0) {
                result = ETIMEDOUT;
                break;
            }
            if (left < SLICE.tv_nsec) slice.tv_nsec = left;
        }
        syscall(SYS_futex, &cond->signals, FUTEX_WAIT_PRIVATE, before, end ? &slice : NULL, NULL, 0);
    }
    pthread_mutex_lock(mutex);
    return result;
}

static int wake(void *at, int waiters) {
    struct cond *cond = at;
    __atomic_fetch_add(&cond->signals, 1, __ATOMIC_SEQ_CST);
    syscall(SYS_futex, &cond->signals, FUTEX_WAKE_PRIVATE, waiters, NULL, NULL, 0);
    return 0;
}

int pthread_cond_init(pthread_cond_t *cond, const pthread_condattr_t *attributes) {
    memset(cond, 0, sizeof *cond);
    return attributes ? pthread_condattr_getclock(attributes, &((struct cond *)cond)->clock) : 0;
}

int pthread_cond_destroy(pthread_cond_t *cond) { return (void)cond, 0; }
int pthread_cond_signal(pthread_cond_t *cond) { return wake(cond, 1); }
int pthread_cond_broadcast(pthread_cond_t *cond) { return wake(cond, INT_MAX); }
int pthread_cond_wait(pthread_cond_t *cond, pthread_mutex_t *mutex) { return wait_until(cond, mutex, 0, NULL); }

int pthread_cond_timedwait(pthread_cond_t *cond, pthread_mutex_t *mutex, const struct timespec *end) {
    return wait_until(cond, mutex, ((struct cond *)cond)->clock, end);
}

int pthread_cond_clockwait(pthread_cond_t *cond, pthread_mutex_t *mutex, clockid_t clock, const struct timespec *end) {
    return wait_until(cond, mutex, clock, end);
}

// The C library's C11 threads are its POSIX threads under another type.
int cnd_init(cnd_t *cond) { return memset(cond, 0, sizeof *cond), thrd_success; }
void cnd_destroy(cnd_t *cond) { (void)cond; }
int cnd_signal(cnd_t *cond) { return wake(cond, 1), thrd_success; }
int cnd_broadcast(cnd_t *cond) { return wake(cond, INT_MAX), thrd_success; }

int cnd_wait(cnd_t *cond, mtx_t *mutex) {
    return wait_until(cond, (pthread_mutex_t *)mutex, 0, NULL), thrd_success;
}

int cnd_timedwait(cnd_t *restrict cond, mtx_t *restrict mutex, const struct timespec *restrict end) {
    return wait_until(cond, (pthread_mutex_t *)mutex, CLOCK_REALTIME, end) ? thrd_timedout : thrd_success;
}
