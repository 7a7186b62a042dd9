//! Generated from `wit/`: one module a world, all sharing [`crate::types`] and the imports of [`host`].
//!
//! The description of a world's exports travels with its export macro, not with this crate, so a
//! plugin declares only what it exports.

/// What a plugin may ask of the host.
pub mod host {
    wit_bindgen::generate!({
        inline: "
            package sandpiper:sdk;
            world host {
                import sandpiper:plugin/record-context@0.1.0;
                import sandpiper:plugin/log@0.1.0;
            }
        ",
        path: "../../wit",
        generate_all,
        type_section_suffix: "host",
    });
}

pub mod parser {
    wit_bindgen::generate!({
        world: "parser-plugin",
        path: "../../wit",
        with: {
            "sandpiper:plugin/types@0.1.0": crate::types,
            "sandpiper:plugin/record-context@0.1.0": crate::bindings::host::sandpiper::plugin::record_context,
            "sandpiper:plugin/log@0.1.0": crate::bindings::host::sandpiper::plugin::log,
        },
        pub_export_macro: true,
        type_section_suffix: "parser",
    });
}

pub mod classifier {
    wit_bindgen::generate!({
        world: "classifier-plugin",
        path: "../../wit",
        with: {
            "sandpiper:plugin/types@0.1.0": crate::types,
            "sandpiper:plugin/log@0.1.0": crate::bindings::host::sandpiper::plugin::log,
        },
        pub_export_macro: true,
        type_section_suffix: "classifier",
    });
}

/// The learner alone: a component that also classifies declares both worlds, and the linker merges
/// them into `learner-plugin`. Generated from that world, the classifier's macros would exist twice.
pub mod learner {
    wit_bindgen::generate!({
        inline: "
            package sandpiper:sdk-learner;
            world learner {
                import sandpiper:plugin/log@0.1.0;
                export sandpiper:plugin/learner@0.1.0;
            }
        ",
        path: "../../wit",
        with: {
            "sandpiper:plugin/types@0.1.0": crate::types,
            "sandpiper:plugin/log@0.1.0": crate::bindings::host::sandpiper::plugin::log,
        },
        generate_all,
        pub_export_macro: true,
        type_section_suffix: "learner",
    });
}

pub mod scorer {
    wit_bindgen::generate!({
        world: "scorer-plugin",
        path: "../../wit",
        with: {
            "sandpiper:plugin/log@0.1.0": crate::bindings::host::sandpiper::plugin::log,
        },
        pub_export_macro: true,
        type_section_suffix: "scorer",
    });
}

pub mod transform {
    wit_bindgen::generate!({
        world: "transform-plugin",
        path: "../../wit",
        with: {
            "sandpiper:plugin/types@0.1.0": crate::types,
            "sandpiper:plugin/record-context@0.1.0": crate::bindings::host::sandpiper::plugin::record_context,
            "sandpiper:plugin/log@0.1.0": crate::bindings::host::sandpiper::plugin::log,
        },
        pub_export_macro: true,
        type_section_suffix: "transform",
    });
}
