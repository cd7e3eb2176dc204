//! The members that the gym has, from a file.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::{fs, io};

use super::member::{Member, MemberId};

/// Why the members cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum MembersError {
    /// The file cannot be read.
    #[error("{path:?} cannot be read: {source}")]
    File {
        /// Where it is.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// What it holds are no members.
    #[error("{path:?} must hold a JSON list of {{\"id\", \"full_name\", …}}: {why}")]
    Content {
        /// Where it is.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
}

/// The members of a file, by id.
///
/// # Errors
/// If it cannot be read, or holds something else.
pub fn read(path: &Path) -> Result<HashMap<MemberId, Member>, MembersError> {
    let text = fs::read(path).map_err(|source| MembersError::File { path: path.into(), source })?;
    let content = |why| MembersError::Content { path: path.into(), why };
    let list: Vec<Member> = serde_json::from_slice(&text).map_err(|error| content(error.to_string()))?;
    let mut members = HashMap::with_capacity(list.len());
    for member in list {
        if let Some(other) = members.insert(member.id.clone(), member) {
            return Err(content(format!("member {:?} is there twice", other.id.as_str())));
        }
    }
    Ok(members)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Result<HashMap<MemberId, Member>, MembersError> {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("members.json");
        fs::write(&path, text).expect("a file");
        read(&path)
    }

    #[test]
    fn members_have_an_id_and_a_name_in_either_spelling() {
        let members = of(
            r#"[{"id":7,"name":"Ann","email":null,"phone":1},{"id":"b","full_name":"Bob","email":"b@x","membership_type":"vip"}]"#,
        );
        let members = members.expect("members");
        let ann = &members[&MemberId::read(&"7".into()).expect("an id")];
        assert_eq!((ann.full_name.as_str(), ann.email.as_str()), ("Ann", ""));
        assert_eq!(members.values().filter(|member| member.membership_type == "vip").count(), 1);
    }

    #[test]
    fn a_file_that_does_not_hold_members_says_why() {
        for (text, why) in [
            ("{}", "list"),
            (r#"[{"id":7}]"#, "full_name"),
            (r#"[{"id":1.5,"name":"Ann"}]"#, "whole number"),
            (r#"[{"id":7,"name":"Ann"},{"id":"7","name":"Bob"}]"#, "\"7\" is there twice"),
        ] {
            let error = of(text).expect_err("a fault").to_string();
            assert!(error.contains(why) && error.contains("members.json"), "{text}: {error}");
        }
        assert!(matches!(read(Path::new("/nowhere/members.json")), Err(MembersError::File { .. })));
    }
}
