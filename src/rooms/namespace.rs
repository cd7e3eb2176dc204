//! Namespaces that mirror the tree: `/org/{o}[/dept/{d}][/queue/{q}]`.

use super::scope::Scope;

/// The paths of all namespaces below an organization, as patterns of a router.
pub const NAMESPACE_PATTERNS: [&str; 4] =
    ["/org/{org}", "/org/{org}/dept/{dept}", "/org/{org}/queue/{queue}", "/org/{org}/dept/{dept}/queue/{queue}"];

/// The scope that a namespace stands for; anything but its canonical path is none.
pub fn parse_namespace(path: &str) -> Option<Scope> {
    Scope::split(path.strip_prefix('/')?, '/')
}

/// The namespace of a scope.
pub fn namespace_of(scope: &Scope) -> String {
    format!("/{}", scope.joined('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_canonical_paths_are_namespaces() {
        for path in ["/org/a", "/org/a/dept/d", "/org/a/queue/q", "/org/a/dept/d/queue/q", "/org/a%2Fb"] {
            assert_eq!(parse_namespace(path).map(|scope| namespace_of(&scope)).as_deref(), Some(path));
        }
        for path in ["/", "/org", "/org/", "/org/a/", "/org/a:b", "/org/a/dept", "/org/a/queue/q/dept/d", "/org/%61"] {
            assert_eq!(parse_namespace(path), None, "{path}");
        }
    }
}
