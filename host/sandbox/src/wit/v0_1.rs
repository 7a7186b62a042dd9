//! Version 0.1 of the WIT package as Rust.
//!
//! The types are owned, so that a batch is laid out once as the type that the call takes, and a parser's matrix goes to
//! the classifier as it is.

pub mod parser {
    wasmtime::component::bindgen!({
        path: "../../wit",
        world: "parser-plugin",
        imports: { default: trappable },
    });
}

pub mod classifier {
    wasmtime::component::bindgen!({
        path: "../../wit",
        world: "classifier-plugin",
        imports: { default: trappable },
        with: {
            "sandpiper:plugin/types": super::parser::sandpiper::plugin::types,
            "sandpiper:plugin/log": super::parser::sandpiper::plugin::log,
        },
    });
}

pub mod learner {
    wasmtime::component::bindgen!({
        path: "../../wit",
        world: "learner-plugin",
        imports: { default: trappable },
        with: {
            "sandpiper:plugin/types": super::parser::sandpiper::plugin::types,
            "sandpiper:plugin/log": super::parser::sandpiper::plugin::log,
        },
    });
}

pub mod scorer {
    wasmtime::component::bindgen!({
        path: "../../wit",
        world: "scorer-plugin",
        imports: { default: trappable },
        with: {
            "sandpiper:plugin/log": super::parser::sandpiper::plugin::log,
        },
    });
}

pub mod transform {
    wasmtime::component::bindgen!({
        path: "../../wit",
        world: "transform-plugin",
        imports: { default: trappable },
        with: {
            "sandpiper:plugin/types": super::parser::sandpiper::plugin::types,
            "sandpiper:plugin/log": super::parser::sandpiper::plugin::log,
            "sandpiper:plugin/record-context": super::parser::sandpiper::plugin::record_context,
        },
    });
}

pub use classifier::exports::sandpiper::plugin::classifier::Predictions;
pub use parser::exports::sandpiper::plugin::parser::Parsed;
pub use parser::sandpiper::plugin::types::{Column, Kind, Matrix, RawBatch, Rejection, Signature};
pub use parser::sandpiper::plugin::{log, record_context};
pub use scorer::exports::sandpiper::plugin::scorer::{Judgement, Outcome};
pub use transform::exports::sandpiper::plugin::transform::{Emitted, EmittedKey, Transformed};

/// The WIT package, and its version, that this host implements.
pub const PACKAGE: &str = "sandpiper:plugin";
pub const VERSION: &str = "0.1.0";
