//! Builds the stock plugins for wasm32-wasip2 and embeds them, so that the daemon is one file.

use std::env;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const TARGET: &str = "wasm32-wasip2";
/// Stock plugins by name; each is package `sandpiper-NAME` in `plugins/NAME`.
const STOCK: [&str; 6] = ["csv", "json", "logistic", "tree", "loss", "route"];

fn main() -> Result<(), Box<dyn Error>> {
    let root = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?).join("../..");
    let out = PathBuf::from(env::var("OUT_DIR")?);
    for input in ["plugins", "wit", "Cargo.lock", ".cargo", "rust-toolchain.toml"] {
        println!("cargo::rerun-if-changed={}", root.join(input).display());
    }
    add_target()?;
    let built = build(&root, &out)?;
    let mut table = String::from("[\n");
    for name in STOCK {
        let embedded = out.join(format!("{name}.wasm"));
        fs::copy(built.join(format!("sandpiper_{name}.wasm")), &embedded)?;
        table.push_str(&format!("    ({name:?}, include_bytes!({embedded:?})),\n"));
    }
    table.push(']');
    fs::write(out.join("stock.rs"), table)?;
    Ok(())
}

/// A nested cargo with a target directory of its own: the outer one holds the lock of the usual one.
fn build(root: &Path, out: &Path) -> Result<PathBuf, Box<dyn Error>> {
    // OUT_DIR is TARGET_DIR/PROFILE/build/PACKAGE/out: one build of the plugins serves every profile.
    let target_dir = out.ancestors().nth(4).ok_or("OUT_DIR has no target directory above it")?.join("plugins");
    let mut cargo = tool("cargo")?;
    cargo.current_dir(root).args(["build", "--locked", "--profile", "plugin", "--target", TARGET]);
    cargo.arg("--target-dir").arg(&target_dir);
    for name in STOCK {
        cargo.args(["-p", &format!("sandpiper-{name}")]);
    }
    if !cargo.status()?.success() {
        return Err("the stock plugins did not build; the messages above say why".into());
    }
    Ok(target_dir.join(TARGET).join("plugin"))
}

fn add_target() -> Result<(), Box<dyn Error>> {
    let sysroot = tool("rustc")?.args(["--print", "sysroot"]).output()?;
    let sysroot = PathBuf::from(String::from_utf8(sysroot.stdout)?.trim());
    if sysroot.join("lib/rustlib").join(TARGET).exists() {
        return Ok(());
    }
    match command("rustup").args(["target", "add", TARGET]).status() {
        Ok(status) if status.success() => Ok(()),
        _ => {
            Err(format!("the target {TARGET} is missing and rustup could not add it; install it for this toolchain")
                .into())
        }
    }
}

/// Where rustup is installed, the plugins are built by the toolchain that rust-toolchain.toml names, even when another one
/// builds the host: the nightly toolchain of the fuzz targets need not have the wasm32-wasip2 target.
fn tool(name: &str) -> Result<Command, env::VarError> {
    let has_rustup = command("rustup").arg("--version").output().is_ok_and(|output| output.status.success());
    Ok(command(&if has_rustup { name.to_owned() } else { env::var(name.to_uppercase())? }))
}

/// A command without what the outer cargo set for the host: its flags, its wrappers (clippy's among them), its profile.
fn command(program: &str) -> Command {
    let mut command = Command::new(program);
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        let is_setting = ["CARGO_HOME", "CARGO_HTTP_CAINFO", "CARGO_NET_OFFLINE"].contains(&&*text)
            || text.starts_with("CARGO_REGISTRIES_")
            || text.starts_with("CARGO_HTTP_")
            || text.starts_with("CARGO_NET_")
            || text.starts_with("CARGO_SOURCE_");
        let is_cargos = ["CARGO", "RUSTFLAGS", "RUSTC", "RUSTDOC", "RUSTUP_TOOLCHAIN", "CLIPPY"]
            .iter()
            .any(|prefix| text.starts_with(prefix));
        let is_of_target = ["TARGET", "HOST", "PROFILE", "OPT_LEVEL", "DEBUG", "NUM_JOBS", "OUT_DIR", "CFLAGS", "CC"]
            .contains(&&*text);
        if (is_cargos && !is_setting) || is_of_target {
            command.env_remove(&name);
        }
    }
    command
}
