//! Calls to a daemon's admin API. An error that the daemon answers is passed on in its own words.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use serde::Serialize;
use serde::de::DeserializeOwned;
use ureq::http::{StatusCode, Uri, header};
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::typestate::{WithBody, WithoutBody};

use super::Global;
use crate::api::tokens;

/// Time for one look.
const LOOK: Duration = Duration::from_secs(60);
/// Time for one command: longer than a deployment takes to be compiled and taken.
const COMMAND: Duration = Duration::from_secs(600);

/// A client of one daemon.
pub struct Client {
    base: String,
    agent: ureq::Agent,
    token: Token,
    /// Whether what is sent stays on this machine, or is encrypted.
    is_safe: bool,
    is_https: bool,
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
        let base = match global.admin.split_once("://") {
            Some(_) => global.admin.clone(),
            None => format!("http://{}", global.admin),
        };
        let uri: Uri =
            base.parse().map_err(|_| anyhow!("--admin {base:?} is no URL, such as http://127.0.0.1:8642"))?;
        let is_https = uri.scheme_str() == Some("https");
        let is_safe = is_https || uri.host().is_some_and(is_this_machine);
        let mut config = ureq::Agent::config_builder().http_status_as_error(false);
        if is_https {
            config = config.tls_config(trust(global)?);
        }
        let token = match &global.token_file {
            Some(file) => Token::Read { token: tokens::read(file)?, file: file.clone() },
            None => {
                let file = global.state().join(tokens::ADMIN_FILE);
                tokens::read(&file).map_or_else(Token::Missing, |token| Token::Read { token, file })
            }
        };
        let base = base.trim_end_matches('/').to_owned();
        Ok(Self { base, agent: config.build().new_agent(), token, is_safe, is_https })
    }

    /// # Errors
    /// When no daemon answers, or it refuses; the message is the daemon's.
    pub fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        self.parse(self.look(path)?.call())
    }

    fn look(&self, path: &str) -> Result<ureq::RequestBuilder<WithoutBody>> {
        let request = self.agent.get(format!("{}{path}", self.base)).config().timeout_global(Some(LOOK)).build();
        // On this machine a look needs no token, and nothing else gets to see it.
        let shown = if self.is_https { self.bearer()? } else { None };
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
        match &self.token {
            Token::Missing(_) => Ok(None),
            Token::Read { token, .. } if self.is_safe => Ok(Some(format!("Bearer {token}"))),
            Token::Read { .. } => bail!(
                "the token is not sent over the network in the clear: {} must be https://, with --ca-file",
                self.base
            ),
        }
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

fn is_this_machine(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost")
        || address.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// The certificates of `--ca-file`, and nobody else's.
fn trust(global: &Global) -> Result<TlsConfig> {
    let Some(file) = &global.ca_file else {
        bail!(
            "{} needs --ca-file FILE: the PEM certificate of the daemon or of its issuer, or the system's bundle",
            global.admin
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
