//! The register on the disk: replaced as a whole, so that a crash leaves the old file or the new one.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::record::Record;

/// What is written down.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Saved {
    /// The day that the figures are of, in days since the epoch.
    pub(super) day: i64,
    pub(super) check_ins: u64,
    pub(super) check_outs: u64,
    pub(super) stayed_ms: i64,
    pub(super) open: Vec<Record>,
}

/// Writes a file that only this user may read.
pub(super) fn write(path: &Path, saved: &Saved) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    let new = beside(path, "new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    file.write_all(&serde_json::to_vec(saved)?)?;
    file.sync_all()?;
    fs::rename(&new, path)
}

/// What is in a file; nothing if there is none. One that cannot be read is kept aside, for whoever can.
pub(super) fn load(path: &Path) -> Saved {
    let read = match fs::read(path) {
        Ok(text) => serde_json::from_slice(&text).map_err(io::Error::other),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Saved::default(),
        Err(error) => Err(error),
    };
    read.unwrap_or_else(|error| {
        let aside = beside(path, "unreadable");
        tracing::error!(%error, path = %path.display(), aside = %aside.display(), "nobody is in: the open check-ins cannot be read");
        if let Err(error) = fs::rename(path, &aside) {
            tracing::error!(%error, path = %path.display(), "the file cannot be kept aside");
        }
        Saved::default()
    })
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(suffix);
    name.into()
}
