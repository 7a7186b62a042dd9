//! The one wasmtime engine: how code is compiled and cached, how instances are pooled, what a plugin may import, how a
//! running call is interrupted.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use sha2::{Digest as _, Sha256};
use wasmtime::component::{Component, Linker};
use wasmtime::{Config, InstanceAllocationStrategy, PoolingAllocationConfig};

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
    cache: Option<Arc<PathBuf>>,
    _ticker: Arc<Ticker>,
}

impl Engine {
    /// `cache` is a directory of ours for compiled code, created with mode 0700; `None` compiles anew each time.
    ///
    /// # Errors
    /// When the cache is readable or writable by others, or wasmtime refuses this machine.
    pub fn new(cache: Option<&Path>) -> Result<Self> {
        let mut pool = PoolingAllocationConfig::new();
        // Rust's components hold two or three core instances (the module, its WASI shims).
        pool.total_component_instances(INSTANCES)
            .total_core_instances(INSTANCES * 4)
            .total_memories(INSTANCES)
            .total_tables(INSTANCES * 4)
            .max_memories_per_component(4)
            .max_tables_per_component(16)
            // What a slot reserves of the address space. A store's own limit is lower, and is the one that holds.
            .max_memory_size(4 << 30)
            // Between two instances of a slot so much is zeroed in place rather than given back to the kernel.
            .linear_memory_keep_resident(256 << 10)
            .max_unused_warm_slots(64);
        let mut config = Config::new();
        config
            .epoch_interruption(true)
            .concurrency_support(false)
            .wasm_component_model(true)
            .allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
        let wasmtime = wasmtime::Engine::new(&config).map_err(anyhow::Error::from)?;
        let linker = Arc::new(linker(&wasmtime)?);
        let cache = cache.map(prepare_cache).transpose()?.map(Arc::new);
        let ticker = Arc::new(Ticker::start(&wasmtime)?);
        Ok(Self { wasmtime, linker, cache, _ticker: ticker })
    }

    /// Compiles a component, or loads its machine code from the cache.
    pub(super) fn compile(&self, bytes: &[u8]) -> Result<Component> {
        let Some(cache) = &self.cache else {
            return Component::from_binary(&self.wasmtime, bytes).map_err(Into::into);
        };
        let path = cache.join(self.cache_key(bytes));
        if path.exists() {
            // SAFETY: the file stands in a directory that only we may write (0700, checked when the engine
            // started), under a name that holds the digest of its source and the engine's settings.
            match unsafe { Component::deserialize_file(&self.wasmtime, &path) } {
                Ok(component) => return Ok(component),
                Err(error) => {
                    tracing::warn!(path = %path.display(), %error, "compiled code is unusable; compiling anew")
                }
            }
        }
        let code = self.wasmtime.precompile_component(bytes).map_err(anyhow::Error::from)?;
        if let Err(error) = write_to_cache(cache, &path, &code) {
            tracing::warn!(path = %path.display(), %error, "compiled code could not be cached");
        }
        // SAFETY: these bytes were made by this very engine a line above.
        unsafe { Component::deserialize(&self.wasmtime, &code) }.map_err(Into::into)
    }

    fn cache_key(&self, bytes: &[u8]) -> String {
        let mut settings = StableHasher(Sha256::new());
        std::hash::Hash::hash(&self.wasmtime.precompile_compatibility_hash(), &mut settings);
        let mut key = Sha256::new();
        key.update(settings.0.finalize());
        key.update(bytes);
        format!("{:x}.cwasm", key.finalize())
    }
}

/// Everything that a plugin may import. Sockets and HTTP are not among it: `plugin::is_granted` refuses them by name.
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

fn prepare_cache(path: &Path) -> Result<PathBuf> {
    use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .with_context(|| format!("creating the code cache {}", path.display()))?;
    let metadata = std::fs::symlink_metadata(path).with_context(|| format!("reading {}", path.display()))?;
    // SAFETY: geteuid has no preconditions.
    let user = unsafe { libc::geteuid() };
    ensure!(
        metadata.is_dir() && metadata.uid() == user && metadata.mode() & 0o077 == 0,
        "the code cache {} must be a directory of user {user} with mode 0700, since machine code is run from it; \
         correct it with `chmod 700`, or remove it",
        path.display()
    );
    Ok(path.to_owned())
}

fn write_to_cache(directory: &Path, path: &Path, code: &[u8]) -> Result<()> {
    use std::io::Write as _;
    let mut file = tempfile::NamedTempFile::new_in(directory)?;
    file.write_all(code)?;
    file.persist(path)?;
    Ok(())
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
