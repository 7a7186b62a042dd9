//! A TCP proxy that knows where Kafka's frames begin. It changes no byte, but delays, holds or drops the requests or the
//! responses that its rules name, or closes their connection.
//!
//! A frame is its size (i32) and that many bytes; a request begins with its API key (i16), version (i16) and correlation
//! id (i32), a response with the correlation id. Frames of a connection stay in order, so a delayed frame delays all
//! behind it, as on a slow network.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The API key of EndTxn, the request that commits or aborts a transaction.
pub const END_TXN: i16 = 26;

/// The direction of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// To the broker.
    Request,
    /// To the client.
    Response,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Action {
    /// Passes after that time.
    Delay(Duration),
    /// Passes once the rules are cleared.
    Hold,
    /// Never passes; the connection stays open.
    Drop,
    /// Never passes; both sides of the connection are closed.
    Disconnect,
    /// Passes after that time; the client's side of the connection is closed at once.
    DelayPastDisconnect(Duration),
}

/// Which frames an action applies to.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// `None` is every request.
    pub api_key: Option<i16>,
    pub direction: Direction,
    pub action: Action,
    /// For how many frames the rule holds; `usize::MAX` is all.
    pub times: usize,
}

#[derive(Default)]
struct State {
    upstream: Option<SocketAddr>,
    rules: Vec<Rule>,
    /// Directions in which nothing passes, on any connection.
    blocked: Vec<Direction>,
    /// Frames that a rule has applied to since the rules were last cleared.
    matched: usize,
    /// How often the rules were cleared: a held frame waits for the next time.
    cleared: u64,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until nothing blocks this direction.
    fn wait_until_open(&self, direction: Direction) {
        let blocked = |state: &mut State| state.blocked.contains(&direction);
        drop(self.changed.wait_while(self.state(), blocked).unwrap_or_else(PoisonError::into_inner));
    }

    /// The action of the first rule that applies to a frame; it counts against the rule.
    fn match_rule(&self, api_key: i16, direction: Direction) -> Option<Action> {
        let mut state = self.state();
        let applies = |rule: &&mut Rule| {
            rule.direction == direction && rule.times > 0 && rule.api_key.is_none_or(|each| each == api_key)
        };
        let rule = state.rules.iter_mut().find(applies)?;
        rule.times -= 1;
        let action = rule.action;
        state.matched += 1;
        Some(action)
    }

    /// Carries out an action. Returns whether the frame passes.
    fn carry_out(&self, action: Option<Action>) -> io::Result<bool> {
        match action {
            None => Ok(true),
            Some(Action::Delay(time) | Action::DelayPastDisconnect(time)) => {
                std::thread::sleep(time);
                Ok(true)
            }
            Some(Action::Hold) => {
                let state = self.state();
                let now = state.cleared;
                let held = |state: &mut State| state.cleared == now;
                drop(self.changed.wait_while(state, held).unwrap_or_else(PoisonError::into_inner));
                Ok(true)
            }
            Some(Action::Drop) => Ok(false),
            Some(Action::Disconnect) => Err(io::Error::other("disconnected by a rule")),
        }
    }
}

/// Lives as long as the process; its rules last until `clear_rules`.
pub struct Proxy {
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

impl Proxy {
    /// An address that answers; connections to it wait for `forward_to`.
    pub fn listen() -> io::Result<Proxy> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let proxy = Proxy { address: listener.local_addr()?, shared: Arc::default() };
        let shared = proxy.shared.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let shared = shared.clone();
                std::thread::spawn(move || connect(client, &shared));
            }
        });
        Ok(proxy)
    }

    pub fn forward_to(&self, upstream: SocketAddr) {
        self.shared.state().upstream = Some(upstream);
    }

    pub fn rule(&self, rule: Rule) {
        self.shared.state().rules.push(rule);
    }

    /// Blocks these directions on old connections and new ones, and closes nothing.
    pub fn block(&self, directions: &[Direction]) {
        self.shared.state().blocked.extend(directions);
    }

    /// How many frames a rule has applied to.
    pub fn matched(&self) -> usize {
        self.shared.state().matched
    }

    /// Clears every rule and block; the frames that they held back pass.
    pub fn clear_rules(&self) {
        let mut state = self.shared.state();
        state.rules.clear();
        state.blocked.clear();
        state.matched = 0;
        state.cleared += 1;
        self.shared.changed.notify_all();
    }
}

/// The API keys of the requests that wait for a response, by correlation id.
type Pending = Arc<Mutex<HashMap<i32, i16>>>;

fn connect(client: TcpStream, shared: &Arc<Shared>) {
    shared.wait_until_open(Direction::Request);
    let upstream = shared.state().upstream;
    let Some(Ok(broker)) = upstream.map(TcpStream::connect) else { return };
    let _ = (client.set_nodelay(true), broker.set_nodelay(true));
    let (Ok(from_client), Ok(from_broker)) = (client.try_clone(), broker.try_clone()) else { return };
    let pending = Pending::default();
    let responses = {
        let (shared, pending) = (shared.clone(), pending.clone());
        std::thread::spawn(move || {
            let _ = pump(from_broker, &client, Direction::Response, &shared, &pending);
            let _ = client.shutdown(Shutdown::Both);
        })
    };
    // When the client closes, the broker still gets what was under way, then the end of the stream.
    let result = pump(from_client, &broker, Direction::Request, shared, &pending);
    let _ = broker.shutdown(if result.is_ok() { Shutdown::Write } else { Shutdown::Both });
    let _ = responses.join();
    let _ = broker.shutdown(Shutdown::Both);
}

/// Frame by frame until one side ends.
fn pump(
    mut from: TcpStream,
    mut to: &TcpStream,
    direction: Direction,
    shared: &Shared,
    pending: &Pending,
) -> io::Result<()> {
    let mut frame = Vec::new();
    while read_frame(&mut from, &mut frame)? {
        let action = shared.match_rule(api_key_of(&frame, direction, pending), direction);
        if matches!(action, Some(Action::DelayPastDisconnect(_))) {
            let _ = from.shutdown(Shutdown::Both);
        }
        if shared.carry_out(action)? {
            shared.wait_until_open(direction);
            to.write_all(&frame)?;
        }
    }
    Ok(())
}

/// False at the end of the stream.
fn read_frame(from: &mut TcpStream, frame: &mut Vec<u8>) -> io::Result<bool> {
    let mut size = [0; 4];
    match from.read_exact(&mut size) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
        Err(error) => return Err(error),
    }
    let length = usize::try_from(i32::from_be_bytes(size)).map_err(io::Error::other)?;
    frame.clear();
    frame.extend(size);
    frame.resize(4 + length, 0);
    from.read_exact(frame.get_mut(4..).unwrap_or_default())?;
    Ok(true)
}

fn api_key_of(frame: &[u8], direction: Direction, pending: &Pending) -> i16 {
    let number = |at: usize| frame.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map(i32::from_be_bytes);
    let mut pending = pending.lock().unwrap_or_else(PoisonError::into_inner);
    match direction {
        Direction::Request => {
            let api_key = number(4).map_or(-1, |word| (word >> 16) as i16);
            pending.insert(number(8).unwrap_or(-1), api_key);
            api_key
        }
        Direction::Response => pending.remove(&number(4).unwrap_or(-1)).unwrap_or(-1),
    }
}
