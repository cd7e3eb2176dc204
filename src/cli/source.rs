//! Where a command finds its configuration: a file, and the environment of the process.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use tiercast::auth::key_faults;
use tiercast::config::{self, Config, Source};
use tiercast::register;
use tiercast::server;

use super::Failure;

const DEFAULT_FILE: &str = "config.toml";

/// The arguments of every command that reads the configuration.
#[derive(Debug, clap::Args)]
pub(crate) struct FileArgs {
    /// Configuration file [default: config.toml, if there is one]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl FileArgs {
    /// A file that is named elsewhere.
    pub(crate) fn of(path: PathBuf) -> Self {
        Self { config: Some(path) }
    }

    /// Reads the file and the environment.
    ///
    /// # Errors
    /// If the file that was named, or the default one that exists, cannot be read.
    pub(crate) fn source(&self) -> Result<Source, Failure> {
        let source = Source::default().environment(environment());
        let path = self.path();
        match std::fs::read_to_string(path) {
            Ok(text) => Ok(source.file(path.display().to_string(), text)),
            Err(error) if self.config.is_none() && error.kind() == ErrorKind::NotFound => Ok(source),
            Err(error) => Err(Failure::Unreadable { path: path.to_owned(), error }),
        }
    }

    /// Makes a configuration of what was read; the files that it names are beside its own file.
    ///
    /// # Errors
    /// Everything that is wrong with it, and with the files that it names.
    pub(crate) fn load(&self, source: Source) -> Result<Config, Failure> {
        // Before anything is opened that a server would have to close again.
        let check = |config: &Config| {
            let config = self.placed(config.clone());
            let file = Some(&config.doors.gym.members_file).filter(|file| !file.is_empty());
            let members = file.and_then(|file| register::read_members(Path::new(file)).err());
            let members = members.map(|fault| ("doors.gym.members_file", fault.to_string()));
            let tls = &config.server.tls;
            let both = tls.is_on() && !tls.key_file.is_empty();
            let tls = both.then(|| server::check_certificates(tls).err()).flatten();
            let keys = key_faults(&config.auth.jwt).into_iter().map(|fault| (fault.key, fault.why));
            members.into_iter().chain(tls.map(|unusable| (unusable.key, unusable.message))).chain(keys).collect()
        };
        config::load_with(source, check).map(|config| self.placed(config)).map_err(Failure::Problems)
    }

    /// The same with the paths of its files as they are seen from here.
    fn placed(&self, mut config: Config) -> Config {
        let (jwt, tls) = (&mut config.auth.jwt, &mut config.server.tls);
        let files = [
            &mut config.log.path,
            &mut config.doors.gym.members_file,
            &mut jwt.public_key_file,
            &mut jwt.jwks_file,
            &mut tls.cert_file,
            &mut tls.key_file,
            &mut config.cluster.redis_ca_file,
        ];
        let folder = self.path().parent().unwrap_or(Path::new(""));
        for file in files.into_iter().filter(|file| !file.is_empty()) {
            *file = folder.join(&*file).to_string_lossy().into_owned();
        }
        config
    }

    /// The file that is read, if it exists.
    pub(crate) fn path(&self) -> &Path {
        self.config.as_deref().unwrap_or(Path::new(DEFAULT_FILE))
    }
}

/// The environment, where a text that is not Unicode is told as what it looks like instead of ending the program.
fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os().map(|(name, text)| (name.to_string_lossy().into_owned(), text.to_string_lossy().into_owned()))
}
