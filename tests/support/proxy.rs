//! A TCP proxy that knows where Kafka's frames begin: it changes no byte, but delays, holds, drops or cuts the requests
//! that it is told to, or their answers.
//!
//! A frame is its size (i32) and that many bytes; a request begins with its kind (i16), version (i16) and correlation id
//! (i32), an answer with the correlation id. Within a connection frames stay in order, so what is delayed delays all
//! behind it, as on a slow network.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The request that commits or aborts a transaction.
pub const END_TXN: i16 = 26;

/// Which way a frame goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// To the broker.
    Request,
    /// To the client.
    Answer,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Action {
    /// Later by that much.
    Delay(Duration),
    /// Later, when the rules are lifted.
    Hold,
    /// Never; the connection stays.
    Lose,
    /// Never; both sides of the connection are closed.
    Cut,
    /// Later by that much, when the client's side of the connection is long closed.
    Strand(Duration),
}

/// What happens to which frames.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// `None` is every kind.
    pub kind: Option<i16>,
    pub way: Way,
    pub action: Action,
    /// How many frames; `usize::MAX` is all.
    pub times: usize,
}

#[derive(Default)]
struct State {
    upstream: Option<SocketAddr>,
    rules: Vec<Rule>,
    /// Nothing passes these ways, on no connection.
    blocked: Vec<Way>,
    /// Frames that a rule met since the rules were last lifted.
    met: usize,
    /// Grows when rules are lifted: what is held goes on.
    lifted: u64,
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

    /// Waits out what blocks this way.
    fn wait_until_open(&self, way: Way) {
        let blocked = |state: &mut State| state.blocked.contains(&way);
        drop(self.changed.wait_while(self.state(), blocked).unwrap_or_else(PoisonError::into_inner));
    }

    /// What becomes of this frame, counted.
    fn meet(&self, kind: i16, way: Way) -> Option<Action> {
        let mut state = self.state();
        let applies = |rule: &&mut Rule| rule.way == way && rule.times > 0 && rule.kind.is_none_or(|each| each == kind);
        let rule = state.rules.iter_mut().find(applies)?;
        rule.times -= 1;
        let action = rule.action;
        state.met += 1;
        Some(action)
    }

    /// Answers whether the frame goes on.
    fn suffer(&self, action: Option<Action>) -> io::Result<bool> {
        match action {
            None => Ok(true),
            Some(Action::Delay(time) | Action::Strand(time)) => {
                std::thread::sleep(time);
                Ok(true)
            }
            Some(Action::Hold) => {
                let state = self.state();
                let now = state.lifted;
                let held = |state: &mut State| state.lifted == now;
                drop(self.changed.wait_while(state, held).unwrap_or_else(PoisonError::into_inner));
                Ok(true)
            }
            Some(Action::Lose) => Ok(false),
            Some(Action::Cut) => Err(io::Error::other("cut")),
        }
    }
}

/// Lives as long as the process; what it was told ends with `lift`.
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

    /// Nothing passes that way any more, on old connections and new ones, and nothing is closed.
    pub fn block(&self, ways: &[Way]) {
        self.shared.state().blocked.extend(ways);
    }

    /// How many frames met a rule.
    pub fn met(&self) -> usize {
        self.shared.state().met
    }

    /// Forgets every rule; what was held or blocked goes on.
    pub fn lift(&self) {
        let mut state = self.shared.state();
        state.rules.clear();
        state.blocked.clear();
        state.met = 0;
        state.lifted += 1;
        self.shared.changed.notify_all();
    }
}

/// The kinds of requests that wait for their answers, by correlation id.
type Asked = Arc<Mutex<HashMap<i32, i16>>>;

fn connect(client: TcpStream, shared: &Arc<Shared>) {
    shared.wait_until_open(Way::Request);
    let upstream = shared.state().upstream;
    let Some(Ok(broker)) = upstream.map(TcpStream::connect) else { return };
    let _ = (client.set_nodelay(true), broker.set_nodelay(true));
    let (Ok(from_client), Ok(from_broker)) = (client.try_clone(), broker.try_clone()) else { return };
    let asked = Asked::default();
    let answers = {
        let (shared, asked) = (shared.clone(), asked.clone());
        std::thread::spawn(move || {
            let _ = pump(from_broker, &client, Way::Answer, &shared, &asked);
            let _ = client.shutdown(Shutdown::Both);
        })
    };
    // When the client goes, the broker still gets what was under way, then the end.
    let result = pump(from_client, &broker, Way::Request, shared, &asked);
    let _ = broker.shutdown(if result.is_ok() { Shutdown::Write } else { Shutdown::Both });
    let _ = answers.join();
    let _ = broker.shutdown(Shutdown::Both);
}

/// Frame by frame until one side ends.
fn pump(mut from: TcpStream, mut to: &TcpStream, way: Way, shared: &Shared, asked: &Asked) -> io::Result<()> {
    let mut frame = Vec::new();
    while read_frame(&mut from, &mut frame)? {
        let action = shared.meet(kind_of(&frame, way, asked), way);
        if matches!(action, Some(Action::Strand(_))) {
            let _ = from.shutdown(Shutdown::Both);
        }
        if shared.suffer(action)? {
            shared.wait_until_open(way);
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

fn kind_of(frame: &[u8], way: Way, asked: &Asked) -> i16 {
    let number = |at: usize| frame.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map(i32::from_be_bytes);
    let mut asked = asked.lock().unwrap_or_else(PoisonError::into_inner);
    match way {
        Way::Request => {
            let kind = number(4).map_or(-1, |word| (word >> 16) as i16);
            asked.insert(number(8).unwrap_or(-1), kind);
            kind
        }
        Way::Answer => asked.remove(&number(4).unwrap_or(-1)).unwrap_or(-1),
    }
}
