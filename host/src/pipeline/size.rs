//! What an emitted record takes of memory, counted before it is copied: a plugin's answer of a few bytes may ask for a key of
//! megabytes a hundred thousand times.

use crate::record::{Batch, Headers};
use sandpiper_sandbox::batch::{size_of_header, size_of_headers};
use sandpiper_sandbox::wit::latest::{Emitted, EmittedKey, Transformed};

/// Bytes that a record takes besides its own, in the batches and buffers that it passes through.
const RECORD: usize = 256;

/// Key, headers and what they take; the value is not among it.
pub(super) fn record(key: Option<&[u8]>, headers: Option<&Headers>) -> usize {
    RECORD + key.map_or(0, <[u8]>::len) + headers.map_or(0, size_of_headers)
}

/// All records that a transform's answer asks for. The answer keeps the rules, and is one to `batch`.
pub(super) fn transformed(answer: &Transformed, batch: &Batch) -> usize {
    // They ascend by row, so that a row's headers are looked at once.
    let mut inherited = (u32::MAX, 0);
    let mut size = answer.payload.len();
    for Emitted { source_row, key, headers, .. } in &answer.emitted {
        let Some(facts) = batch.rows.get(*source_row as usize) else { continue };
        if inherited.0 != *source_row {
            inherited = (*source_row, facts.headers.as_deref().map_or(0, size_of_headers));
        }
        let key = match key {
            EmittedKey::Input => batch.rows.key(facts),
            EmittedKey::None => None,
            EmittedKey::Bytes(bytes) => Some(bytes.as_slice()),
        };
        let added: usize = headers.iter().map(|added| size_of_header(&added.name, added.value.as_deref())).sum();
        size += record(key, None) + inherited.1 + added;
    }
    size
}
