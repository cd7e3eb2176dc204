//! Claims: the part of an organization's tree that an identity covers.

use serde::{Deserialize, Serialize};

use crate::rooms::Scope;

/// The scopes an identity may receive from; it may use everything they contain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    scopes: Vec<Scope>,
}

impl Claims {
    /// Claims to exactly these scopes.
    pub fn new(scopes: Vec<Scope>) -> Self {
        Self { scopes }
    }

    /// The scopes claimed.
    pub fn scopes(&self) -> &[Scope] {
        &self.scopes
    }

    /// Whether a scope lies within the claims.
    pub fn contain(&self, scope: &Scope) -> bool {
        self.scopes.iter().any(|claimed| claimed.contains(scope))
    }

    /// Whether a scope and the claims have anything in common.
    pub fn overlap(&self, scope: &Scope) -> bool {
        self.scopes.iter().any(|claimed| claimed.intersection(scope).is_some())
    }

    /// The parts of a scope that lie within the claims; none if it is wholly outside.
    pub fn narrow(&self, scope: &Scope) -> Vec<Scope> {
        if self.contain(scope) {
            return vec![scope.clone()];
        }
        let mut parts: Vec<Scope> = Vec::new();
        for part in self.scopes.iter().filter_map(|claimed| claimed.intersection(scope)) {
            if !parts.contains(&part) {
                parts.push(part);
            }
        }
        parts
    }

    /// These claims, as far as they lie within a scope.
    pub fn within(&self, scope: &Scope) -> Self {
        Self { scopes: self.narrow(scope) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rooms::Id;

    fn scope(department: Option<&str>, queue: Option<&str>) -> Scope {
        let id = |text: &str| Id::parse(text).expect("an id");
        Scope { organization: id("o"), department: department.map(id), queue: queue.map(id) }
    }

    #[test]
    fn a_wider_scope_is_narrowed_to_the_claims() {
        let claims = Claims::new(vec![scope(Some("d"), None), scope(Some("e"), None)]);
        assert_eq!(claims.narrow(&scope(None, None)), claims.scopes());
        assert_eq!(claims.narrow(&scope(Some("d"), Some("q"))), [scope(Some("d"), Some("q"))]);
        assert!(claims.narrow(&scope(Some("f"), None)).is_empty());
        assert!(claims.contain(&scope(Some("d"), Some("q"))) && !claims.contain(&scope(None, Some("q"))));
        assert!(claims.overlap(&scope(None, Some("q"))) && !claims.overlap(&scope(Some("f"), None)));
        assert_eq!(claims.within(&scope(Some("e"), None)).scopes(), [scope(Some("e"), None)]);
    }
}
