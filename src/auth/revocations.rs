//! Revocations: tokens that hold no more, although their time is not over.
//!
//! One line of JSON a revocation, appended and synced before it counts as made;
//! the file is written anew at the start, without those that are forgotten.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError, RwLock};

use serde::{Deserialize, Serialize};

use super::identity::Identity;
use crate::rooms::Id;
use crate::wire::now_ms;

/// Most revocations that are remembered, of all organizations, and of one.
const MAX_REVOCATIONS: usize = 100_000;
const MAX_OF_ORGANIZATION: usize = 10_000;

/// What is revoked within an organization.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Revoked {
    /// Everything that was issued so far.
    Organization,
    /// Everything that was issued so far to this user.
    UserId(Id),
    /// The token with this id (`jti`), and those it is exchanged for.
    TokenId(String),
}

/// One revocation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revocation {
    /// The organization.
    pub organization_id: Id,
    /// What of it.
    pub revoked: Revoked,
    /// When, in milliseconds since the epoch.
    pub at_ms: i64,
}

impl Revocation {
    /// Whether it is about an identity, however that was established.
    pub fn is_about(&self, identity: &Identity) -> bool {
        let named = match &self.revoked {
            Revoked::Organization => true,
            Revoked::UserId(user) => *user == identity.user,
            Revoked::TokenId(id) => identity.proof.as_ref().is_some_and(|proof| proof.token_id.as_ref() == Some(id)),
        };
        named && self.organization_id == identity.organization
    }
}

/// The revocations of one server.
#[derive(Debug, Default)]
pub struct Revocations {
    kept_for_ms: i64,
    /// When each was made, by organization; the latest of its kind.
    made: RwLock<HashMap<Id, HashMap<Revoked, i64>>>,
    /// Held while a revocation is written.
    file: Mutex<Option<Lines>>,
}

/// A file that grows line by line.
#[derive(Debug)]
struct Lines {
    path: PathBuf,
    file: File,
}

impl Revocations {
    /// Those that an earlier process has made, if they are kept in a file; each is remembered for so long.
    ///
    /// # Errors
    /// If the file cannot be read, or not be written anew: whoever is in it would come in again.
    pub fn open(path: Option<&Path>, kept_for_ms: u64) -> io::Result<Self> {
        let kept_for_ms = i64::try_from(kept_for_ms).unwrap_or(i64::MAX);
        let revocations = Self { kept_for_ms, ..Self::default() };
        let Some(path) = path else { return Ok(revocations) };
        let named = |error: io::Error| {
            io::Error::new(error.kind(), format!("the revocations in {} cannot be used: {error}", path.display()))
        };
        let kept: Vec<_> =
            read(path).map_err(named)?.into_iter().filter(|made| revocations.holds(made.at_ms)).collect();
        for made in &kept {
            revocations.remember(made);
        }
        *revocations.file.lock().unwrap_or_else(PoisonError::into_inner) =
            Some(Lines::write(path, &kept).map_err(named)?);
        Ok(revocations)
    }

    /// Makes a revocation: it holds from now on, and is on the disk when this returns. It blocks for as long.
    ///
    /// # Errors
    /// If there are too many already, or it cannot be written; it holds for this process in the latter case.
    pub fn add(&self, revocation: &Revocation) -> io::Result<()> {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.has_room_for(revocation) {
            let why = "too many revocations are remembered; revoke the whole organization, or wait until some are over";
            return Err(io::Error::new(io::ErrorKind::QuotaExceeded, why));
        }
        self.remember(revocation);
        file.as_mut().map_or(Ok(()), |lines| lines.append(revocation))
    }

    /// Takes over a revocation that another node has made; false if it is known already, or over.
    pub fn learn(&self, revocation: &Revocation) -> bool {
        self.holds(revocation.at_ms) && self.remember(revocation)
    }

    /// All that hold, the latest of its kind each.
    pub fn all(&self) -> Vec<Revocation> {
        let made = self.made.read().unwrap_or_else(PoisonError::into_inner);
        let all = made.iter().flat_map(|(organization, of)| of.iter().map(move |of| (organization, of)));
        let all = all.map(|(organization_id, (revoked, at_ms))| Revocation {
            organization_id: organization_id.clone(),
            revoked: revoked.clone(),
            at_ms: *at_ms,
        });
        all.filter(|revocation| self.holds(revocation.at_ms)).collect()
    }

    /// Whether an identity was proven by a token that is revoked.
    pub fn refuse(&self, identity: &Identity) -> bool {
        let Some(proof) = &identity.proof else { return false };
        let made = self.made.read().unwrap_or_else(PoisonError::into_inner);
        let Some(of_organization) = made.get(&identity.organization) else { return false };
        // A token that does not say when it was issued is taken for an old one.
        let issued_at_ms = proof.issued_at_ms.unwrap_or(i64::MIN);
        let after = |revoked: &Revoked| of_organization.get(revoked).is_some_and(|at| issued_at_ms <= *at);
        after(&Revoked::Organization)
            || after(&Revoked::UserId(identity.user.clone()))
            || proof.token_id.as_ref().is_some_and(|id| of_organization.contains_key(&Revoked::TokenId(id.clone())))
    }

    fn holds(&self, at_ms: i64) -> bool {
        now_ms().saturating_sub(at_ms) < self.kept_for_ms
    }

    fn has_room_for(&self, revocation: &Revocation) -> bool {
        let mut made = self.made.write().unwrap_or_else(PoisonError::into_inner);
        let is_full = |made: &HashMap<Id, HashMap<Revoked, i64>>| {
            let of_organization = made.get(&revocation.organization_id).map_or(0, HashMap::len);
            of_organization >= MAX_OF_ORGANIZATION || made.values().map(HashMap::len).sum::<usize>() >= MAX_REVOCATIONS
        };
        let is_known = made.get(&revocation.organization_id).is_some_and(|of| of.contains_key(&revocation.revoked));
        // One for the whole organization has to be possible always.
        if is_known || revocation.revoked == Revoked::Organization || !is_full(&made) {
            return true;
        }
        for of_organization in made.values_mut() {
            of_organization.retain(|_, at| self.holds(*at));
        }
        made.retain(|_, of_organization| !of_organization.is_empty());
        !is_full(&made)
    }

    /// False if it is known already.
    fn remember(&self, revocation: &Revocation) -> bool {
        let mut made = self.made.write().unwrap_or_else(PoisonError::into_inner);
        let of_organization = made.entry(revocation.organization_id.clone()).or_default();
        let known = of_organization.insert(revocation.revoked.clone(), revocation.at_ms);
        if let Some(known) = known.filter(|known| *known >= revocation.at_ms) {
            of_organization.insert(revocation.revoked.clone(), known);
            return false;
        }
        true
    }
}

/// What is in a file; nothing if there is none. A last line without an end was never answered.
fn read(path: &Path) -> io::Result<Vec<Revocation>> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let lines = whole.lines().enumerate().filter(|(_, line)| !line.is_empty());
    let parsed = lines.map(|(index, line)| {
        serde_json::from_str(line).map_err(|error| io::Error::other(format!("line {}: {error}", index + 1)))
    });
    parsed.collect()
}

impl Lines {
    /// Replaces a file as a whole, so that a crash leaves the old one or the new one.
    fn write(path: &Path, revocations: &[Revocation]) -> io::Result<Self> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        let new = path.with_extension("new");
        let options = |options: &mut OpenOptions| options.create(true).mode(0o600).open(&new);
        let mut file = options(OpenOptions::new().write(true).truncate(true))?;
        for revocation in revocations {
            file.write_all(&line(revocation)?)?;
        }
        file.sync_all()?;
        fs::rename(&new, path)?;
        Ok(Self { path: path.to_owned(), file })
    }

    fn append(&mut self, revocation: &Revocation) -> io::Result<()> {
        let before = self.file.metadata()?.len();
        let written = line(revocation).and_then(|line| self.file.write_all(&line)).and_then(|()| self.file.sync_all());
        written.inspect_err(|error| {
            tracing::error!(%error, path = %self.path.display(), "a revocation is not on the disk");
            // Half a line must not be the beginning of the next.
            self.file.set_len(before).ok();
        })
    }
}

fn line(revocation: &Revocation) -> io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(revocation)?;
    line.push(b'\n');
    Ok(line)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::{Claims, Proof};

    const DAY_MS: u64 = 86_400_000;

    fn id(text: &str) -> Id {
        Id::parse(text).expect("an id")
    }

    fn identity(user: &str, organization: &str, issued_at_ms: Option<i64>, token_id: &str) -> Identity {
        let token_id = Some(token_id.to_owned());
        Identity {
            user: id(user),
            organization: id(organization),
            session_id: None,
            claims: Claims::new(Vec::new()),
            channels: None,
            anonymous: false,
            proof: Some(Proof { expires_at_ms: i64::MAX, issued_at_ms, token_id, roles: Vec::new() }),
        }
    }

    fn revocation(organization: &str, revoked: Revoked, at_ms: i64) -> Revocation {
        Revocation { organization_id: id(organization), revoked, at_ms }
    }

    #[test]
    fn what_was_issued_before_is_refused_within_the_organization_only() {
        let revocations = Revocations::open(None, DAY_MS).expect("a book");
        let now = now_ms();
        revocations.add(&revocation("o", Revoked::UserId(id("u")), now)).expect("made");
        assert!(revocations.refuse(&identity("u", "o", Some(now), "a")));
        assert!(revocations.refuse(&identity("u", "o", None, "a")));
        assert!(!revocations.refuse(&identity("u", "o", Some(now + 1), "a")));
        assert!(!revocations.refuse(&identity("u", "p", Some(now), "a")));
        assert!(!revocations.refuse(&identity("v", "o", Some(now), "a")));
        revocations.add(&revocation("o", Revoked::TokenId("a".into()), now)).expect("made");
        assert!(revocations.refuse(&identity("v", "o", Some(now + 1), "a")));
        assert!(!revocations.refuse(&identity("v", "p", Some(now + 1), "a")));
        revocations.add(&revocation("o", Revoked::Organization, now)).expect("made");
        assert!(revocations.refuse(&identity("v", "o", Some(now), "b")));
        let trusted = Identity { proof: None, ..identity("u", "o", None, "a") };
        assert!(!revocations.refuse(&trusted));
        assert!(revocation("o", Revoked::UserId(id("u")), now).is_about(&trusted));
        assert!(!revocation("o", Revoked::TokenId("a".into()), now).is_about(&trusted));
    }

    #[test]
    fn they_outlive_the_process_but_not_their_time_and_a_torn_line_is_none() {
        let folder = std::env::temp_dir().join(format!("tiercast-revocations-{}", crate::wire::random_letters(9)));
        let path = folder.join("revocations.jsonl");
        let now = now_ms();
        let of = |user: &str| identity(user, "o", Some(now - 1), "a");
        {
            let revocations = Revocations::open(Some(&path), DAY_MS).expect("a file");
            for user in ["u", "v"] {
                revocations.add(&revocation("o", Revoked::UserId(id(user)), now)).expect("made");
            }
            let old = now - i64::try_from(2 * DAY_MS).expect("a number");
            revocations.add(&revocation("o", Revoked::UserId(id("w")), old)).expect("made");
        }
        let text = fs::read_to_string(&path).expect("the file");
        fs::write(&path, format!("{text}{{\"organization_id\":\"o\",\"revo")).expect("written");
        let revocations = Revocations::open(Some(&path), DAY_MS).expect("a file");
        assert!(revocations.refuse(&of("u")) && revocations.refuse(&of("v")));
        assert_eq!(fs::read_to_string(&path).expect("the file").lines().count(), 2);
        fs::write(&path, "{}\n").expect("written");
        let error = Revocations::open(Some(&path), DAY_MS).expect_err("refused").to_string();
        assert!(error.contains("revocations.jsonl") && error.contains("line 1"), "{error}");
        fs::remove_dir_all(&folder).expect("removed");
    }

    #[test]
    fn what_another_node_has_revoked_is_learned_once() {
        let revocations = Revocations::open(None, DAY_MS).expect("a book");
        let made = revocation("o", Revoked::UserId(id("u")), now_ms());
        assert!(revocations.learn(&made) && !revocations.learn(&made));
        assert!(!revocations.learn(&Revocation { at_ms: made.at_ms - 1, ..made.clone() }), "an earlier one says less");
        assert!(revocations.learn(&Revocation { at_ms: made.at_ms + 1, ..made.clone() }));
        let over = now_ms() - i64::try_from(DAY_MS).expect("a number");
        assert!(!revocations.learn(&revocation("o", Revoked::Organization, over)));
        assert_eq!(revocations.all(), [Revocation { at_ms: made.at_ms + 1, ..made }]);
    }

    #[test]
    fn one_organization_cannot_use_up_the_others_and_can_always_be_revoked_as_a_whole() {
        let revocations = Revocations::open(None, DAY_MS).expect("a book");
        for number in 0..MAX_OF_ORGANIZATION {
            revocations.add(&revocation("o", Revoked::TokenId(number.to_string()), now_ms())).expect("made");
        }
        assert!(revocations.add(&revocation("o", Revoked::TokenId("one more".into()), now_ms())).is_err());
        revocations.add(&revocation("o", Revoked::TokenId("0".into()), now_ms())).expect("known already");
        revocations.add(&revocation("o", Revoked::Organization, now_ms())).expect("the whole");
        revocations.add(&revocation("p", Revoked::TokenId("0".into()), now_ms())).expect("another organization");
    }
}
