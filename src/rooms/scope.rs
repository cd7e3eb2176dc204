//! Scopes: an organization, or a department, a queue, or both within it.

use serde::{Deserialize, Serialize};

use super::id::{Id, IdError};

/// `org`, `org+dept`, `org+queue` or `org+dept+queue`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Scope {
    /// The organization.
    #[serde(rename = "organization_id")]
    pub organization: Id,
    /// The department, if the scope is narrowed to one.
    #[serde(rename = "department_id", default, skip_serializing_if = "Option::is_none")]
    pub department: Option<Id>,
    /// The queue, if the scope is narrowed to one.
    #[serde(rename = "queue_name", default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<Id>,
}

/// The three fields of a scope as they come over the wire.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub struct ScopeFields {
    /// `organization_id`.
    #[serde(default)]
    pub organization_id: Option<String>,
    /// `department_id`.
    #[serde(default)]
    pub department_id: Option<String>,
    /// `queue_name`.
    #[serde(default)]
    pub queue_name: Option<String>,
}

impl ScopeFields {
    /// Whether none of the fields is given.
    pub fn is_empty(&self) -> bool {
        self.organization_id.is_none() && self.department_id.is_none() && self.queue_name.is_none()
    }

    /// The scope, within `organization` when no other is named.
    ///
    /// # Errors
    /// Names the field that is not an id; `organization_id` when there is none at all.
    pub fn resolve(&self, organization: Option<&Id>) -> Result<Scope, (&'static str, IdError)> {
        let read = |field: &'static str, text: &Option<String>| {
            text.as_deref().map(|text| Id::parse(text).map_err(|error| (field, error))).transpose()
        };
        let organization = match read("organization_id", &self.organization_id)? {
            Some(id) => id,
            None => organization.cloned().ok_or(("organization_id", IdError::Empty))?,
        };
        Ok(Scope {
            organization,
            department: read("department_id", &self.department_id)?,
            queue: read("queue_name", &self.queue_name)?,
        })
    }
}

impl From<&Scope> for ScopeFields {
    fn from(scope: &Scope) -> Self {
        let text = |id: &Option<Id>| id.as_ref().map(|id| id.as_str().to_owned());
        Self {
            organization_id: Some(scope.organization.as_str().to_owned()),
            department_id: text(&scope.department),
            queue_name: text(&scope.queue),
        }
    }
}

impl Scope {
    /// The whole of an organization.
    pub fn organization(organization: Id) -> Self {
        Self { organization, department: None, queue: None }
    }

    /// Whether everything in `other` is in this scope too.
    pub fn contains(&self, other: &Self) -> bool {
        self.organization == other.organization
            && (self.department.is_none() || self.department == other.department)
            && (self.queue.is_none() || self.queue == other.queue)
    }

    /// What lies in both scopes, if anything does.
    pub fn intersection(&self, other: &Self) -> Option<Self> {
        let both = |a: &Option<Id>, b: &Option<Id>| match (a, b) {
            (Some(a), Some(b)) if a != b => None,
            (Some(id), _) | (None, Some(id)) => Some(Some(id.clone())),
            (None, None) => Some(None),
        };
        (self.organization == other.organization).then_some(())?;
        Some(Self {
            organization: self.organization.clone(),
            department: both(&self.department, &other.department)?,
            queue: both(&self.queue, &other.queue)?,
        })
    }

    /// `org{s}o[{s}dept{s}d][{s}queue{s}q]`, with ids encoded.
    pub(super) fn joined(&self, separator: char) -> String {
        let mut text = String::with_capacity(64);
        self.join_onto(&mut text, separator);
        text
    }

    /// The same, behind what is there already.
    pub(super) fn join_onto(&self, text: &mut String, separator: char) {
        let parts =
            [("org", Some(&self.organization)), ("dept", self.department.as_ref()), ("queue", self.queue.as_ref())];
        for (kind, id) in parts {
            let Some(id) = id else { continue };
            if kind != "org" {
                text.push(separator);
            }
            text.push_str(kind);
            text.push(separator);
            text.push_str(&id.encoded());
        }
    }

    /// Reads what `joined` wrote; anything not canonical is none.
    pub(super) fn split(text: &str, separator: char) -> Option<Self> {
        let mut parts = text.split(separator);
        let (Some("org"), Some(organization)) = (parts.next(), parts.next()) else { return None };
        let mut scope = Self::organization(Id::decode(organization)?);
        while let Some(kind) = parts.next() {
            let id = Id::decode(parts.next()?)?;
            match kind {
                "dept" if scope.department.is_none() && scope.queue.is_none() => scope.department = Some(id),
                "queue" if scope.queue.is_none() => scope.queue = Some(id),
                _ => return None,
            }
        }
        Some(scope)
    }

    /// Every scope that contains this one, the widest first, itself last.
    pub fn containing(&self) -> Vec<Self> {
        let mut scopes = vec![Self::organization(self.organization.clone())];
        if self.department.is_some() {
            scopes.push(Self { queue: None, ..self.clone() });
        }
        if self.queue.is_some() {
            scopes.push(Self { department: None, ..self.clone() });
            if self.department.is_some() {
                scopes.push(self.clone());
            }
        }
        scopes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope(department: Option<&str>, queue: Option<&str>) -> Scope {
        let id = |text: &str| Id::parse(text).expect("an id");
        Scope { organization: id("o"), department: department.map(id), queue: queue.map(id) }
    }

    #[test]
    fn a_queue_of_a_department_is_in_four_scopes() {
        let inner = scope(Some("d"), Some("q"));
        let outer = inner.containing();
        assert_eq!(
            outer,
            [scope(None, None), scope(Some("d"), None), scope(None, Some("q")), scope(Some("d"), Some("q"))]
        );
        assert!(outer.iter().all(|outer| outer.contains(&inner)));
        assert!(!inner.contains(&scope(Some("d"), None)));
    }

    #[test]
    fn intersections_narrow() {
        assert_eq!(scope(Some("d"), None).intersection(&scope(None, Some("q"))), Some(scope(Some("d"), Some("q"))));
        assert_eq!(scope(Some("d"), None).intersection(&scope(Some("e"), None)), None);
    }
}
