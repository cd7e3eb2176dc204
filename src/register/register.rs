//! The register itself: open check-ins and the figures of the day.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::change::{Change, Direction};
use super::member::{Member, MemberId};
use super::members::{self, MembersError};
use super::record::Record;
use super::saved::{self, Saved};
use crate::wire::{iso, now_ms, random_letters};

/// Open check-ins that are remembered.
const MAX_OPEN: usize = 10_000;

/// How long changes are gathered before they are written down.
const GATHER: Duration = Duration::from_millis(500);

const MINUTE_MS: i64 = 60_000;
const DAY_MS: i64 = 24 * 60 * MINUTE_MS;

/// How a register works.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// File with the members; none if nobody is known.
    pub members_file: Option<PathBuf>,
    /// Whether only members of the file may check in.
    pub refuses_unknown: bool,
    /// File in which the register outlives the process, if it does.
    pub saved_at: Option<PathBuf>,
}

/// Why a check-in or a check-out is refused, in the words that the frontends know.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The member, by name, is in.
    #[error("{0} is already checked in")]
    AlreadyIn(String),
    /// Nobody knows the member, and only members may check in.
    #[error("Member not found")]
    UnknownMember,
    /// There is no open check-in of that id.
    #[error("Check-in not found or already checked out")]
    NotIn,
}

/// The figures of the day; days are those of UTC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statistics {
    /// Members who are in.
    pub currently_in: usize,
    /// Check-ins of the day.
    pub today_total: u64,
    /// How long those who left today had stayed, on average, in minutes; 0 if nobody has left.
    pub average_stay_minutes: i64,
    /// When that was so, in milliseconds since the epoch.
    pub at_ms: i64,
}

impl Statistics {
    /// The payload of `initial_stats` and `check_in_stats`.
    pub fn json(&self) -> Value {
        json!({
            "currentlyIn": self.currently_in,
            "todayTotal": self.today_total,
            "averageStayMinutes": self.average_stay_minutes,
            "timestamp": iso(self.at_ms),
        })
    }
}

/// The register of one gym.
///
/// It remembers 10,000 open check-ins at most, and one of each member. When one more comes, the longest open one of
/// somebody who is in no file of members goes without a check-out, and only without such a one a member's: made-up
/// ids cannot push members out.
#[derive(Debug)]
pub struct Register {
    settings: Settings,
    members: HashMap<MemberId, Member>,
    limit: usize,
    state: Mutex<State>,
    /// Held while the file is written.
    writing: Mutex<()>,
    is_unsaved: AtomicBool,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// Open check-ins, the oldest first.
    open: BTreeMap<u64, Record>,
    /// Those of them whose members are in no file.
    strangers: BTreeSet<u64>,
    by_member: HashMap<MemberId, u64>,
    by_id: HashMap<String, u64>,
    next: u64,
    today: Today,
}

#[derive(Debug, Default, Clone, Copy)]
struct Today {
    /// Days since the epoch.
    day: i64,
    check_ins: u64,
    check_outs: u64,
    stayed_ms: i64,
}

impl Register {
    /// A register with what an earlier process has written down.
    ///
    /// # Errors
    /// If there is a file of members that cannot be read.
    pub fn open(settings: Settings) -> Result<Self, MembersError> {
        let members = settings.members_file.as_deref().map(members::read).transpose()?.unwrap_or_default();
        let saved = settings.saved_at.as_deref().map(saved::load).unwrap_or_default();
        let register = Self {
            settings,
            members,
            limit: MAX_OPEN,
            state: Mutex::default(),
            writing: Mutex::default(),
            is_unsaved: AtomicBool::new(false),
            changed: Notify::new(),
        };
        register.bring_back(saved);
        Ok(register)
    }

    /// A member comes in.
    ///
    /// # Errors
    /// If the member is in already, or nobody whom the register takes.
    pub fn check_in(
        &self,
        member: MemberId,
        location: Option<String>,
        notes: String,
        at_ms: i64,
    ) -> Result<Change, Refusal> {
        let member = match self.members.get(&member) {
            Some(known) => known.clone(),
            None if self.settings.refuses_unknown => return Err(Refusal::UnknownMember),
            None => Member::unknown(member),
        };
        let mut state = self.lock();
        if state.by_member.contains_key(&member.id) {
            return Err(Refusal::AlreadyIn(member.full_name));
        }
        let id = format!("chk_{at_ms}_{}", random_letters(9));
        let record = Record { id, member, in_at_ms: at_ms, out_at_ms: None, location, notes };
        state.today.begin(at_ms);
        state.today.check_ins += 1;
        self.add(&mut state, record.clone());
        let statistics = state.statistics(at_ms);
        drop(state);
        self.mark();
        Ok(Change { direction: Direction::In, record, statistics })
    }

    /// A member goes; notes replace those of the check-in.
    ///
    /// # Errors
    /// If there is no such open check-in.
    pub fn check_out(&self, id: &str, notes: Option<String>, at_ms: i64) -> Result<Change, Refusal> {
        let mut state = self.lock();
        let number = state.by_id.get(id).copied().ok_or(Refusal::NotIn)?;
        let mut record = state.remove(number).ok_or(Refusal::NotIn)?;
        record.out_at_ms = Some(at_ms.max(record.in_at_ms));
        if let Some(notes) = notes {
            record.notes = notes;
        }
        state.today.begin(at_ms);
        state.today.check_outs += 1;
        state.today.stayed_ms += (at_ms - record.in_at_ms).max(0);
        let statistics = state.statistics(at_ms);
        drop(state);
        self.mark();
        Ok(Change { direction: Direction::Out, record, statistics })
    }

    /// The figures as they are.
    pub fn statistics(&self, at_ms: i64) -> Statistics {
        let mut state = self.lock();
        state.today.begin(at_ms);
        state.statistics(at_ms)
    }

    /// Writes changes down, soon after they were made, until `stopping` is cancelled.
    pub async fn keep(self: Arc<Self>, tasks: TaskTracker, stopping: CancellationToken) {
        let soon = async {
            loop {
                self.changed.notified().await;
                tokio::time::sleep(GATHER).await;
                let register = self.clone();
                tasks.spawn_blocking(move || register.save()).await.ok();
            }
        };
        tokio::select! {
            () = soon => {}
            () = stopping.cancelled() => {}
        }
    }

    /// Writes down what has changed, if the register is to outlive the process.
    pub fn save(&self) {
        let Some(path) = &self.settings.saved_at else { return };
        // Whoever writes last writes the newest.
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.is_unsaved.swap(false, Ordering::SeqCst) {
            return;
        }
        // The disk can take its time, and who comes and goes must not wait for it.
        let saved = self.lock().saved();
        if let Err(error) = saved::write(path, &saved) {
            self.is_unsaved.store(true, Ordering::SeqCst);
            tracing::error!(%error, path = %path.display(), "the open check-ins are not written down");
        }
    }

    fn bring_back(&self, saved: Saved) {
        let mut state = self.lock();
        state.today = Today {
            day: saved.day,
            check_ins: saved.check_ins,
            check_outs: saved.check_outs,
            stayed_ms: saved.stayed_ms,
        };
        for record in saved.open {
            if !state.by_member.contains_key(&record.member.id) {
                self.add(&mut state, record);
            }
        }
        state.today.begin(now_ms());
    }

    fn add(&self, state: &mut State, record: Record) {
        if state.open.len() >= self.limit {
            let longest = state.strangers.first().or_else(|| state.open.keys().next()).copied();
            longest.and_then(|number| state.remove(number));
        }
        let number = state.next;
        state.next += 1;
        if !self.members.contains_key(&record.member.id) {
            state.strangers.insert(number);
        }
        state.by_member.insert(record.member.id.clone(), number);
        state.by_id.insert(record.id.clone(), number);
        state.open.insert(number, record);
    }

    fn mark(&self) {
        self.is_unsaved.store(true, Ordering::SeqCst);
        self.changed.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn remove(&mut self, number: u64) -> Option<Record> {
        let record = self.open.remove(&number)?;
        self.strangers.remove(&number);
        self.by_member.remove(&record.member.id);
        self.by_id.remove(&record.id);
        Some(record)
    }

    fn statistics(&self, at_ms: i64) -> Statistics {
        let Today { check_ins, check_outs, stayed_ms, .. } = self.today;
        let stayed = i64::try_from(check_outs).ok().filter(|count| *count > 0).map_or(0, |count| stayed_ms / count);
        Statistics {
            currently_in: self.open.len(),
            today_total: check_ins,
            average_stay_minutes: (stayed + MINUTE_MS / 2) / MINUTE_MS,
            at_ms,
        }
    }

    fn saved(&self) -> Saved {
        let Today { day, check_ins, check_outs, stayed_ms } = self.today;
        Saved { day, check_ins, check_outs, stayed_ms, open: self.open.values().cloned().collect() }
    }
}

impl Today {
    /// Begins anew if another day has come; a clock that was set back does not make one.
    fn begin(&mut self, at_ms: i64) {
        let day = at_ms.div_euclid(DAY_MS);
        if day > self.day {
            *self = Self { day, ..Self::default() };
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::process::Command;
    use std::sync::mpsc;
    use std::thread;

    use super::*;

    const NOON: i64 = 1_800_000_000_000 / DAY_MS * DAY_MS + DAY_MS / 2;

    fn id(value: impl Into<Value>) -> MemberId {
        MemberId::read(&value.into()).expect("an id")
    }

    fn register(settings: Settings) -> Register {
        Register::open(settings).expect("a register")
    }

    fn enter(register: &Register, member: impl Into<Value>, at_ms: i64) -> Result<Change, Refusal> {
        register.check_in(id(member), None, String::new(), at_ms)
    }

    fn with_members(folder: &tempfile::TempDir) -> Settings {
        let path = folder.path().join("members.json");
        fs::write(&path, r#"[{"id":7,"name":"Ann","email":"ann@x","membership_type":"vip"}]"#).expect("a file");
        Settings { members_file: Some(path), ..Settings::default() }
    }

    #[test]
    fn a_member_is_in_once_and_goes_once() {
        let folder = tempfile::tempdir().expect("a folder");
        let register = register(with_members(&folder));
        let came = register.check_in(id("7"), Some("Main".into()), "n".into(), NOON).expect("a check-in");
        let record = came.record.json();
        assert_eq!(record["member"]["id"], json!(7), "told as the file has it");
        assert_eq!((&record["status"], &record["check_out_time"]), (&json!("checked_in"), &Value::Null));
        assert_eq!((&record["location"], &record["notes"]), (&json!("Main"), &json!("n")));
        let refused = enter(&register, 7, NOON).expect_err("is in");
        assert_eq!(refused.to_string(), "Ann is already checked in");
        let went = register.check_out(&came.record.id, None, NOON + 90 * MINUTE_MS).expect("a check-out");
        assert_eq!(went.record.json()["status"], "checked_out");
        assert_eq!(went.record.json()["notes"], "n");
        assert_eq!(went.record.json()["check_out_time"], iso(NOON + 90 * MINUTE_MS));
        let refused = register.check_out(&came.record.id, None, NOON).expect_err("is out");
        assert_eq!(refused.to_string(), "Check-in not found or already checked out");
        assert!(enter(&register, 7, NOON).is_ok(), "comes again");
    }

    #[test]
    fn strangers_are_named_by_their_id_or_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let open = register(with_members(&folder));
        let record = enter(&open, 8, NOON).expect("a check-in").record.json();
        assert_eq!((&record["member"]["id"], &record["member"]["full_name"]), (&json!(8), &json!("8")));
        assert_eq!((&record["member"]["membership_type"], record.get("location")), (&json!(""), None));
        assert_eq!(enter(&open, "8", NOON).expect_err("is in").to_string(), "8 is already checked in");
        let closed = register(Settings { refuses_unknown: true, ..with_members(&folder) });
        assert_eq!(enter(&closed, 8, NOON).expect_err("a stranger").to_string(), "Member not found");
        assert!(enter(&closed, "7", NOON).is_ok());
    }

    #[test]
    fn figures_are_of_the_day_and_of_those_who_are_in() {
        let register = register(Settings::default());
        let first = enter(&register, 1, NOON).expect("a check-in").record.id;
        let second = enter(&register, 2, NOON).expect("a check-in").record.id;
        enter(&register, 3, NOON).expect("a check-in");
        register.check_out(&first, None, NOON + 30 * MINUTE_MS).expect("a check-out");
        let told = register.check_out(&second, None, NOON + 61 * MINUTE_MS).expect("a check-out").statistics;
        assert_eq!((told.currently_in, told.today_total, told.average_stay_minutes), (1, 3, 46));
        // A clock that is set back takes nothing away, and midnight in UTC begins anew.
        assert_eq!(register.statistics(NOON - DAY_MS).today_total, 3);
        let next = register.statistics(NOON + DAY_MS);
        assert_eq!((next.currently_in, next.today_total, next.average_stay_minutes), (1, 0, 0));
    }

    #[test]
    fn made_up_members_do_not_push_members_out() {
        let folder = tempfile::tempdir().expect("a folder");
        let register = Register { limit: 3, ..register(with_members(&folder)) };
        enter(&register, 7, NOON).expect("a check-in");
        let first = enter(&register, "a", NOON).expect("a check-in").record.id;
        let second = enter(&register, "b", NOON).expect("a check-in").record.id;
        assert_eq!(enter(&register, "c", NOON).expect("a check-in").statistics.currently_in, 3);
        assert_eq!(register.check_out(&first, None, NOON).expect_err("gone"), Refusal::NotIn);
        assert!(register.check_out(&second, None, NOON).is_ok());
        assert!(enter(&register, 7, NOON).is_err(), "still in");
        assert!(enter(&register, "a", NOON).is_ok(), "who was forgotten can come again");
    }

    #[test]
    fn every_listener_of_an_update_finds_its_shape() {
        let register = register(Settings::default());
        let came = enter(&register, 7, NOON).expect("a check-in");
        let [(name, update), (told, record), (figures, statistics)] = came.events();
        assert_eq!((name, told, figures), ("check_in_update", "member_checked_in", "check_in_stats"));
        assert_eq!(update["member"]["full_name"], "7");
        assert_eq!((&update["currentlyIn"], &update["todayTotal"]), (&json!(1), &json!(1)));
        assert_eq!((&update["type"], &update["checkIn"]["member"]["fullName"]), (&json!("check_in"), &json!("7")));
        assert_eq!(update["checkIn"]["checkOutTime"], Value::Null);
        assert_eq!(record, came.record.json());
        assert_eq!(statistics["averageStayMinutes"], 0);
        let went = register.check_out(&came.record.id, Some("bye".into()), NOON).expect("a check-out");
        let [(_, update), (told, record), _] = went.events();
        assert_eq!(
            (told, &update["type"], &record["notes"]),
            ("member_checked_out", &json!("check_out"), &json!("bye"))
        );
        assert_eq!(update["checkIn"]["checkOutTime"], iso(NOON));
    }

    #[test]
    fn who_is_in_stays_in_over_a_restart() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("deeper").join("check-ins.json");
        let settings = || Settings { saved_at: Some(path.clone()), ..Settings::default() };
        let at_ms = now_ms();
        let first = register(settings());
        first.save();
        assert!(!path.exists(), "nothing has changed");
        let open = enter(&first, 7, at_ms).expect("a check-in").record.id;
        let gone = enter(&first, "b", at_ms).expect("a check-in").record.id;
        first.check_out(&gone, None, at_ms).expect("a check-out");
        first.save();
        let second = register(settings());
        assert_eq!(second.statistics(at_ms), first.statistics(at_ms));
        assert_eq!(enter(&second, "7", at_ms).expect_err("is in"), Refusal::AlreadyIn("7".into()));
        let went = second.check_out(&open, None, at_ms).expect("a check-out");
        assert_eq!(went.record.json()["member"]["id"], json!(7));
    }

    #[test]
    fn a_slow_disk_keeps_nobody_waiting() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("check-ins.json");
        // A pipe stands in for the new file: it takes nothing more when it is full.
        let pipe = folder.path().join("check-ins.json.new");
        assert!(Command::new("mkfifo").arg(&pipe).status().expect("a pipe").success());
        let register = Arc::new(register(Settings { saved_at: Some(path), ..Settings::default() }));
        let notes = "x".repeat(1_000_000);
        register.check_in(id(1), None, notes, NOON).expect("a check-in");
        let saves = thread::spawn({
            let register = register.clone();
            move || register.save()
        });
        let mut reads = fs::File::open(&pipe).expect("a pipe that is written to");
        let (done, is_done) = mpsc::channel();
        let comes = thread::spawn(move || done.send(enter(&register, 2, NOON).is_ok()));
        let came = is_done.recv_timeout(Duration::from_secs(10));
        std::io::copy(&mut reads, &mut std::io::sink()).expect("all that is written");
        saves.join().expect("it ends");
        comes.join().expect("it ends").expect("it is awaited");
        assert_eq!(came, Ok(true));
    }

    #[test]
    fn a_file_that_cannot_be_read_is_kept_aside() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("check-ins.json");
        fs::write(&path, "{").expect("a file");
        let register = register(Settings { saved_at: Some(path), ..Settings::default() });
        assert_eq!(register.statistics(NOON).currently_in, 0);
        assert_eq!(fs::read_to_string(folder.path().join("check-ins.json.unreadable")).expect("a file"), "{");
    }
}
