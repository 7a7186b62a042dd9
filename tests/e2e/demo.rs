//! The demonstration: what someone sees first.

use crate::support::daemon::{Printed, sandpiper};
use crate::support::scene::Scene;
use anyhow::Result;

crate::tests![the_demo_needs_nothing_installed, the_demo_runs_on_a_real_broker];

fn the_demo_needs_nothing_installed(_: &Scene) -> Result<()> {
    let printed = Printed::of(sandpiper().args(["demo", "-o", "json"]))?;
    assert!(printed.json()?.is_object(), "{printed:?}");
    Ok(())
}

fn the_demo_runs_on_a_real_broker(scene: &Scene) -> Result<()> {
    let printed = Printed::of(sandpiper().args(["demo", "-o", "json", "--kafka", &scene.bootstrap()]))?;
    assert!(printed.json()?.is_object(), "{printed:?}");
    Ok(())
}
