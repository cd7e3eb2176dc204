//! What a run found out: as JSON for programs, as a few lines for people.

use std::io::Write;

use anyhow::Result;
use serde::Serialize;

use super::{
    args::{Form, Kind, LoadArgs, Transport},
    percentiles::Percentiles,
};

/// Cores used by others from which on a reader should be told.
const DISTURBED: f64 = 0.2;

/// Everything a run measured. Figures that were not asked for are absent.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Report {
    /// What was asked for.
    pub load: Load,
    /// How the clients connected.
    pub connect: Connect,
    /// What was published.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub publish: Option<Publish>,
    /// What was delivered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delivery: Option<Delivery>,
    /// The server's process.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server: Option<Server>,
    /// The load tool's own CPU time for each delivery, in microseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tool_cpu_us_per_delivery: Option<f64>,
    /// Cores that others than the server and the tool used while measuring: the more, the less a run can be believed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub other_cores: Option<f64>,
    /// What ended the first client whose connection ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_error: Option<String>,
}

/// The load, as it was asked for.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Load {
    /// Clients.
    pub clients: usize,
    /// Those that stopped reading.
    pub stalled: usize,
    /// What they spoke.
    pub client: Kind,
    /// Their transport.
    pub transport: Transport,
    /// Forms they asked for; plain clients ask for none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub form: Option<Form>,
    /// Whether they offered permessage-deflate.
    pub deflate: bool,
    /// Events published and measured.
    pub events: u64,
    /// Bytes of a payload.
    pub size: usize,
    /// Publishers.
    pub publishers: usize,
    /// Events a second; back to back if absent.
    pub rate: Option<f64>,
}

/// How the clients connected, authenticated and subscribed.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Connect {
    /// From the first to the last.
    pub seconds: f64,
    /// Time of one client.
    pub ms: Percentiles,
    /// Clients' events that the server did not answer until they were repeated.
    pub unanswered: u64,
}

/// What was published.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Publish {
    /// Events a second.
    pub per_second: f64,
    /// From an event to the answer to it.
    pub answer_ms: Percentiles,
    /// How late paced events were sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub late_ms: Option<Percentiles>,
}

/// What was delivered. A delivery is one event at one client, in one frame or in two.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Delivery {
    /// Deliveries that there should have been.
    pub expected: u64,
    /// Deliveries that there were.
    pub received: u64,
    /// Clients that did not get everything.
    pub clients_with_losses: u64,
    /// Clients that got something twice.
    pub clients_with_extras: u64,
    /// Clients whose connection ended.
    pub clients_ended: u64,
    /// Stalled clients that the server had cut by the end.
    pub stalled_cut: u64,
    /// From the first event sent to the last received.
    pub seconds: f64,
    /// Deliveries a second.
    pub per_second: f64,
    /// Bytes of a delivery, heads of the frames included.
    pub bytes_each: f64,
    /// From publishing to receiving.
    pub latency_ms: Percentiles,
}

/// What the operating system says about the server's process.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Server {
    /// CPU time of each delivery, in microseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_us_per_delivery: Option<f64>,
    /// CPU time of connecting one client, in milliseconds.
    pub connect_cpu_ms_each: f64,
    /// Memory before the first client.
    pub rss_before_kb: u64,
    /// Memory once all had connected, after `--idle` if that was given.
    pub rss_connected_kb: u64,
    /// Growth from one to the other for each client.
    pub rss_kb_per_connection: f64,
    /// Most memory seen from then on.
    pub rss_peak_kb: u64,
    /// Memory at the end, with all clients still connected.
    pub rss_after_kb: u64,
}

impl From<&LoadArgs> for Load {
    fn from(args: &LoadArgs) -> Self {
        Self {
            clients: args.clients,
            stalled: args.stalled,
            client: args.client,
            transport: args.transport,
            form: (args.client == Kind::Socketio).then_some(args.form),
            deflate: args.deflate,
            events: args.measured_events(),
            size: args.size,
            publishers: args.publishers,
            rate: args.rate,
        }
    }
}

impl Report {
    /// Writes the report for people.
    ///
    /// # Errors
    /// If `out` cannot be written to.
    pub(super) fn print(&self, out: &mut impl Write) -> Result<()> {
        self.print_connect(out)?;
        self.print_publish(out)?;
        self.print_delivery(out)?;
        self.print_server(out)?;
        if let Some(cpu) = self.tool_cpu_us_per_delivery {
            writeln!(out, "load tool    {cpu:.2} us CPU for each delivery")?;
        }
        if let Some(cores) = self.other_cores.filter(|cores| *cores > DISTURBED) {
            writeln!(out, "disturbed    other processes used {cores:.1} cores")?;
        }
        if let Some(error) = &self.first_error {
            writeln!(out, "first error  {error}")?;
        }
        Ok(())
    }

    fn print_connect(&self, out: &mut impl Write) -> Result<()> {
        let Connect { seconds, ms, unanswered } = &self.connect;
        let clients = self.load.clients;
        writeln!(
            out,
            "connected    {clients} clients in {seconds:.1} s; each in p50 {:.1} ms, p99 {:.1} ms",
            ms.p50, ms.p99
        )?;
        if *unanswered > 0 {
            writeln!(out, "unanswered   {unanswered} events of clients, until they were repeated")?;
        }
        Ok(())
    }

    fn print_publish(&self, out: &mut impl Write) -> Result<()> {
        let Some(publish) = &self.publish else { return Ok(()) };
        let Load { events, size, publishers, .. } = &self.load;
        let per_second = publish.per_second;
        writeln!(
            out,
            "published    {events} events of {size} B by {publishers}; {per_second:.0}/s; answered in p99 {:.2} ms",
            publish.answer_ms.p99
        )?;
        if let Some(late) = publish.late_ms.filter(|late| late.p99 > 5.0) {
            writeln!(out, "late         the tool sent them up to {:.1} ms late (p99 {:.1} ms)", late.max, late.p99)?;
        }
        Ok(())
    }

    fn print_delivery(&self, out: &mut impl Write) -> Result<()> {
        let Some(delivery) = &self.delivery else { return Ok(()) };
        let Delivery { expected, received, per_second, bytes_each, latency_ms, .. } = delivery;
        writeln!(out, "delivered    {received} of {expected}; {per_second:.0}/s; {bytes_each:.0} B each")?;
        let Percentiles { p50, p90, p99, p999, max } = latency_ms;
        writeln!(out, "latency ms   p50 {p50:.2}  p90 {p90:.2}  p99 {p99:.2}  p99.9 {p999:.2}  max {max:.2}")?;
        let Delivery { clients_with_losses, clients_with_extras, clients_ended, .. } = delivery;
        if clients_with_losses + clients_with_extras + clients_ended > 0 {
            writeln!(
                out,
                "faults       {clients_with_losses} clients missed something, {clients_with_extras} got something twice, {clients_ended} were disconnected"
            )?;
        }
        if self.load.stalled > 0 {
            writeln!(out, "stalled      {} of {} were cut by the server", delivery.stalled_cut, self.load.stalled)?;
        }
        Ok(())
    }

    fn print_server(&self, out: &mut impl Write) -> Result<()> {
        let Some(server) = &self.server else { return Ok(()) };
        if let Some(cpu) = server.cpu_us_per_delivery {
            writeln!(out, "server       {cpu:.2} us CPU for each delivery")?;
        }
        writeln!(
            out,
            "server       {:.3} ms CPU and {:.1} kB for each connection",
            server.connect_cpu_ms_each, server.rss_kb_per_connection
        )?;
        let Server { rss_before_kb, rss_connected_kb, rss_peak_kb, rss_after_kb, .. } = server;
        writeln!(
            out,
            "server kB    {rss_before_kb} at first, {rss_connected_kb} connected, {rss_peak_kb} at most, {rss_after_kb} at the end"
        )?;
        Ok(())
    }
}
