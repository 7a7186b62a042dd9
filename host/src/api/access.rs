//! Who may do what.
//!
//! A health check needs nothing. Whatever else only reads needs the viewer's or the admin's token where the API can be
//! reached from other machines, and nothing where it cannot. Whatever changes something needs the admin's, wherever it comes
//! from. And no request that a foreign web page made is answered: neither under a name that its owner has pointed at this
//! machine (`Host`), nor across origins (`Origin`).

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, Method, StatusCode, Uri, Version, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::audit::{self, Audit};
use super::bodies;
use super::refusal::Refusal;
use super::server::Peer;
use super::tokens::{Role, Tokens};
use crate::control::command::By;

/// Commands that are carried out at the same time, at most: each has a thread that waits for what comes of it.
pub(super) const COMMANDS: usize = 16;

/// What decides about a request.
pub struct Access {
    tokens: Tokens,
    /// Where the API listens.
    address: SocketAddr,
    /// Whether only this machine reaches it.
    is_loopback: bool,
    /// Names that it is reached by, beside `localhost` and addresses.
    names: Vec<String>,
    commands: Arc<Semaphore>,
    audit: Audit,
}

/// A command's place among those that are carried out: an extension of its request. It is free when the last clone is gone,
/// so a thread that works for the command has one, whether or not somebody still waits for the answer.
#[derive(Clone)]
pub struct Place(#[expect(dead_code, reason = "it is only held")] Arc<OwnedSemaphorePermit>);

/// Whether a caller showed a token that lets it look: an extension of each request.
#[derive(Clone, Copy)]
pub struct MayLook(pub bool);

impl Access {
    pub fn new(tokens: Tokens, address: SocketAddr, names: Vec<String>) -> Self {
        let is_loopback = address.ip().is_loopback();
        Self {
            tokens,
            address,
            is_loopback,
            names,
            commands: Arc::new(Semaphore::new(COMMANDS)),
            audit: Audit::default(),
        }
    }

    /// What shows a caller that this is the daemon whose token he has.
    pub fn proofs(&self, nonce: &str) -> [String; 2] {
        self.tokens.proofs(nonce, self.address)
    }

    /// Whose request this is; nobody's where it shows no token.
    ///
    /// # Errors
    /// When it may not be answered.
    pub fn admit(
        &self,
        method: &Method,
        uri: &Uri,
        version: Version,
        headers: &HeaderMap,
    ) -> Result<Option<Role>, Refusal> {
        let host = self.host(uri, version, headers)?;
        same_origin(host.as_ref(), headers)?;
        let token = token(headers);
        let role = token.and_then(|token| self.tokens.role_of(token));
        let needed = needed(method, uri.path()).filter(|needed| *needed == Role::Admin || !self.is_loopback);
        match (needed, role) {
            (Some(needed), Some(role)) if role < needed => Err(Refusal::new(
                StatusCode::FORBIDDEN,
                format!("the {role}'s token does not do for this, which needs the {needed}'s; {WHERE}"),
            )),
            (Some(_), None) if token.is_some() => Err(Refusal::new(
                StatusCode::UNAUTHORIZED,
                format!("the token is none of this daemon's, or not any more; {WHERE}"),
            )),
            (Some(needed), None) => {
                Err(Refusal::new(StatusCode::UNAUTHORIZED, format!("this needs the {needed}'s token; {WHERE}")))
            }
            _ => Ok(role),
        }
    }

    /// The host that the request is for; nothing where an old client does not say.
    fn host(&self, uri: &Uri, version: Version, headers: &HeaderMap) -> Result<Option<Authority>, Refusal> {
        let refused = |status, why: &str| Err(Refusal::new(status, why.to_owned()));
        let mut given = headers.get_all(header::HOST).iter();
        let host = match (given.next(), given.next()) {
            (None, _) if version < Version::HTTP_11 => return Ok(None),
            (None, _) => return refused(StatusCode::BAD_REQUEST, "the request names no Host"),
            (Some(_), Some(_)) => return refused(StatusCode::BAD_REQUEST, "the request names more than one Host"),
            (Some(host), None) => Authority::try_from(host.as_bytes()),
        };
        let Ok(host) = host else { return refused(StatusCode::BAD_REQUEST, "the request's Host is none") };
        if uri.authority().is_some_and(|authority| *authority != host) {
            return refused(StatusCode::BAD_REQUEST, "the request's Host is not the one of its URL");
        }
        if self.is_ours(&host) {
            return Ok(Some(host));
        }
        Err(Refusal::new(
            StatusCode::MISDIRECTED_REQUEST,
            format!(
                "this daemon is not reached as {:?}: use its address, or start it with --admin-host {}",
                bodies::short(host.host()),
                bodies::short(host.host())
            ),
        ))
    }

    /// An address names nobody else, whatever a name server says; a name may.
    fn is_ours(&self, host: &Authority) -> bool {
        let name = host.host();
        let address = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
        let is_known =
            || self.names.iter().map(String::as_str).chain(["localhost"]).any(|n| n.eq_ignore_ascii_case(name));
        !host.as_str().contains('@') && (address.parse::<IpAddr>().is_ok() || is_known())
    }
}

/// What is to be done about a token that is not there or not enough.
const WHERE: &str = "it stands in the daemon's state directory, in admin.token and viewer.token: on this machine name the \
                     directory by --state, elsewhere a copy by --token-file";

/// What a request needs. Whatever is new needs the admin's token until it says otherwise here.
fn needed(method: &Method, path: &str) -> Option<Role> {
    match (method, path) {
        (&Method::GET | &Method::HEAD, "/livez" | "/readyz") => None,
        (&Method::GET | &Method::HEAD, _) => Some(Role::Viewer),
        _ => Some(Role::Admin),
    }
}

/// Browsers say from which page a request comes when it could do harm.
fn same_origin(host: Option<&Authority>, headers: &HeaderMap) -> Result<(), Refusal> {
    let is_own = |origin: &[u8]| {
        let origin = origin.strip_prefix(b"http://").or_else(|| origin.strip_prefix(b"https://"))?;
        Some(Authority::try_from(origin).ok()? == *host?)
    };
    let mut origins = headers.get_all(header::ORIGIN).iter();
    match origins.all(|origin| is_own(origin.as_bytes()).unwrap_or(false)) {
        true => Ok(()),
        false => Err(Refusal::new(StatusCode::FORBIDDEN, "a web page of another origin may not ask this".to_owned())),
    }
}

/// What `Authorization: Bearer …` holds.
fn token(headers: &HeaderMap) -> Option<&[u8]> {
    let value = headers.get(header::AUTHORIZATION)?.as_bytes();
    let (scheme, token) = value.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| token.trim_ascii())
}

/// Lets a request through, or answers it. What came of a command is a line of the audit log.
pub async fn check(State(access): State<Arc<Access>>, mut request: Request, next: Next) -> Response {
    let peer = request.extensions().get::<Peer>().cloned();
    let from = peer.as_ref().map_or_else(|| "nowhere".to_owned(), |peer| peer.address.ip().to_string());
    let is_command = needed(request.method(), request.uri().path()) == Some(Role::Admin);
    let admitted = access.admit(request.method(), request.uri(), request.version(), request.headers());
    let role = match admitted {
        Ok(role) => role,
        Err(refusal) => {
            if is_command {
                access.audit.turned_away(&from, audit::call(&request), refusal.why());
            }
            bodies::discard(request).await;
            return refusal.into_response();
        }
    };
    request.extensions_mut().insert(access.clone());
    request.extensions_mut().insert(MayLook(access.is_loopback || role.is_some()));
    if !is_command {
        return next.run(request).await;
    }
    let by = By { who: role.map_or_else(|| "nobody".to_owned(), |role| role.to_string()), from };
    let line = audit::Line::new(&by, audit::call(&request));
    let Ok(permit) = access.commands.clone().try_acquire_owned() else {
        let busy = format!("{COMMANDS} commands are being carried out: wait for one of them");
        bodies::discard(request).await;
        let response = Refusal::new(StatusCode::SERVICE_UNAVAILABLE, busy).into_response();
        line.answered(&response);
        return response;
    };
    let _kept = peer.as_ref().map(Peer::keep);
    request.extensions_mut().insert(by);
    let place = Place(Arc::new(permit));
    request.extensions_mut().insert(place.clone());
    let response = next.run(request).await;
    drop(place);
    line.answered(&response);
    response
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Mutex, MutexGuard, PoisonError};

    use axum::body::Body;
    use axum::routing::{get, post};
    use axum::{Extension, Router, middleware};
    use tower::ServiceExt as _;

    use super::super::tokens::{ADMIN_FILE, Kept, VIEWER_FILE, read};
    use super::*;

    struct Gate {
        access: Arc<Access>,
        admin: String,
        viewer: String,
    }

    fn gate(is_loopback: bool) -> Gate {
        let directory = tempfile::tempdir().unwrap();
        let tokens = Tokens::open(directory.path(), None).unwrap();
        let token = |name| format!("Bearer {}", read(&directory.path().join(name), Kept::InState).unwrap());
        let (admin, viewer) = (token(ADMIN_FILE), token(VIEWER_FILE));
        let address = if is_loopback { [127, 0, 0, 1] } else { [192, 0, 2, 1] };
        let access = Arc::new(Access::new(tokens, (address, 8642).into(), vec!["piper.example".into()]));
        Gate { access, admin, viewer }
    }

    impl Gate {
        /// The status of a refusal; 200 where there is none.
        fn status(&self, method: Method, path: &str, headers: &[(&str, &str)]) -> u16 {
            let mut request = Request::builder().method(method).uri(path);
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            let (parts, ()) = request.body(()).unwrap().into_parts();
            match self.access.admit(&parts.method, &parts.uri, parts.version, &parts.headers) {
                Ok(_) => 200,
                Err(refusal) => refusal.into_response().status().as_u16(),
            }
        }

        /// With a Host, and that token.
        fn with(&self, method: Method, path: &str, token: Option<&str>) -> u16 {
            let mut headers = vec![("host", "127.0.0.1:8642")];
            headers.extend(token.map(|token| ("authorization", token)));
            self.status(method, path, &headers)
        }
    }

    const PROBES: [&str; 2] = ["/livez", "/readyz"];
    const LOOKS: [&str; 4] = ["/metrics", "/v1/status", "/v1/pipelines/iris/history", "/v1/pipelines/iris/replay"];

    #[test]
    fn whatever_changes_something_needs_the_admins_token_wherever_it_comes_from() {
        for gate in [gate(true), gate(false)] {
            for (method, path) in [
                (Method::POST, "/v1/pipelines/iris/deploy"),
                (Method::POST, "/v1/pipelines/iris/replay"),
                (Method::PUT, "/v1/artifacts"),
                (Method::DELETE, "/livez"),
                (Method::POST, "/nothing/there"),
            ] {
                assert_eq!(gate.with(method.clone(), path, None), 401, "{path}");
                assert_eq!(gate.with(method.clone(), path, Some("Bearer wrong")), 401, "{path}");
                assert_eq!(gate.with(method.clone(), path, Some(&gate.admin["Bearer ".len()..])), 401, "{path}");
                assert_eq!(gate.with(method.clone(), path, Some(&gate.viewer)), 403, "{path}");
                assert_eq!(gate.with(method, path, Some(&gate.admin)), 200, "{path}");
            }
        }
    }

    #[test]
    fn who_only_looks_needs_a_token_from_elsewhere_and_a_probe_none() {
        let (here, elsewhere) = (gate(true), gate(false));
        for path in LOOKS {
            assert_eq!(here.with(Method::GET, path, None), 200, "{path}");
            assert_eq!(elsewhere.with(Method::GET, path, None), 401, "{path}");
            for token in [&elsewhere.viewer, &elsewhere.admin] {
                assert_eq!(elsewhere.with(Method::GET, path, Some(token)), 200, "{path}");
            }
        }
        for path in PROBES {
            for token in [None, Some("Bearer wrong")] {
                assert_eq!(elsewhere.with(Method::GET, path, token), 200, "{path}");
            }
        }
    }

    #[test]
    fn a_name_that_is_not_this_daemons_is_refused_and_an_address_is_nobody_elses() {
        let gate = gate(true);
        for host in ["127.0.0.1:8642", "localhost:8642", "LOCALHOST", "[::1]:8642", "192.0.2.1", "Piper.example:1"] {
            assert_eq!(gate.status(Method::GET, "/v1/status", &[("host", host)]), 200, "{host}");
        }
        for host in ["rebound.example:8642", "localhost.rebound.example", "127.0.0.1.rebound.example", "x@localhost"] {
            for path in ["/v1/status", "/readyz"] {
                assert_eq!(gate.status(Method::GET, path, &[("host", host)]), 421, "{host}");
            }
        }
        for headers in [&[][..], &[("host", "")], &[("host", "localhost"), ("host", "localhost")]] {
            assert_eq!(gate.status(Method::GET, "/v1/status", headers), 400, "{headers:?}");
        }
        let other = [("host", "localhost:8642")];
        assert_eq!(gate.status(Method::GET, "http://rebound.example/v1/status", &other), 400);
        assert_eq!(gate.status(Method::GET, "http://localhost:8642/v1/status", &other), 200);
    }

    #[test]
    fn a_page_of_another_origin_is_refused_whatever_it_asks() {
        let gate = gate(true);
        for (origin, status) in [
            ("http://localhost:8642", 200),
            ("https://localhost:8642", 200),
            ("http://localhost:1234", 403),
            ("http://evil.example", 403),
            ("null", 403),
            ("", 403),
        ] {
            for path in ["/v1/status", "/livez"] {
                let headers = [("host", "localhost:8642"), ("origin", origin)];
                assert_eq!(gate.status(Method::GET, path, &headers), status, "{origin}");
            }
            let headers = [("host", "localhost:8642"), ("origin", origin), ("authorization", gate.admin.as_str())];
            assert_eq!(gate.status(Method::POST, "/v1/pipelines/iris/pause", &headers), status, "{origin}");
        }
    }

    /// Log lines as text.
    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl Written {
        fn locked(&self) -> MutexGuard<'_, Vec<u8>> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner)
        }

        fn lines(&self) -> Vec<String> {
            String::from_utf8_lossy(&std::mem::take(&mut *self.locked())).lines().map(str::to_owned).collect()
        }
    }

    impl io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.locked().extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn asked(path: &str, token: Option<&str>) -> Request {
        let mut request = Request::post(path).header("host", "localhost");
        if let Some(token) = token {
            request = request.header("authorization", token);
        }
        request.body(Body::empty()).unwrap()
    }

    /// Where another test's thread comes to a line of the log first, tracing takes it for one that nobody wants.
    fn have_all_lines_wanted() {
        let by = By { who: "admin".into(), from: "nowhere".into() };
        drop(audit::Line::new(&by, String::new()));
        Audit::default().turned_away("nowhere", String::new(), "");
        tracing::callsite::rebuild_interest_cache();
    }

    #[tokio::test]
    async fn every_call_that_changes_something_is_a_line_of_the_audit_log() {
        let written = Written::default();
        let lines = written.clone();
        let subscriber =
            tracing_subscriber::fmt().with_ansi(false).without_time().with_writer(move || lines.clone()).finish();
        let _guard = tracing::subscriber::set_default(subscriber);
        have_all_lines_wanted();
        written.lines();
        let gate = gate(true);
        let done = |Extension(by): Extension<By>| async move {
            let mut response = Response::new(Body::from(by.who));
            response.extensions_mut().insert(super::audit::CameOf("paused: \"lunch\"\nroot".into()));
            response
        };
        let router = Router::new()
            .route("/look", get(|| async {}))
            .route("/pause", post(done))
            .route("/never", post(std::future::pending::<()>))
            .layer(middleware::from_fn_with_state(gate.access.clone(), check));
        let ask = |request| router.clone().oneshot(request);

        assert_eq!(ask(asked("/pause", Some(&gate.admin))).await.unwrap().status(), 200);
        let line = written.lines().join("\n");
        for part in [
            "audit",
            r#"who="admin""#,
            r#"from="nowhere""#,
            r#"call="POST /pause""#,
            "status=200",
            r#"\"lunch\"\nroot"#,
        ] {
            assert!(line.contains(part), "no {part} in {line}");
        }
        assert_eq!(ask(asked("/nothing", Some(&gate.admin))).await.unwrap().status(), 404);
        assert!(written.lines().join("").contains("status=404"));

        tokio::select! {
            biased;
            _ = ask(asked("/never", Some(&gate.admin))) => unreachable!(),
            () = tokio::task::yield_now() => {}
        }
        assert!(written.lines().join("").contains("did not wait"), "whose caller has gone is a line too");

        for _ in 0..3 {
            assert_eq!(ask(asked("/pause", None)).await.unwrap().status(), 401);
        }
        let turned_away = written.lines();
        assert_eq!(turned_away.len(), 1, "they cannot fill the disk: {turned_away:?}");
        assert!(turned_away[0].contains("turned away"), "{turned_away:?}");
        let look = Request::get("/look").header("host", "localhost").body(Body::empty()).unwrap();
        assert_eq!(ask(look).await.unwrap().status(), 200);
        assert_eq!(written.lines(), Vec::<String>::new(), "to look changes nothing");
    }

    #[tokio::test]
    async fn one_command_too_many_is_refused_and_looks_are_not() {
        let gate = gate(true);
        let router = Router::new()
            .route("/look", get(|| async {}))
            .route("/never", post(std::future::pending::<()>))
            .layer(middleware::from_fn_with_state(gate.access.clone(), check));
        let mut waiting = tokio::task::JoinSet::new();
        for _ in 0..COMMANDS {
            waiting.spawn(router.clone().oneshot(asked("/never", Some(&gate.admin))));
        }
        while gate.access.commands.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        let refused = router.clone().oneshot(asked("/never", Some(&gate.admin))).await.unwrap();
        assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
        let look = Request::get("/look").header("host", "localhost").body(Body::empty()).unwrap();
        assert_eq!(router.oneshot(look).await.unwrap().status(), 200);
    }
}
