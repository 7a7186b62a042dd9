//! `[admin]`: where the admin API listens, what it shows to be itself, and who may command.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::super::name;
use super::super::section::Section;

/// `[admin]` as read.
#[derive(Debug, Default)]
pub struct Admin {
    pub listen: Option<Listen>,
    /// Certificate chain and private key, PEM: both or none.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// Names that it is reached by, beside its addresses and `localhost`.
    pub hosts: Vec<String>,
    /// The admin's token, in place of that in the state directory.
    pub token_file: Option<PathBuf>,
}

/// An address to listen on, with or without a scheme before it.
#[derive(Clone, Debug, PartialEq)]
pub struct Listen {
    pub address: SocketAddr,
    /// Whether `https://` was written, or `http://`.
    is_https: Option<bool>,
}

impl Listen {
    /// `127.0.0.1:8642`, `localhost:8642` or a URL of such. Port 0 is a free one.
    ///
    /// # Errors
    /// Completes a sentence that begins with the text.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (is_https, address) = match text.split_once("://") {
            Some(("http", address)) => (Some(false), address),
            Some(("https", address)) => (Some(true), address),
            Some(_) => (None, ""),
            None => (None, text),
        };
        let address = address.trim_end_matches('/').replace("localhost:", "127.0.0.1:");
        match address.parse() {
            Ok(address) => Ok(Self { address, is_https }),
            Err(_) => Err("is no address to listen on: IP:PORT is needed, such as 127.0.0.1:8642".to_owned()),
        }
    }

    /// Whether it may be listened there with a certificate, or without one.
    ///
    /// # Errors
    /// Why not, with the fix.
    pub fn check(&self, has_certificate: bool) -> Result<(), &'static str> {
        match (self.is_https, has_certificate) {
            (Some(true), false) => {
                Err("TLS needs a certificate: --admin-cert FILE and --admin-key FILE, or certificate \
                                        and key under [admin] of a daemon's file")
            }
            (Some(false), true) => Err("with a certificate it is https://"),
            (_, false) if !self.address.ip().is_loopback() => Err(
                "others than this machine reach that address, so it needs TLS: --admin-cert FILE and --admin-key FILE, or \
                 certificate and key under [admin] of a daemon's file; or listen on 127.0.0.1",
            ),
            _ => Ok(()),
        }
    }
}

/// `None` when something is wrong.
pub(super) fn read(section: &Section<'_>) -> Option<Admin> {
    let existing = |text: &str| section.file.existing(text);
    let listen = section.text("listen", Listen::parse).optional();
    let certificate = section.text("certificate", existing).optional();
    let key = section.text("key", existing).optional();
    let hosts = section.list("hosts", "[\"sandpiper.example.com\"]", name::host).or(Vec::new(), "none");
    let token_file = section.text("token_file", existing).optional();
    section.finish();
    let tls = match (certificate?, key?) {
        (Some(certificate), Some(key)) => Some((certificate, key)),
        (None, None) => None,
        (Some(_), None) => return missing(section, "key", "write key = \"key.pem\", the certificate's private key"),
        (None, Some(_)) => return missing(section, "certificate", "write certificate = \"cert.pem\", the key's"),
    };
    let hosts = hosts?.value.into_iter().map(|host| host.value).collect();
    Some(Admin { listen: listen?, tls, hosts, token_file: token_file? })
}

fn missing<T>(section: &Section<'_>, key: &str, advice: &str) -> Option<T> {
    section.file.absent(&section.at, section.key(key), format!("missing: {advice}"));
    None
}
