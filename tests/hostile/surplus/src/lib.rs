//! A classifier that would call home: its component imports `wasi:sockets`, which are stubs that trap when they are called.

use std::io::Write;
use std::net::TcpStream;

use sandpiper_sdk::{Classifier, Column, Reject, Signature, export_classifier, reject};
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {}

pub struct Surplus;

impl Classifier for Surplus {
    type Config = Config;

    fn open(_: Config, _: &[u8]) -> Result<Self, String> {
        Ok(Self)
    }

    fn signature(&self) -> Signature {
        Signature { columns: vec![Column::number("x")], classes: vec!["a".to_owned(), "b".to_owned()] }
    }

    fn classify(&mut self, row: &[f32], _: &mut [f32]) -> Result<(), Reject> {
        let home = TcpStream::connect(("127.0.0.1", 9));
        home.and_then(|mut home| write!(home, "{row:?}")).map_err(|error| reject("no-way-home", error.to_string()))
    }
}

export_classifier!(Surplus);
