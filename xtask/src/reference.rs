//! `cargo xtask reference`: pages that are made of what they describe. Tests compare them.

use std::fs;

use anyhow::{Context as _, Result};

use crate::command::{capture, cargo, root};

/// Each page of `docs/reference`, and the package whose example `reference` prints it.
const PAGES: &[(&str, &str)] = &[
    ("commands.md", "rdd"),
    ("controllers.md", "rdd-controllers"),
];

/// Writes every page anew.
pub(crate) fn write() -> Result<()> {
    let folder = root().join("docs/reference");
    for (page, package) in PAGES {
        let text = capture(cargo().args([
            "run",
            "--quiet",
            "--package",
            package,
            "--example",
            "reference",
        ]))?;
        let file = folder.join(page);
        fs::write(&file, text + "\n")
            .with_context(|| format!("failed to write {}", file.display()))?;
        println!("wrote {}", file.display());
    }
    Ok(())
}
