//! Requests of one transaction that were sent more than once.
//!
//! When a connection breaks, librdkafka sends what was not answered again on the next one, and the first may still be
//! under way. Before KIP-890, which librdkafka does not implement yet, a request says by which producer and epoch it was
//! made, not for which transaction: one that arrives late ends, or adds its offsets to, the transaction that is open by
//! then. Only a new epoch keeps it out, so a producer with retransmits must be made anew before it begins another.

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
    pub(super) retransmits: Retransmits,
}

/// How often the requests that a transaction sends once were sent. Must outlive its client.
#[derive(Default)]
pub(super) struct Retransmits(Box<Counts>);

#[derive(Default)]
struct Counts {
    ends: AtomicU32,
    offsets: AtomicU32,
}

impl Retransmits {
    /// Has every client that is made of this configuration counted here.
    ///
    /// # Safety
    /// The configuration is alive, and this outlives the client.
    pub(super) unsafe fn watch(&self, conf: *mut rd::rd_kafka_conf_t) {
        let counts: *const Counts = &raw const *self.0;
        // SAFETY: the caller's promise; the name is terminated and static.
        unsafe {
            rd::rd_kafka_conf_interceptor_add_on_new(
                conf,
                c"retransmits".as_ptr(),
                Some(on_new),
                counts.cast_mut().cast(),
            )
        };
    }

    /// Forgets the last transaction's requests, since another begins.
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
    counts: *mut c_void,
    _: *mut c_char,
    _: usize,
) -> Code {
    // SAFETY: librdkafka hands over the client that is being made; the counts outlive it.
    unsafe { rd::rd_kafka_interceptor_add_on_request_sent(client, c"retransmits".as_ptr(), Some(on_sent), counts) }
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
    counts: *mut c_void,
) -> Code {
    // SAFETY: the counts outlive the client whose threads call this, and are atomic.
    let counts = unsafe { &*counts.cast::<Counts>() };
    match kind {
        END_TXN => drop(counts.ends.fetch_add(1, Ordering::Relaxed)),
        TXN_OFFSET_COMMIT => drop(counts.offsets.fetch_add(1, Ordering::Relaxed)),
        _ => {}
    }
    Code::RD_KAFKA_RESP_ERR_NO_ERROR
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ptr;

    fn send(retransmits: &Retransmits, kind: i16) {
        let counts: *const Counts = &raw const *retransmits.0;
        // SAFETY: the counts are alive; nothing else is looked at.
        unsafe { on_sent(ptr::null_mut(), 0, ptr::null(), 1, kind, 0, 0, 0, counts.cast_mut().cast()) };
    }

    #[test]
    fn a_transaction_that_sends_its_requests_once_leaves_no_retransmit() {
        let retransmits = Retransmits::default();
        for kind in [0, 0, TXN_OFFSET_COMMIT, END_TXN] {
            send(&retransmits, kind);
        }
        assert!(!retransmits.may_arrive());
        retransmits.reset();
        send(&retransmits, END_TXN);
        assert!(!retransmits.may_arrive(), "the next transaction has its own");
    }

    #[test]
    fn a_request_that_was_sent_twice_may_arrive_later() {
        for kind in [END_TXN, TXN_OFFSET_COMMIT] {
            let retransmits = Retransmits::default();
            send(&retransmits, kind);
            send(&retransmits, kind);
            assert!(retransmits.may_arrive());
            retransmits.reset();
            assert!(!retransmits.may_arrive());
        }
    }
}
