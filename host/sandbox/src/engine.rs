//! The one wasmtime engine: how code is compiled and cached, how instances are pooled, what a plugin may import, how a
//! running call is interrupted.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use sha2::{Digest as _, Sha256};
use wasmtime::component::{Component, Linker};
use wasmtime::{Config, InstanceAllocationStrategy, PoolingAllocationConfig};

use crate::Digest;
use crate::code_cache::CodeCache;
use crate::compiler::{self, Compiler};
use crate::complexity::MAX_CORE_INSTANCES;
use crate::state::State;
use crate::wit::latest;

/// How often the epoch advances: so often running guests check their deadline.
pub const TICK: Duration = Duration::from_millis(10);

/// Instances alive at once in this process: stages × workers, twice while a swap is staged.
const INSTANCES: u32 = 2_000;

/// Compiles components and instantiates them; cheap to clone, one for the process.
#[derive(Clone)]
pub struct Engine {
    pub(super) wasmtime: wasmtime::Engine,
    pub(super) linker: Arc<Linker<State>>,
    cache: Option<Arc<CodeCache>>,
    compiler: Compiler,
    _ticker: Arc<Ticker>,
}

impl Engine {
    /// `cache` is a directory of ours for compiled code, created with mode 0700. Where there is none, what another process
    /// compiled is kept as long as the engine.
    ///
    /// # Errors
    /// When another user could write the cache, or wasmtime refuses this machine.
    pub fn new(cache: Option<&Path>, compiler: Compiler) -> Result<Self> {
        let mut config = settings();
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool()));
        let wasmtime = wasmtime::Engine::new(&config).map_err(anyhow::Error::from)?;
        let linker = Arc::new(linker(&wasmtime)?);
        let cache = match (cache, &compiler) {
            (Some(path), _) => Some(CodeCache::open(path, fingerprint(&wasmtime))?),
            (None, Compiler::Process(_)) => Some(CodeCache::temporary(fingerprint(&wasmtime))?),
            (None, Compiler::InProcess) => None,
        };
        let ticker = Arc::new(Ticker::start(&wasmtime)?);
        Ok(Self { wasmtime, linker, cache: cache.map(Arc::new), compiler, _ticker: ticker })
    }

    /// Compiles a component, or loads its machine code from the cache.
    pub(super) fn compile(&self, bytes: &[u8], digest: Digest) -> Result<Component> {
        let Some(cache) = &self.cache else {
            return Component::from_binary(&self.wasmtime, bytes).map_err(compiler::invalid);
        };
        if let Some(path) = cache.find(digest) {
            match self.load(&path) {
                Ok(component) => return Ok(component),
                Err(error) => {
                    tracing::warn!(path = %path.display(), %error, "compiled code is unusable; compiling anew");
                    cache.remove(&path);
                }
            }
        }
        let path =
            cache.add(digest, |file, directory| self.compiler.compile(&self.wasmtime, bytes, file, directory))?;
        self.load(&path).inspect_err(|_| cache.remove(&path)).context("what was compiled cannot be loaded")
    }

    fn load(&self, path: &Path) -> Result<Component> {
        // SAFETY: the file stands in a directory that only we may write, on a path that only we and root may change (both
        // checked when the engine started); its content is what our compiler wrote, by the digest in its name.
        unsafe { Component::deserialize_file(&self.wasmtime, path) }.map_err(Into::into)
    }

    /// Removes compiled code of all components but those that are needed.
    ///
    /// # Errors
    /// When the cache cannot be read.
    pub fn evict_code(&self, is_needed: impl Fn(Digest) -> bool) -> Result<()> {
        self.cache.as_ref().map_or(Ok(()), |cache| cache.evict(is_needed))
    }
}

/// What machine code depends on: equal where it is made and where it is run.
pub(super) fn settings() -> Config {
    let mut config = Config::new();
    config.epoch_interruption(true).concurrency_support(false).wasm_component_model(true);
    config
}

fn pool() -> PoolingAllocationConfig {
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(INSTANCES)
        // These are counted, and cost nothing until they are used. Rust's components hold two or three core instances (the
        // module, its WASI shims), CPython's fourteen.
        .total_core_instances(INSTANCES * 32)
        .max_core_instances_per_component(MAX_CORE_INSTANCES)
        .total_memories(INSTANCES)
        .total_tables(INSTANCES * 4)
        .max_memories_per_component(4)
        .max_tables_per_component(16)
        // What a slot reserves of the address space. A store's own limit is lower, and is the one that holds.
        .max_memory_size(4 << 30)
        // Between two instances of a slot so much is zeroed in place rather than given back to the kernel.
        .linear_memory_keep_resident(256 << 10)
        .max_unused_warm_slots(64);
    pool
}

/// Everything that a plugin is granted: `stubs` has what it may import besides.
fn linker(engine: &wasmtime::Engine) -> Result<Linker<State>> {
    let mut linker = Linker::new(engine);
    wasmtime_wasi::p2::add_to_linker_sync(&mut linker)?;
    // Epochs interrupt only guest code: a guest that sleeps in the host would hold its worker beyond any deadline.
    linker.allow_shadowing(true);
    let mut clock = linker.instance("wasi:clocks/monotonic-clock@0.2.12")?;
    for sleep in ["subscribe-instant", "subscribe-duration"] {
        clock.func_new(sleep, |_, _, _, _| Err(wasmtime::Error::msg("a plugin cannot sleep")))?;
    }
    linker.allow_shadowing(false);
    latest::log::add_to_linker::<State, State>(&mut linker, |state| state)?;
    latest::record_context::add_to_linker::<State, State>(&mut linker, |state| state)?;
    Ok(linker)
}

/// Of the engine's settings, for names of files.
fn fingerprint(engine: &wasmtime::Engine) -> String {
    let mut settings = StableHasher(Sha256::new());
    std::hash::Hash::hash(&engine.precompile_compatibility_hash(), &mut settings);
    format!("{:x}", settings.0.finalize())
}

/// A hasher whose result is the same in every process, unlike the standard library's.
struct StableHasher(Sha256);

impl std::hash::Hasher for StableHasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        0
    }
}

/// Advances the epoch on its own thread until the engine is gone.
struct Ticker(Arc<AtomicBool>);

impl Ticker {
    fn start(engine: &wasmtime::Engine) -> Result<Self> {
        let stopped = Arc::new(AtomicBool::new(false));
        let (engine, flag) = (engine.weak(), stopped.clone());
        std::thread::Builder::new().name("epoch".into()).spawn(move || {
            while !flag.load(Ordering::Relaxed) {
                std::thread::sleep(TICK);
                let Some(engine) = engine.upgrade() else { return };
                engine.increment_epoch();
            }
        })?;
        Ok(Self(stopped))
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Seek as _, SeekFrom, Write as _};

    use super::*;

    #[test]
    fn a_compiler_without_a_pool_makes_the_code_of_an_engine_with_one() {
        let compiler = wasmtime::Engine::new(&settings()).unwrap();
        assert_eq!(fingerprint(&compiler), fingerprint(&Engine::new(None, Compiler::InProcess).unwrap().wasmtime));
    }

    /// As a power cut leaves a file whose length was written and whose content was not.
    #[test]
    fn code_with_64_kib_of_zeros_is_compiled_anew_at_the_next_start() {
        let directory = tempfile::tempdir().unwrap();
        let bytes = crate::stock::component("loss").unwrap();
        let cache = directory.path().join("code");
        let engine = || Engine::new(Some(&cache), Compiler::InProcess).unwrap();
        engine().compile(bytes, Digest::of(bytes)).unwrap();
        let code = || std::fs::read_dir(&cache).unwrap().next().unwrap().unwrap().path();
        let before = std::fs::read(code()).unwrap();
        let mut file = std::fs::OpenOptions::new().write(true).open(code()).unwrap();
        file.seek(SeekFrom::Start(64 << 10)).unwrap();
        file.write_all(&[0; 64 << 10]).unwrap();
        assert_ne!(std::fs::read(code()).unwrap(), before);
        engine().compile(bytes, Digest::of(bytes)).unwrap();
        assert_eq!(std::fs::read(code()).unwrap(), before);
    }
}
