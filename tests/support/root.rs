//! Where the project is, whichever of its packages is tested.

use std::path::{Path, PathBuf};

/// The folder above the package that holds the WIT files too.
pub fn root() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.ancestors().find(|folder| folder.join("wit").is_dir()).unwrap_or(package).to_path_buf()
}
