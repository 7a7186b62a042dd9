//! What the host knows about a row. A component imports it; elsewhere there is no host, and `testing` answers.

#[cfg(target_arch = "wasm32")]
mod imported {
    use crate::Position;
    use crate::bindings::host::sandpiper::plugin::record_context as host;

    pub fn key(row: u32) -> Option<Vec<u8>> {
        host::key(row)
    }

    pub fn header(row: u32, name: &str) -> Option<Vec<u8>> {
        host::header(row, name)
    }

    pub fn timestamp(row: u32) -> Option<i64> {
        host::timestamp(row)
    }

    pub fn origin(row: u32) -> Position {
        let origin = host::origin(row);
        Position { topic: origin.topic, partition: origin.partition, offset: origin.offset }
    }

    pub fn is_null(row: u32) -> bool {
        host::is_null(row)
    }
}

#[cfg(target_arch = "wasm32")]
pub(crate) use imported::*;

#[cfg(not(target_arch = "wasm32"))]
pub(crate) use crate::testing::{header, is_null, key, origin, timestamp};
