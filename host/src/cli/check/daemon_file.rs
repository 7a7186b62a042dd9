//! Parts of a daemon's file that do not go together: an address that needs a certificate, a certificate and another one's key,
//! properties that librdkafka makes no client of.

use crate::api::tls;
use crate::config::Mistake;
use crate::config::daemon::{self, Daemon};
use crate::kafka::properties;

pub(super) fn mistakes(daemon: &Daemon) -> Vec<Mistake> {
    let admin = &daemon.admin;
    let listen = admin.listen.as_ref().and_then(|listen| listen.check(admin.tls.is_some()).err());
    let certificate = admin.tls.as_ref().and_then(|(certificate, key)| tls::acceptor(certificate, key).err());
    let control = daemon.control.as_ref().and_then(|control| properties::check_alone(&control.kafka).err());
    let found = [
        (daemon::LISTEN, listen.map(str::to_owned)),
        (daemon::CERTIFICATE, certificate.map(|error| format!("{error:#}"))),
        (daemon::CONTROL, control.map(|fault| fault.to_string())),
    ];
    found.into_iter().filter_map(|(key, message)| Some(daemon.mistake(key, message?))).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn found(text: &str) -> Vec<String> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/support/tls");
        let daemon = daemon::parse(&folder.join("daemon.toml"), text, &|_| None).unwrap();
        let shown = mistakes(&daemon).into_iter().map(|mistake| mistake.to_string());
        shown.map(|line| line.replace(&format!("{}/", folder.display()), "")).collect()
    }

    #[test]
    fn a_daemons_file_whose_parts_do_not_go_together_is_wrong_at_the_part() {
        assert_eq!(found(""), Vec::<String>::new());
        let tls = "certificate = \"certificate.pem\"\nkey = \"key.pem\"\n";
        assert_eq!(found(&format!("[admin]\nlisten = \"0.0.0.0:1\"\n{tls}")), Vec::<String>::new());
        let open = found("[admin]\nlisten = \"0.0.0.0:1\"\n");
        assert!(
            open.len() == 1 && open[0].starts_with("daemon.toml:2:10: [admin] listen: others than this"),
            "{open:?}"
        );
        let mixed = found("[admin]\ncertificate = \"certificate.pem\"\nkey = \"certificate.pem\"\n");
        assert!(mixed.len() == 1 && mixed[0].starts_with("daemon.toml:2:15: [admin] certificate: "), "{mixed:?}");
        let control = "[control.kafka]\nbootstrap.servers = \"a:1\"\n";
        let mechanism =
            found(&format!("{control}security.protocol = \"sasl_plaintext\"\nsasl.mechanism = \"PLAINN\"\n"));
        assert!(mechanism.len() == 1 && mechanism[0].contains("[control.kafka]: "), "{mechanism:?}");
        assert!(mechanism[0].contains("PLAINN"), "{mechanism:?}");
    }
}
