//! Calls to a daemon's admin API. An error that the daemon answers is passed on in its own words.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use serde::Serialize;
use serde::de::DeserializeOwned;
use ureq::http::{StatusCode, Uri, header};
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::typestate::{WithBody, WithoutBody};

use super::Global;
use crate::api::routes::Proofs;
use crate::api::tokens::{self, Kept};

/// Time for one look.
const LOOK: Duration = Duration::from_secs(60);
/// Time for one command: longer than a deployment takes to be compiled and taken.
const COMMAND: Duration = Duration::from_secs(600);

/// A client of one daemon.
pub struct Client {
    base: String,
    agent: ureq::Agent,
    token: Token,
    channel: Channel,
}

/// How what is sent gets there.
enum Channel {
    /// To whoever the certificate says.
    Https,
    /// On this machine, to that address: whose program listens there is yet to be seen.
    Here(SocketAddr),
    /// Over the network, for all to read.
    Open,
}

/// The token that is shown, and its file; or why there is none.
enum Token {
    Read { token: String, file: PathBuf },
    Missing(anyhow::Error),
}

impl Client {
    /// # Errors
    /// When the address, the token's file or the certificates are unusable.
    pub fn new(global: &Global) -> Result<Self> {
        let base = match global.admin().split_once("://") {
            Some(_) => global.admin().to_owned(),
            None => format!("http://{}", global.admin()),
        };
        let uri: Uri =
            base.parse().map_err(|_| anyhow!("--admin {base:?} is no URL, such as http://127.0.0.1:8642"))?;
        let channel = match this_machine(&uri) {
            _ if uri.scheme_str() == Some("https") => Channel::Https,
            Some(address) => Channel::Here(address),
            None => Channel::Open,
        };
        let mut config = ureq::Agent::config_builder().http_status_as_error(false);
        if let Channel::Https = channel {
            config = config.tls_config(trust(global)?);
        }
        let token = match &global.token_file {
            Some(file) => Token::Read { token: tokens::read(file, Kept::Elsewhere)?, file: file.clone() },
            None => {
                let file = global.state().join(tokens::ADMIN_FILE);
                tokens::read(&file, Kept::InState).map_or_else(Token::Missing, |token| Token::Read { token, file })
            }
        };
        let base = match &channel {
            // By one address, which is that of the proof too.
            Channel::Here(address) => format!("http://{address}"),
            Channel::Https | Channel::Open => base.trim_end_matches('/').to_owned(),
        };
        Ok(Self { base, agent: config.build().new_agent(), token, channel })
    }

    /// # Errors
    /// When no daemon answers, or it refuses; the message is the daemon's.
    pub fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        self.parse(self.look(path)?.call())
    }

    fn look(&self, path: &str) -> Result<ureq::RequestBuilder<WithoutBody>> {
        let request = self.agent.get(format!("{}{path}", self.base)).config().timeout_global(Some(LOOK)).build();
        // On this machine a look needs no token, and nothing else gets to see it.
        let shown = if let Channel::Https = self.channel { self.bearer()? } else { None };
        Ok(shown.into_iter().fold(request, |request, token| request.header(header::AUTHORIZATION, token)))
    }

    /// What a health check answers: whether it is well, and the reasons, a line each.
    ///
    /// # Errors
    /// When no daemon answers, or it refuses.
    pub fn probe(&self, path: &str) -> Result<(bool, String)> {
        let mut answer = self.look(path)?.call().with_context(|| self.nobody())?;
        let text = answer.body_mut().read_to_string()?;
        match answer.status() {
            StatusCode::OK => Ok((true, text)),
            StatusCode::SERVICE_UNAVAILABLE => Ok((false, text)),
            status => bail!("{} answered {status}: {text}", self.base),
        }
    }

    /// # Errors
    /// As `get`.
    pub fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T> {
        let body = serde_json::to_vec(body)?;
        let request = self.agent.post(format!("{}{path}", self.base)).content_type("application/json");
        self.command(request, &body)
    }

    /// # Errors
    /// As `get`.
    pub fn put<T: DeserializeOwned>(&self, path: &str, body: &[u8]) -> Result<T> {
        // What is large is sent when the daemon wants it.
        let request = self.agent.put(format!("{}{path}", self.base)).header(header::EXPECT, "100-continue");
        self.command(request, body)
    }

    fn command<T: DeserializeOwned>(&self, request: ureq::RequestBuilder<WithBody>, body: &[u8]) -> Result<T> {
        let request = request.config().timeout_global(Some(COMMAND)).build();
        let shown = self.bearer()?.into_iter();
        self.parse(shown.fold(request, |request, token| request.header(header::AUTHORIZATION, token)).send(body))
    }

    /// What to show, where it may be sent at all.
    fn bearer(&self) -> Result<Option<String>> {
        let Token::Read { token, file } = &self.token else { return Ok(None) };
        match self.channel {
            Channel::Https => {}
            Channel::Here(address) => self.have_proven(address, token, file)?,
            Channel::Open => bail!(
                "the token is not sent over the network in the clear: {} must be https://, with --ca-file",
                self.base
            ),
        }
        Ok(Some(format!("Bearer {token}")))
    }

    /// Lets a token go only to who knows it already: while no daemon runs, anybody on this machine may listen in its place.
    fn have_proven(&self, address: SocketAddr, token: &str, file: &Path) -> Result<()> {
        let (base, nonce) = (&self.base, tokens::chance()?);
        let request = self.agent.get(format!("{base}/v1/proof/{nonce}"));
        let answer = request.config().timeout_global(Some(LOOK)).build().call();
        let mut answer = answer.with_context(|| self.nobody())?;
        let bytes = answer.body_mut().with_config().limit(64 << 10).read_to_vec()?;
        let Some(Proofs { proofs }) = serde_json::from_slice(&bytes).ok().filter(|_| answer.status().is_success())
        else {
            bail!(
                "{base} is no daemon, or is of another version; the token is not sent to what does not prove that it knows it"
            );
        };
        if !proofs.iter().any(|shown| tokens::is_proof(shown, token, &nonce, address)) {
            bail!(
                "what listens at {base} does not know the token in {}, which is not sent to it: it is another daemon, whose token \
                 --state or --token-file names, or is reached through a port of another number, or is somebody else's program",
                file.display()
            );
        }
        Ok(())
    }

    fn nobody(&self) -> String {
        let base = &self.base;
        format!("no daemon answers at {base}; start one with `sandpiper run`, or name its address with --admin")
    }

    fn parse<T: DeserializeOwned>(&self, answer: Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> Result<T> {
        let mut answer = answer.with_context(|| self.nobody())?;
        let status = answer.status();
        let bytes = answer.body_mut().with_config().limit(64 << 20).read_to_vec()?;
        if status.is_success() {
            return serde_json::from_slice(&bytes)
                .with_context(|| format!("{} is no daemon of this version", self.base));
        }
        let body: serde_json::Value = serde_json::from_slice(&bytes).unwrap_or_default();
        let Some(message) = body.get("error").and_then(serde_json::Value::as_str) else {
            bail!("{} answered {status}", self.base)
        };
        match (status, &self.token) {
            (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN, Token::Read { file, .. }) => {
                bail!("{message} (shown was that of {})", file.display())
            }
            (StatusCode::UNAUTHORIZED, Token::Missing(why)) => bail!("{message} (none was shown: {why:#})"),
            _ => bail!("{message}"),
        }
    }
}

/// The loopback address that a URL names.
fn this_machine(uri: &Uri) -> Option<SocketAddr> {
    let host = uri.host()?.trim_start_matches('[').trim_end_matches(']');
    // As `run --admin` takes it.
    let host = if host.eq_ignore_ascii_case("localhost") { "127.0.0.1" } else { host };
    let address: IpAddr = host.parse().ok()?;
    address.is_loopback().then(|| SocketAddr::new(address, uri.port_u16().unwrap_or(80)))
}

/// The certificates of `--ca-file`, and nobody else's.
fn trust(global: &Global) -> Result<TlsConfig> {
    let Some(file) = &global.ca_file else {
        bail!(
            "{} needs --ca-file FILE: the PEM certificate of the daemon or of its issuer, or the system's bundle",
            global.admin()
        )
    };
    let pem = std::fs::read(file).with_context(|| format!("--ca-file {} cannot be read", file.display()))?;
    let mut certificates = Vec::new();
    for item in parse_pem(&pem) {
        if let PemItem::Certificate(certificate) =
            item.with_context(|| format!("--ca-file {} is no PEM", file.display()))?
        {
            certificates.push(certificate);
        }
    }
    if certificates.is_empty() {
        bail!("--ca-file {} holds no certificate", file.display());
    }
    Ok(TlsConfig::builder()
        .root_certs(RootCerts::new_with_certs(&certificates))
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .build())
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;

    use super::super::Output;
    use super::*;

    /// What a command says to somebody who answers that, and all that he was sent.
    fn said_to(answer: impl Fn(&str) -> String + Send + 'static) -> (String, String) {
        let state = tempfile::tempdir().unwrap();
        tokens::Tokens::open(state.path(), None).unwrap();
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let impostor = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut heard = Vec::new();
            while !heard.ends_with(b"\r\n\r\n") {
                let mut piece = [0; 4096];
                let read = stream.read(&mut piece).unwrap();
                heard.extend(&piece[..read]);
            }
            let heard = String::from_utf8(heard).unwrap();
            let (head, body) = (heard.lines().next().unwrap(), answer(&heard));
            let status = if body.is_empty() { "404 Not Found" } else { "200 OK" };
            let length = body.len();
            write!(stream, "HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}").unwrap();
            assert!(head.starts_with("GET /v1/proof/"), "{head}");
            listener.set_nonblocking(true).unwrap();
            assert!(listener.accept().is_err(), "nothing more is said to him");
            heard
        });
        let global = Global {
            admin: Some(format!("http://localhost:{port}")),
            state: Some(state.path().to_owned()),
            token_file: None,
            ca_file: None,
            output: Output::Text,
        };
        let refused =
            Client::new(&global).unwrap().post::<serde_json::Value>("/v1/pipelines/a/pause", &()).unwrap_err();
        let heard = impostor.join().unwrap();
        let token = tokens::read(&state.path().join(tokens::ADMIN_FILE), Kept::InState).unwrap();
        assert!(!heard.contains(&token) && !heard.to_ascii_lowercase().contains("authorization"), "{heard}");
        (format!("{refused:#}"), heard)
    }

    #[test]
    fn a_token_goes_to_nobody_who_does_not_know_it() {
        let (said, _) = said_to(|_| String::new());
        assert!(said.contains("is of another version"), "{said}");
        let (said, _) = said_to(|_| "{}".into());
        assert!(said.contains("is of another version"), "{said}");
        let (said, _) = said_to(|_| format!("{{\"proofs\": [\"{0}\", \"{0}\"]}}", "0".repeat(64)));
        assert!(said.contains("does not know the token"), "{said}");
    }
}
