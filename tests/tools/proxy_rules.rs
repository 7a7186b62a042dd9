//! The proxy's rules, in front of a broker that answers each request with the same bytes.

use crate::proxy::{Action, Direction, END_TXN, Proxy, Rule};
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

const PRODUCE: i16 = 0;
/// Far longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(20);
/// Long enough that a frame which no rule holds would have passed.
const A_WHILE: Duration = Duration::from_millis(150);

/// A proxy, a client of it, and the API keys of the requests as they reach the broker.
fn proxied_client() -> (Proxy, TcpStream, Receiver<i16>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let proxy = Proxy::listen().unwrap();
    proxy.forward_to(listener.local_addr().unwrap());
    let (sender, reached) = channel();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let sender = sender.clone();
            std::thread::spawn(move || {
                while let Some(request) = frame(&mut stream) {
                    let _ = sender.send(i16::from_be_bytes([request[0], request[1]]));
                    let response = [&request[4..8], b"answer"].concat();
                    if write(&mut stream, &response).is_err() {
                        return;
                    }
                }
            });
        }
    });
    let client = TcpStream::connect(proxy.address).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    (proxy, client, reached)
}

fn frame(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut size = [0; 4];
    stream.read_exact(&mut size).ok()?;
    let mut frame = vec![0; usize::try_from(i32::from_be_bytes(size)).unwrap()];
    stream.read_exact(&mut frame).ok()?;
    Some(frame)
}

fn write(stream: &mut TcpStream, frame: &[u8]) -> std::io::Result<()> {
    let size = i32::try_from(frame.len()).unwrap().to_be_bytes();
    stream.write_all(&[&size, frame].concat())
}

fn request(client: &mut TcpStream, api_key: i16, correlation: i32) {
    let request = [&api_key.to_be_bytes()[..], &[0, 9], &correlation.to_be_bytes(), b"body"].concat();
    write(client, &request).unwrap();
}

/// The next response's correlation id; `None` when the connection is closed.
fn response(client: &mut TcpStream) -> Option<i32> {
    let frame = frame(client)?;
    assert_eq!(&frame[4..], b"answer", "no byte is changed");
    Some(i32::from_be_bytes(frame[..4].try_into().unwrap()))
}

fn is_silent(client: &mut TcpStream) -> bool {
    client.set_read_timeout(Some(A_WHILE)).unwrap();
    let result = client.peek(&mut [0]);
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    result.is_err_and(|error| matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut))
}

fn rule(api_key: i16, direction: Direction, action: Action) -> Rule {
    Rule { api_key: Some(api_key), direction, action, times: 1 }
}

#[test]
fn a_frame_that_no_rule_names_passes() {
    let (proxy, mut client, _reached) = proxied_client();
    proxy.rule(rule(END_TXN, Direction::Request, Action::Drop));
    request(&mut client, PRODUCE, 7);
    request(&mut client, PRODUCE, 8);
    assert_eq!((response(&mut client), response(&mut client)), (Some(7), Some(8)));
    assert_eq!(proxy.matched(), 0);
}

#[test]
fn a_dropped_request_does_not_arrive_and_the_next_one_does() {
    let (proxy, mut client, reached) = proxied_client();
    proxy.rule(rule(END_TXN, Direction::Request, Action::Drop));
    request(&mut client, END_TXN, 1);
    request(&mut client, END_TXN, 2);
    assert_eq!(response(&mut client), Some(2), "one time is one time");
    assert_eq!(reached.try_iter().count(), 1);
}

#[test]
fn a_held_response_passes_when_the_rules_are_cleared() {
    let (proxy, mut client, reached) = proxied_client();
    proxy.rule(rule(END_TXN, Direction::Response, Action::Hold));
    request(&mut client, END_TXN, 3);
    assert_eq!(reached.recv_timeout(PATIENCE), Ok(END_TXN), "the request itself arrives");
    assert!(is_silent(&mut client));
    assert_eq!(proxy.matched(), 1);
    proxy.clear_rules();
    assert_eq!(response(&mut client), Some(3));
}

#[test]
fn a_delayed_request_arrives_even_when_its_client_has_gone() {
    let (proxy, mut client, reached) = proxied_client();
    proxy.rule(rule(END_TXN, Direction::Request, Action::Delay(A_WHILE)));
    let started = Instant::now();
    request(&mut client, END_TXN, 4);
    drop(client);
    assert_eq!(reached.recv_timeout(PATIENCE), Ok(END_TXN));
    assert!(started.elapsed() >= A_WHILE);
}

#[test]
fn a_request_delayed_past_its_disconnect_still_arrives() {
    let (proxy, mut client, reached) = proxied_client();
    proxy.rule(rule(END_TXN, Direction::Request, Action::DelayPastDisconnect(A_WHILE)));
    request(&mut client, END_TXN, 4);
    assert_eq!(response(&mut client), None, "the client sees the end at once");
    assert!(reached.try_recv().is_err());
    assert_eq!(reached.recv_timeout(PATIENCE), Ok(END_TXN));
}

#[test]
fn a_disconnect_in_place_of_a_response_closes_the_connection() {
    let (proxy, mut client, reached) = proxied_client();
    proxy.rule(rule(PRODUCE, Direction::Response, Action::Disconnect));
    request(&mut client, PRODUCE, 5);
    assert_eq!(reached.recv_timeout(PATIENCE), Ok(PRODUCE));
    assert_eq!(response(&mut client), None);
}

#[test]
fn a_blocked_direction_lets_the_other_pass() {
    let (proxy, mut client, reached) = proxied_client();
    request(&mut client, PRODUCE, 1);
    assert_eq!(response(&mut client), Some(1));
    assert_eq!(reached.recv_timeout(PATIENCE), Ok(PRODUCE));
    proxy.block(&[Direction::Response]);
    request(&mut client, PRODUCE, 2);
    assert_eq!(reached.recv_timeout(PATIENCE), Ok(PRODUCE));
    assert!(is_silent(&mut client));
    proxy.clear_rules();
    assert_eq!(response(&mut client), Some(2));
}
