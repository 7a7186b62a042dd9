//! The host's side of a store: what a guest's imports answer (the rows of the call, its log) and how much memory it is
//! granted. There is one for each instance, and it goes with it.

use std::sync::Arc;

use wasmtime::ResourceLimiter;
use wasmtime::component::{HasData, ResourceTable};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

use crate::batch::{Row, Rows};
use crate::complexity::MAX_CORE_INSTANCES;
use crate::plugin_log::PluginLog;
use crate::wit::latest::{log, record_context};

/// Elements of one table: far above what a language's function table needs.
const TABLE_ELEMENTS: usize = 100_000;

/// The data of a store.
pub struct State {
    wasi: WasiCtx,
    resources: ResourceTable,
    pub(super) limiter: Limiter,
    pub(super) log: PluginLog,
    /// The rows of the running call; `None` between calls.
    pub(super) rows: Option<Arc<Rows>>,
}

impl State {
    /// For an instance with that log; `memory` is its limit, bytes.
    pub(super) fn new(log: PluginLog, memory: usize) -> Self {
        let wasi = WasiCtx::builder().stdout(log.clone()).stderr(log.clone()).insecure_random_seed(0).build();
        let limiter = Limiter { memory, used: 0, denied: false };
        Self { wasi, resources: ResourceTable::new(), limiter, log, rows: None }
    }

    fn row(&self, row: u32) -> wasmtime::Result<(&Rows, &Row)> {
        let rows =
            self.rows.as_deref().ok_or_else(|| wasmtime::format_err!("record-context was asked outside of a call"))?;
        let found = rows.get(row as usize).ok_or_else(|| {
            wasmtime::format_err!("record-context was asked for row {row}, which this batch does not have")
        })?;
        Ok((rows, found))
    }
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.resources }
    }
}

impl HasData for State {
    type Data<'a> = &'a mut State;
}

impl log::Host for State {
    fn log(&mut self, level: log::Level, message: String) -> wasmtime::Result<()> {
        self.log.line(level, &message);
        Ok(())
    }
}

impl record_context::Host for State {
    fn key(&mut self, row: u32) -> wasmtime::Result<Option<Vec<u8>>> {
        let (rows, row) = self.row(row)?;
        Ok(rows.key(row).map(<[u8]>::to_vec))
    }

    fn header(&mut self, row: u32, name: String) -> wasmtime::Result<Option<Vec<u8>>> {
        let (_, row) = self.row(row)?;
        let headers = row.headers.iter().flat_map(|headers| headers.iter());
        Ok(headers.rev().find(|(header, _)| *header == name).and_then(|(_, value)| value.clone()))
    }

    fn timestamp(&mut self, row: u32) -> wasmtime::Result<Option<i64>> {
        Ok(self.row(row)?.1.timestamp)
    }

    fn origin(&mut self, row: u32) -> wasmtime::Result<record_context::Position> {
        let (rows, row) = self.row(row)?;
        let origin = row.origin;
        Ok(record_context::Position {
            topic: rows.topic(origin).to_owned(),
            partition: origin.partition,
            offset: origin.offset,
        })
    }

    fn is_null(&mut self, row: u32) -> wasmtime::Result<bool> {
        Ok(self.row(row)?.1.null)
    }
}

/// Grants memory up to the limit.
pub(super) struct Limiter {
    /// The limit and what is granted so far, bytes.
    memory: usize,
    used: usize,
    /// The last request for memory was refused: a trap that follows is reported as one of memory.
    pub(super) denied: bool,
}

impl ResourceLimiter for Limiter {
    fn memory_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        let used = self.used.saturating_add(desired.saturating_sub(current));
        self.denied = used > self.memory;
        if !self.denied {
            self.used = used;
        }
        Ok(!self.denied)
    }

    fn table_growing(&mut self, _current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        Ok(desired <= TABLE_ELEMENTS)
    }

    fn instances(&self) -> usize {
        MAX_CORE_INSTANCES as usize
    }

    fn tables(&self) -> usize {
        64
    }

    fn memories(&self) -> usize {
        4
    }
}
