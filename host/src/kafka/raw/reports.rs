//! What librdkafka reports of a client by callbacks on threads of its own, kept until somebody asks.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rdkafka::bindings as rd;

/// A client's; it outlives the client.
#[derive(Default)]
pub struct Reports(Mutex<Last>);

#[derive(Default)]
struct Last {
    connection: Option<String>,
    partition: Option<(c_int, String)>,
}

impl Reports {
    /// # Safety
    /// The configuration is alive, and these reports outlive the client that is made of it.
    pub(super) unsafe fn listen(&self, conf: *mut rd::rd_kafka_conf_t, names_certificates: bool) {
        let opaque: *const Self = self;
        // SAFETY: the caller's promise.
        unsafe {
            rd::rd_kafka_conf_set_opaque(conf, opaque.cast_mut().cast());
            rd::rd_kafka_conf_set_log_cb(conf, Some(log));
            if names_certificates {
                rd::rd_kafka_conf_set_ssl_cert_verify_cb(conf, Some(verify));
            }
        }
    }

    /// Has the errors of partitions kept too, by whoever polls for records.
    pub fn listen_for_partitions(conf: *mut rd::rd_kafka_conf_t) {
        // SAFETY: `Client::with` hands a configuration that is alive and reports to its reports.
        unsafe { rd::rd_kafka_conf_set_error_cb(conf, Some(error)) };
    }

    /// Why a broker could not be spoken to last: refused, another protocol, a certificate, a password.
    pub fn connection(&self) -> Option<String> {
        let mut why = self.last().connection.clone()?;
        if why.contains("Disconnected") && why.contains("APIVERSION_QUERY") {
            why.push_str("; a TLS listener ends a plain connection like this: look at security.protocol");
        }
        Some(why)
    }

    /// The last error of a partition, once: its code and its text. They come by dozens, one for each partition of a topic.
    pub fn take_partition(&self) -> Option<(c_int, String)> {
        self.last().partition.take()
    }

    #[cfg(test)]
    pub fn report_partition(&self, code: c_int, text: &str) {
        self.last().partition = Some((code, text.into()));
    }

    fn last(&self) -> MutexGuard<'_, Last> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What librdkafka logs becomes log lines of ours. Why a connection failed is told nowhere else.
unsafe extern "C" fn log(client: *const rd::rd_kafka_t, level: c_int, facility: *const c_char, message: *const c_char) {
    // SAFETY: librdkafka hands terminated strings that live during the call.
    let (facility, message) = unsafe { (CStr::from_ptr(facility), CStr::from_ptr(message)) };
    let (facility, message) = (facility.to_string_lossy(), message.to_string_lossy());
    match level {
        0..=3 => tracing::warn!(target: "librdkafka", %facility, "{message}"),
        // Properties are given to both kinds of client, and each names those of the other.
        4..=5 if facility == "CONFWARN" => tracing::debug!(target: "librdkafka", %facility, "{message}"),
        4..=5 => tracing::info!(target: "librdkafka", %facility, "{message}"),
        _ => tracing::debug!(target: "librdkafka", %facility, "{message}"),
    }
    if matches!(&*facility, "FAIL" | CERTIFICATE) && !client.is_null() {
        // SAFETY: the client is alive while it logs, and its opaque is the promise of `listen`.
        let reports = unsafe { rd::rd_kafka_opaque(client).cast::<Reports>().as_ref() };
        if let Some(reports) = reports {
            let connection = &mut reports.last().connection;
            // The failure that follows says less than the certificate's own.
            let names_it = connection.as_ref().is_some_and(|known| known.contains(VERIFICATION));
            let says_less = HANDSHAKE.iter().any(|part| message.contains(part));
            if facility != "FAIL" || !(names_it && says_less) {
                *connection = Some(message.into_owned());
            }
        }
    }
}

/// The facility of what librdkafka says of a certificate that was refused, and a part of every such message.
const CERTIFICATE: &str = "SSLCERTVRFY";
const VERIFICATION: &str = "verification";
/// Parts of what it says of a handshake that failed, one or more of which are in each such message.
const HANDSHAKE: [&str; 3] = ["SSL handshake failed", "SSL_HANDSHAKE", "certificate verify failed"];

/// The error callback: called by whoever reads records, on the worker's thread.
unsafe extern "C" fn error(_: *mut rd::rd_kafka_t, code: c_int, reason: *const c_char, reports: *mut c_void) {
    // SAFETY: librdkafka hands a terminated string; the rest is the promise of `listen`.
    let (text, reports) = unsafe { (CStr::from_ptr(reason).to_string_lossy(), &*reports.cast::<Reports>()) };
    tracing::warn!(target: "librdkafka", "{text}");
    reports.last().partition = Some((code, text.into_owned()));
}

/// Refuses what OpenSSL refuses, and says why: librdkafka's own message is the same for every certificate.
unsafe extern "C" fn verify(
    _: *mut rd::rd_kafka_t,
    _: *const c_char,
    _: i32,
    x509_error: *mut c_int,
    _: c_int,
    _: *const c_char,
    _: usize,
    text: *mut c_char,
    room: usize,
    _: *mut c_void,
) -> c_int {
    // SAFETY: librdkafka hands the code and a buffer of that length.
    unsafe {
        if *x509_error == X509_V_OK {
            return 1;
        }
        let why = certificate_error(*x509_error);
        let length = why.len().min(room.saturating_sub(1));
        std::ptr::copy_nonoverlapping(why.as_ptr().cast(), text, length);
        if room > 0 {
            *text.add(length) = 0;
        }
    }
    0
}

const X509_V_OK: c_int = 0;

/// OpenSSL's codes (openssl/x509_vfy.h) in words that name the fix; all are ASCII.
fn certificate_error(code: c_int) -> String {
    let words = match code {
        9 => "the certificate is not valid yet: look at both clocks",
        10 => "the certificate has expired: renew the broker's",
        18 | 19 => "the certificate is self-signed and ssl.ca.location does not name it",
        2 | 20 | 21 => "the certificate's issuer is not known: name it in ssl.ca.location",
        23 => "the certificate is revoked",
        62 | 64 => {
            "the certificate is not for this host name: use a name that it has in bootstrap.servers and advertised.listeners"
        }
        _ => return format!("OpenSSL's X509 error {code}"),
    };
    words.to_owned()
}
