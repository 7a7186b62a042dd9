//! librdkafka's waits by a clock that nobody sets.
//!
//! librdkafka waits until moments of the wall clock (2.12.1; its issue 2145 is open), by C11's condition variables, which
//! know no other clock. Where that clock is set back by an hour, whoever waits at the time does so an hour longer unless
//! something wakes it: an idle worker, and the threads that send its heartbeats. So the two of those functions that know a
//! clock stand here, and everything that is linked into the program calls them instead of the C library's.
//!
//! A wait may end before its time, which is then asked for again: librdkafka does, by the monotonic clock.
//!
//! With a C library that has no C11 threads (glibc before 2.28) librdkafka brings functions of these names itself, and the
//! program does not link.

use std::ffi::c_int;
use std::mem::MaybeUninit;

use libc::{CLOCK_MONOTONIC, CLOCK_REALTIME, pthread_cond_t, pthread_mutex_t, timespec};

/// `thrd_success`, `thrd_error` and `thrd_timedout` of glibc and musl.
const SUCCESS: c_int = 0;
const ERROR: c_int = 2;
const TIMED_OUT: c_int = 4;

const SECOND: i64 = 1_000_000_000;
/// The longest wait, nanoseconds: the clock may be set after its caller has looked at it and before we do.
const LONGEST: i64 = SECOND;

/// C11's `cnd_init`: a `cnd_t` is a `pthread_cond_t`, in glibc and musl.
///
/// # Safety
/// As of the C library's: the memory is a `cnd_t`'s that nobody uses yet.
#[unsafe(no_mangle)]
unsafe extern "C" fn cnd_init(cond: *mut pthread_cond_t) -> c_int {
    let mut attributes = MaybeUninit::uninit();
    // SAFETY: the attributes are initialised before they are used, and destroyed once; `cond` is the caller's promise.
    unsafe {
        if libc::pthread_condattr_init(attributes.as_mut_ptr()) != 0 {
            return ERROR;
        }
        libc::pthread_condattr_setclock(attributes.as_mut_ptr(), CLOCK_MONOTONIC);
        let result = libc::pthread_cond_init(cond, attributes.as_ptr());
        libc::pthread_condattr_destroy(attributes.as_mut_ptr());
        if result == 0 { SUCCESS } else { ERROR }
    }
}

/// C11's `cnd_timedwait`, for the time that is left until a moment of the wall clock, and at most `LONGEST`.
///
/// # Safety
/// As of the C library's: `cond` was initialised, the caller holds `mutex`, and `until` is a time.
#[unsafe(no_mangle)]
unsafe extern "C" fn cnd_timedwait(
    cond: *mut pthread_cond_t,
    mutex: *mut pthread_mutex_t,
    until: *const timespec,
) -> c_int {
    // SAFETY: the caller's promise; a `mtx_t` is a `pthread_mutex_t`.
    let result = unsafe {
        let left = (nanos(&*until) - nanos(&now(CLOCK_REALTIME))).clamp(0, LONGEST);
        let end = nanos(&now(CLOCK_MONOTONIC)) + left;
        let end = timespec { tv_sec: end / SECOND, tv_nsec: end % SECOND };
        libc::pthread_cond_timedwait(cond, mutex, &raw const end)
    };
    match result {
        0 => SUCCESS,
        libc::ETIMEDOUT => TIMED_OUT,
        _ => ERROR,
    }
}

fn now(clock: libc::clockid_t) -> timespec {
    let mut now = timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the time is ours to write; both clocks exist.
    unsafe { libc::clock_gettime(clock, &raw mut now) };
    now
}

fn nanos(time: &timespec) -> i64 {
    time.tv_sec.saturating_mul(SECOND).saturating_add(time.tv_nsec)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    /// Until a moment that far from now by the wall clock; answers how it ended, and after how long.
    fn wait(seconds: i64) -> (c_int, Duration) {
        let mut until = now(CLOCK_REALTIME);
        until.tv_sec += seconds;
        let mut mutex = libc::PTHREAD_MUTEX_INITIALIZER;
        let mut cond = MaybeUninit::uninit();
        let started = Instant::now();
        // SAFETY: all three live on this stack, and nobody else knows of them.
        let result = unsafe {
            assert_eq!(cnd_init(cond.as_mut_ptr()), SUCCESS);
            libc::pthread_mutex_lock(&raw mut mutex);
            let result = cnd_timedwait(cond.as_mut_ptr(), &raw mut mutex, &raw const until);
            libc::pthread_mutex_unlock(&raw mut mutex);
            libc::pthread_cond_destroy(cond.as_mut_ptr());
            result
        };
        (result, started.elapsed())
    }

    #[test]
    fn a_moment_that_an_hour_separates_from_a_clock_that_was_set_back_is_not_waited_for() {
        let (result, took) = wait(3_600);
        assert_eq!(result, TIMED_OUT);
        assert!(took >= Duration::from_secs(1) && took < Duration::from_secs(60), "{took:?}");
    }

    #[test]
    fn a_moment_that_has_passed_is_not_waited_for() {
        let (result, took) = wait(-3_600);
        assert_eq!(result, TIMED_OUT);
        assert!(took < Duration::from_secs(1), "{took:?}");
    }
}
