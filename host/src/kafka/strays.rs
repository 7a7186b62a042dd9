//! Requests of one transaction that were sent more than once.
//!
//! When a connection breaks, librdkafka sends what was not answered again on the next one, and the first may still be
//! under way. Before KIP-890, which librdkafka does not implement yet, a request says by which producer and epoch it was
//! made, not for which transaction: one that arrives late ends, or adds its offsets to, the transaction that is open by
//! then. Only a new epoch keeps it out, so a producer with strays must be made anew before it begins another.

use std::ffi::{c_char, c_int, c_void};
use std::sync::atomic::{AtomicU32, Ordering};

use rd::rd_kafka_resp_err_t as Code;
use rdkafka::bindings as rd;

use super::raw::Client;

const END_TXN: i16 = 26;
const TXN_OFFSET_COMMIT: i16 = 28;

/// A client and what its threads count in: alive while a call is under way.
pub(super) struct Link {
    pub(super) client: Client,
    // After the client.
    pub(super) strays: Strays,
}

/// How often the requests that a transaction sends once were sent. Must outlive its client.
#[derive(Default)]
pub(super) struct Strays(Box<Sent>);

#[derive(Default)]
struct Sent {
    ends: AtomicU32,
    offsets: AtomicU32,
}

impl Strays {
    /// Has every client that is made of this configuration counted here.
    ///
    /// # Safety
    /// The configuration is alive, and this outlives the client.
    pub(super) unsafe fn watch(&self, conf: *mut rd::rd_kafka_conf_t) {
        let sent: *const Sent = &raw const *self.0;
        // SAFETY: the caller's promise; the name is terminated and static.
        unsafe {
            rd::rd_kafka_conf_interceptor_add_on_new(conf, c"strays".as_ptr(), Some(on_new), sent.cast_mut().cast())
        };
    }

    /// A transaction begins.
    pub(super) fn reset(&self) {
        self.0.ends.store(0, Ordering::Relaxed);
        self.0.offsets.store(0, Ordering::Relaxed);
    }

    /// Whether a request of the transaction that ended just now may still arrive.
    pub(super) fn may_arrive(&self) -> bool {
        self.0.ends.load(Ordering::Relaxed) > 1 || self.0.offsets.load(Ordering::Relaxed) > 1
    }
}

unsafe extern "C" fn on_new(
    client: *mut rd::rd_kafka_t,
    _: *const rd::rd_kafka_conf_t,
    sent: *mut c_void,
    _: *mut c_char,
    _: usize,
) -> Code {
    // SAFETY: librdkafka hands over the client that is being made; the counts outlive it.
    unsafe { rd::rd_kafka_interceptor_add_on_request_sent(client, c"strays".as_ptr(), Some(on_sent), sent) }
}

unsafe extern "C" fn on_sent(
    _: *mut rd::rd_kafka_t,
    _: c_int,
    _: *const c_char,
    _: i32,
    kind: i16,
    _: i16,
    _: i32,
    _: usize,
    sent: *mut c_void,
) -> Code {
    // SAFETY: the counts outlive the client whose threads call this, and are atomic.
    let sent = unsafe { &*sent.cast::<Sent>() };
    match kind {
        END_TXN => drop(sent.ends.fetch_add(1, Ordering::Relaxed)),
        TXN_OFFSET_COMMIT => drop(sent.offsets.fetch_add(1, Ordering::Relaxed)),
        _ => {}
    }
    Code::RD_KAFKA_RESP_ERR_NO_ERROR
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ptr;

    fn send(strays: &Strays, kind: i16) {
        let sent: *const Sent = &raw const *strays.0;
        // SAFETY: the counts are alive; nothing else is looked at.
        unsafe { on_sent(ptr::null_mut(), 0, ptr::null(), 1, kind, 0, 0, 0, sent.cast_mut().cast()) };
    }

    #[test]
    fn a_transaction_that_sends_its_requests_once_leaves_no_stray() {
        let strays = Strays::default();
        for kind in [0, 0, TXN_OFFSET_COMMIT, END_TXN] {
            send(&strays, kind);
        }
        assert!(!strays.may_arrive());
        strays.reset();
        send(&strays, END_TXN);
        assert!(!strays.may_arrive(), "the next transaction has its own");
    }

    #[test]
    fn a_request_that_was_sent_twice_may_arrive_later() {
        for kind in [END_TXN, TXN_OFFSET_COMMIT] {
            let strays = Strays::default();
            send(&strays, kind);
            send(&strays, kind);
            assert!(strays.may_arrive());
            strays.reset();
            assert!(!strays.may_arrive());
        }
    }
}
