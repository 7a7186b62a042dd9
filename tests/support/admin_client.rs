//! Clients of the admin API that behave as no good client does.

use super::daemon::Daemon;
use super::{root, until_true};
use anyhow::{Context, Result};
use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::time::Duration;

/// How long an answer may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// `certificate.pem` or `key.pem`, for `localhost` and this machine's addresses.
pub fn tls_file(name: &str) -> PathBuf {
    root().join("tests/support/tls").join(name)
}

/// What `Authorization` holds for one of a daemon's tokens: `admin` or `viewer`.
pub fn bearer(daemon: &Daemon, who: &str) -> Result<String> {
    let file = daemon.state.join(format!("{who}.token"));
    let token = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
    Ok(format!("Bearer {}", token.trim()))
}

/// A request's head: `request` is as `POST /v1/artifacts`, `headers` whole lines.
pub fn head(request: &str, headers: &[String]) -> String {
    let lines: String = headers.iter().map(|line| format!("{line}\r\n")).collect();
    format!("{request} HTTP/1.1\r\n{lines}\r\n")
}

/// A connection that has sent that, and more later if at all.
pub fn sent(daemon: &mut Daemon, text: &[u8]) -> Result<TcpStream> {
    let mut stream = TcpStream::connect(daemon.address()?)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    // One that is refused may be answered before all of it is sent.
    let _ = stream.write_all(text);
    Ok(stream)
}

/// The status and the body of what comes back.
pub fn answer(stream: &mut TcpStream) -> Result<(u16, String)> {
    let mut bytes = Vec::new();
    match stream.read_to_end(&mut bytes) {
        Err(error) if error.kind() != ErrorKind::ConnectionReset => return Err(error.into()),
        _ => {}
    }
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let (head, body) = text.split_once("\r\n\r\n").with_context(|| format!("no answer: {text:?}"))?;
    let status = head.split_whitespace().nth(1).and_then(|status| status.parse().ok());
    Ok((status.with_context(|| format!("no status in {head:?}"))?, body.to_owned()))
}

/// Sends a whole request and reads its answer.
pub fn ask(daemon: &mut Daemon, request: &str, headers: &[String], body: &[u8]) -> Result<(u16, String)> {
    let mut headers = headers.to_vec();
    headers.push(format!("Content-Length: {}", body.len()));
    let mut stream = sent(daemon, head(request, &headers).as_bytes())?;
    let _ = stream.write_all(body);
    answer(&mut stream)
}

/// Waits until the daemon's log has a line with all of that; returns it.
pub fn until_logged(daemon: &Daemon, parts: &[&str]) -> Result<String> {
    let mut found = String::new();
    until_true(&format!("a line of the log has {parts:?}"), || {
        let log = fs::read_to_string(&daemon.log)?;
        let line = log.lines().find(|line| parts.iter().all(|part| line.contains(part)));
        found = line.unwrap_or_default().to_owned();
        Ok(line.is_some())
    })?;
    Ok(found)
}
