//! The `sandpiper` binary.

/// For the C side too: librdkafka allocates several times a record.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// jemalloc's options. What a transaction used goes back to the system within half a second: by default it is kept for
/// ten, and every worker's and librdkafka thread's arena keeps its own (docs/benchmarks.md).
#[unsafe(export_name = "malloc_conf")]
static OPTIONS: Options = Options(c"dirty_decay_ms:500,muzzy_decay_ms:0".as_ptr());

/// A C string's address, as jemalloc reads it.
#[repr(transparent)]
struct Options(*const std::ffi::c_char);

// SAFETY: it points to a constant.
unsafe impl Sync for Options {}

fn main() -> std::process::ExitCode {
    sandpiper::cli::main()
}
