//! `tiercast serve`: read the configuration, listen, serve, stop when told.

use std::io::{ErrorKind, IsTerminal};

use anyhow::{Context, anyhow};
use listenfd::ListenFd;
use tiercast::auth::AUDIT;
use tiercast::config::{Config, Logging, LoggingFormat, Source};
use tiercast::server::Server;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::EnvFilter;

use super::Failure;
use super::source::FileArgs;

/// Arguments of `serve`; what they set wins over the file and the environment.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    file: FileArgs,
    /// Address to listen on
    #[arg(long)]
    host: Option<String>,
    /// Port to listen on; 0 picks a free one
    #[arg(long)]
    port: Option<u16>,
    /// Serve the demo dashboard at / with data that is made up
    #[arg(long)]
    demo: bool,
    /// Least important level that is logged, or a filter such as info,tiercast=debug
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<String>,
}

/// Serves until a signal says stop.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let source = source(args)?;
    let strangers = source.strangers();
    let config = args.file.load(source)?;
    install_logging(&config.logging)?;
    for (name, meant) in strangers {
        tracing::warn!("the variable {name} sets nothing; keys are set by variables such as {meant}");
    }
    Runtime::new().context("cannot start the runtime")?.block_on(serve(config))
}

async fn serve(config: Config) -> Result<(), Failure> {
    // Before anything is served, so that no signal finds the default handler, which would just end the process.
    let mut signals = Signals::listen()?;
    let drains = config.server.drain_ms > 0 || config.server.drain_notice_ms > 0;
    let (demo, scheme) = (config.doors.demo.enabled, if config.server.tls.is_on() { "https" } else { "http" });
    let listener = bind(&config).await?;
    let address = listener.local_addr().context("the listener has no address")?;
    let server = Server::start(config, listener).await.context("cannot start")?;
    tracing::info!(url = %format_args!("{scheme}://{address}"), "listening");
    if demo {
        tracing::info!(url = %format_args!("{scheme}://{address}/"), "the demo dashboard is open");
    }

    signals.end(&server, drains).await;
    tracing::info!("stopping; another signal stops at once");
    tokio::select! {
        () = server.stop() => {}
        () = signals.next() => return Err(Failure::Impatient),
    }
    tracing::info!("stopped");
    Ok(())
}

fn source(args: &Args) -> Result<Source, Failure> {
    let mut source = args.file.source()?;
    if let Some(host) = &args.host {
        source = source.flag("--host", "server.host", host.as_str());
    }
    if let Some(port) = args.port {
        source = source.flag("--port", "server.port", i64::from(port));
    }
    if args.demo {
        source = source.flag("--demo", "doors.demo.enabled", true);
    }
    if let Some(level) = &args.log_level {
        source = source.flag("--log-level", "logging.level", level.as_str());
    }
    Ok(source)
}

/// Sends log lines to stderr, in the shape that `[logging]` asks for.
fn install_logging(logging: &Logging) -> Result<(), Failure> {
    if !logging.enable_logging {
        return Ok(());
    }
    let filter = EnvFilter::try_new(&logging.level).context("logging.level is no filter")?;
    let audit = if logging.audit { LevelFilter::INFO } else { LevelFilter::OFF };
    let audit = format!("{AUDIT}={audit}").parse().context("the audit log has no target")?;
    let filter = filter.add_directive(audit);
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // A line that cannot be written would be told on the same stderr, which panics when nobody reads it any more.
    let lines = lines.log_internal_errors(false);
    match logging.format {
        LoggingFormat::Text => lines.with_ansi(std::io::stderr().is_terminal()).init(),
        LoggingFormat::Json => lines.json().init(),
    }
    Ok(())
}

/// The socket that whoever started the process has handed over, as systemd does, or one of its own. With one that is
/// handed over, clients that come while a server is replaced by the next wait for that.
async fn bind(config: &Config) -> Result<TcpListener, Failure> {
    let handed_over =
        ListenFd::from_env().take_tcp_listener(0).context("the socket in LISTEN_FDS is none to listen on")?;
    if let Some(listener) = handed_over {
        listener.set_nonblocking(true).context("the socket in LISTEN_FDS cannot be used")?;
        return Ok(TcpListener::from_std(listener).context("the socket in LISTEN_FDS cannot be used")?);
    }
    let (host, port) = (config.server.host.as_str(), config.server.port);
    TcpListener::bind((host, port)).await.map_err(|error| {
        let advice = match error.kind() {
            ErrorKind::AddrInUse => "; another program listens there, so stop it or choose another --port",
            ErrorKind::AddrNotAvailable => "; this machine does not have that address, so choose another --host",
            ErrorKind::PermissionDenied => "; choose a --port of 1024 or more",
            _ => "",
        };
        Failure::Other(anyhow!("cannot listen on {host} port {port}: {error}{advice}"))
    })
}

/// The signals that mean stop.
#[cfg(unix)]
struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
    drain: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn listen() -> Result<Self, Failure> {
        use tokio::signal::unix::{SignalKind, signal};
        let listen = |kind| signal(kind).context("cannot listen for signals");
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            drain: listen(SignalKind::user_defined1())?,
        })
    }

    /// Waits until the server is to stop. Whoever wants it to drain first asks once; an interrupt, or whoever asks
    /// twice, does not wait for that.
    async fn end(&mut self, server: &Server, drains: bool) {
        let mut asked = !drains;
        loop {
            tokio::select! {
                _ = self.interrupt.recv() => return,
                _ = self.terminate.recv() => {
                    if std::mem::replace(&mut asked, true) {
                        return;
                    }
                    tracing::info!("draining first; another SIGTERM does not wait for that");
                }
                _ = self.drain.recv() => {}
                () = server.drained() => return,
            }
            server.drain();
        }
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// The signals that mean stop.
#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    fn listen() -> Result<Self, Failure> {
        Ok(Self)
    }

    async fn end(&mut self, server: &Server, _: bool) {
        tokio::select! {
            () = self.next() => {}
            () = server.drained() => {}
        }
    }

    async fn next(&mut self) {
        // Without a handler there is no signal either, and the server runs until it is ended from outside.
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
