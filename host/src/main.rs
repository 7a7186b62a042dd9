//! The `sandpiper` binary.

/// For the C side too: librdkafka allocates several times a record.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> std::process::ExitCode {
    sandpiper::cli::main()
}
