//! Why a command failed, and the exit code that says so.

use std::path::PathBuf;
use std::process::ExitCode;

use tiercast::config::Problem;

/// Why a command failed; displayed on stderr as it is.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The configuration has problems. Exit code 2.
    #[error("{}", .0.iter().map(Problem::to_string).collect::<Vec<_>>().join("\n"))]
    Problems(Vec<Problem>),
    /// The file named on the command line cannot be read. Exit code 2.
    #[error("cannot read {}: {error}", path.display())]
    Unreadable { path: PathBuf, error: std::io::Error },
    /// A second signal came while the server was stopping. Exit code 1.
    #[error("stopped at once by a second signal")]
    Impatient,
    /// Anything else. Exit code 1.
    #[error("{0:#}")]
    Other(#[from] anyhow::Error),
}

impl Failure {
    pub(crate) fn exit_code(&self) -> ExitCode {
        match self {
            Self::Problems(_) | Self::Unreadable { .. } => ExitCode::from(2),
            Self::Impatient | Self::Other(_) => ExitCode::FAILURE,
        }
    }
}
