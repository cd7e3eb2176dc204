//! Embeds the official browser client, so that the server can serve it without files beside it.
//!
//! `make` installs it into `assets/client`. A plain `cargo build` works without
//! it: the list is then empty, and the door answers with a hint.

use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

/// What `make` installs into, beside its lock file.
const FOLDER: &str = "assets/client";

/// The client's builds, as its package names them.
const BUILDS: [&str; 4] = ["socket.io.js", "socket.io.min.js", "socket.io.esm.min.js", "socket.io.msgpack.min.js"];

fn main() -> Result<(), Box<dyn Error>> {
    // The whole folder and not the package in it: cargo takes a missing path for a changed one, every time.
    println!("cargo::rerun-if-changed={FOLDER}");
    println!("cargo::rerun-if-changed=build.rs");

    let root = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR")?);
    let package = root.join(FOLDER).join("node_modules/socket.io-client");
    let out = PathBuf::from(std::env::var("OUT_DIR")?).join("client_bundle.rs");
    fs::write(out, generated(&package)?)?;
    Ok(())
}

/// The source of `client_bundle.rs`.
fn generated(package: &Path) -> Result<String, Box<dyn Error>> {
    let version = installed_version(package)?;
    let mut source = format!(
        "/// Version of the embedded client.\nstatic VERSION: Option<&str> = {version:?};\n\n\
         /// Name and content of each embedded file.\nstatic FILES: &[(&str, &[u8])] = &[\n"
    );
    if version.is_some() {
        for name in BUILDS.iter().flat_map(|build| [build.to_string(), format!("{build}.map")]) {
            let path = package.join("dist").join(&name);
            if path.is_file() {
                writeln!(source, "    ({name:?}, include_bytes!({path:?})),")?;
            }
        }
    }
    source.push_str("];\n");
    Ok(source)
}

/// The `version` that the installed package states, or nothing where it is not installed.
fn installed_version(package: &Path) -> Result<Option<String>, Box<dyn Error>> {
    let manifest = package.join("package.json");
    if !manifest.is_file() {
        return Ok(None);
    }
    // A build dependency that parses JSON would be compiled for this one line.
    let text = fs::read_to_string(&manifest)?;
    let version = text
        .lines()
        .find_map(|line| line.trim().strip_prefix(r#""version": ""#))
        .and_then(|rest| rest.split('"').next())
        .ok_or("the installed socket.io-client states no version")?;
    Ok(Some(version.to_owned()))
}
