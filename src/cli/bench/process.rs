//! CPU time and memory of a process, as the operating system counts them.

use std::{fs, time::Duration};

use anyhow::{Context, Result, bail, ensure};

/// `USER_HZ`, which is 100 on every architecture that Linux has in common use.
const TICKS_PER_SECOND: u64 = 100;
/// Files that a run needs beside its clients' sockets.
const SPARE_FILES: u64 = 64;

/// A running process, or the tool itself.
#[derive(Debug, Clone)]
pub(super) struct Process(String);

impl Process {
    /// The process with that id.
    ///
    /// # Errors
    /// If there is none, or the system has no `/proc`.
    pub(super) fn with_pid(pid: u32) -> Result<Self> {
        let process = Self(pid.to_string());
        process.cpu().with_context(|| format!("--pid: cannot read process {pid}"))?;
        Ok(process)
    }

    /// The tool itself.
    pub(super) fn own() -> Self {
        Self("self".to_owned())
    }

    /// User and system time of all its threads so far, to the hundredth of a second.
    pub(super) fn cpu(&self) -> Result<Duration> {
        let stat = self.read("stat")?;
        // The name, second of the fields, is in parentheses and may contain both blanks and parentheses.
        let (_, fields) = stat.rsplit_once(')').context("unexpected form of /proc/<pid>/stat")?;
        let ticks: Vec<u64> =
            fields.split_whitespace().skip(11).take(2).filter_map(|field| field.parse().ok()).collect();
        ensure!(ticks.len() == 2, "unexpected form of /proc/<pid>/stat");
        Ok(from_ticks(ticks.iter().sum()))
    }

    /// CPU time of the whole machine so far, what a hypervisor took away included.
    pub(super) fn all_cpu() -> Result<Duration> {
        let stat = fs::read_to_string("/proc/stat").context("cannot read /proc/stat")?;
        let line = stat.lines().next().unwrap_or_default();
        let ticks: Vec<u64> = line.split_whitespace().skip(1).filter_map(|field| field.parse().ok()).collect();
        // user, nice, system, idle, iowait, irq, softirq, steal; what follows is contained in the first two.
        let [user, nice, system, _idle, _iowait, irq, softirq, steal, ..] = ticks[..] else {
            bail!("unexpected form of /proc/stat");
        };
        Ok(from_ticks(user + nice + system + irq + softirq + steal))
    }

    /// Resident memory in kB.
    pub(super) fn rss_kb(&self) -> Result<u64> {
        let status = self.read("status")?;
        number_after(&status, "VmRSS:").context("no VmRSS in /proc/<pid>/status")
    }

    /// How many files it has open.
    pub(super) fn open_files(&self) -> Result<u64> {
        let path = format!("/proc/{}/fd", self.0);
        Ok(fs::read_dir(&path).with_context(|| format!("cannot read {path}"))?.count() as u64)
    }

    /// How many threads it has.
    pub(super) fn threads(&self) -> Result<u64> {
        number_after(&self.read("status")?, "Threads:").context("no Threads in /proc/<pid>/status")
    }

    /// How many files it may have open.
    pub(super) fn open_files_limit(&self) -> Option<u64> {
        number_after(&self.read("limits").ok()?, "Max open files")
    }

    fn read(&self, file: &str) -> Result<String> {
        let path = format!("/proc/{}/{file}", self.0);
        fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))
    }
}

/// Refuses a run whose clients, with so many connections each, are more than the system lets the tool open.
///
/// # Errors
/// If the limit is too low.
pub(super) fn ensure_open_files(clients: usize, connections_each: u64) -> Result<()> {
    let needed = clients as u64 * connections_each + SPARE_FILES;
    let limit = Process::own().open_files_limit().unwrap_or(u64::MAX);
    ensure!(
        limit >= needed,
        "{clients} clients need {needed} open files and the limit is {limit}: raise it with `ulimit -n {needed}`, \
         for the server as well"
    );
    Ok(())
}

fn from_ticks(ticks: u64) -> Duration {
    Duration::from_millis(ticks * 1_000 / TICKS_PER_SECOND)
}

fn number_after(text: &str, label: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(label))?.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tool_can_read_itself() {
        let own = Process::own();
        assert!(own.rss_kb().unwrap() > 100);
        assert!(own.cpu().unwrap() <= Process::all_cpu().unwrap());
        assert!(own.open_files_limit().unwrap() > own.open_files().unwrap());
        assert!(own.threads().unwrap() > 0);
    }
}
