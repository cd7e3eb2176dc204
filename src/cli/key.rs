//! `tiercast key new`: a fresh key of the HTTP API, and the block of the configuration that lets it in.

use std::io::Write as _;

use anyhow::{Context, anyhow};
use clap::Subcommand;
use serde::Deserialize;
use serde::de::IntoDeserializer;
use serde::de::value::Error as ValueError;
use tiercast::auth::hash_key;
use tiercast::config::Right;
use tiercast::rooms::Id;

use super::Failure;

/// Arguments of `key`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: KeyCommand,
}

/// What can be done with keys.
#[derive(Debug, Subcommand)]
enum KeyCommand {
    /// Print a fresh key, once, and the block to paste into config.toml.
    New(NewArgs),
}

/// Arguments of `key new`.
#[derive(Debug, clap::Args)]
struct NewArgs {
    /// Name of the key in log lines
    #[arg(long, value_parser = name)]
    name: String,
    /// What the key may do: publish, read or admin; may be repeated
    #[arg(long = "right", value_name = "RIGHT", value_parser = right, default_value = "publish")]
    rights: Vec<Right>,
    /// Organization the key may touch, instead of all; may be repeated
    #[arg(long = "organization", value_name = "ORG", value_parser = organization)]
    organizations: Vec<String>,
}

/// Prints a fresh key and its block.
pub(crate) fn run(Args { command: KeyCommand::New(args) }: &Args) -> Result<(), Failure> {
    let key = fresh_key()?;
    let block = block(&key, args);
    let text = format!("{key}\n\n# The key is shown only this once. Paste this into config.toml:\n{block}");
    std::io::stdout().write_all(text.as_bytes()).context("cannot write to stdout")?;
    Ok(())
}

/// 258 random bits, in letters that need no quoting anywhere.
pub(super) fn fresh_key() -> Result<String, Failure> {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut random = [0_u8; 43];
    getrandom::fill(&mut random).map_err(|error| anyhow!("the system gives no random bytes: {error}"))?;
    let letters = random.iter().map(|byte| char::from(LETTERS[usize::from(byte % 64)]));
    Ok("tc_".chars().chain(letters).collect())
}

fn block(key: &str, args: &NewArgs) -> String {
    let rights = args.rights.iter().map(|right| serde_json::to_string(right).expect("the name of a right is text"));
    let mut block = format!(
        "[[api.keys]]\nname = {}\nhash = \"{}\"\nrights = {}\n",
        toml_text(&args.name),
        hash_key(key),
        toml_list(rights)
    );
    if !args.organizations.is_empty() {
        let organizations = args.organizations.iter().map(|organization| toml_text(organization));
        block.push_str(&format!("organizations = {}\n", toml_list(organizations)));
    }
    block
}

fn toml_list(items: impl Iterator<Item = String>) -> String {
    format!("[{}]", items.collect::<Vec<_>>().join(", "))
}

/// A text in quotes; without control characters, JSON's quotes are TOML's.
fn toml_text(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn name(text: &str) -> Result<String, &'static str> {
    let is_fine = !text.trim().is_empty() && !text.chars().any(char::is_control);
    is_fine.then(|| text.to_owned()).ok_or("expected a name without control characters")
}

fn right(text: &str) -> Result<Right, ValueError> {
    Right::deserialize(text.into_deserializer())
}

fn organization(text: &str) -> Result<String, String> {
    Id::parse(text).map(|_| text.to_owned()).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tiercast::config::{self, Source};

    #[test]
    fn keys_are_long_and_never_the_same() {
        let (one, other) = (fresh_key().expect("a key"), fresh_key().expect("a key"));
        assert_ne!(one, other);
        assert_eq!(one.len(), 46);
    }

    #[test]
    fn the_block_is_a_configuration() {
        let args = NewArgs {
            name: "the \"back\\end\" é".to_owned(),
            rights: vec![Right::Publish, Right::Read],
            organizations: vec!["org-1".to_owned()],
        };
        let text = block("tc_x", &args);
        let config = config::load(Source::default().file("config.toml", text)).expect("a configuration");
        let key = &config.api.keys[0];
        assert_eq!((&key.name, &key.rights), (&args.name, &args.rights));
        assert_eq!(key.organizations.as_deref(), Some(args.organizations.as_slice()));
        assert_eq!(key.hash, hash_key("tc_x"));
    }
}
