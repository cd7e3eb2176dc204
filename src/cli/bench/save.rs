//! Reports as files, for programs.

use std::{fs, path::Path};

use anyhow::{Context, Result};
use serde::Serialize;

/// Writes a report as JSON.
///
/// # Errors
/// If the file cannot be written.
pub(super) fn save(report: &impl Serialize, path: &Path) -> Result<()> {
    let json = serde_json::to_vec_pretty(report)?;
    fs::write(path, json).with_context(|| format!("cannot write {}", path.display()))
}
