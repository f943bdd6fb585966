//! How the namespaces are called where they are rebuilt.
//!
//! A name under /run/netns stays. The namespace of the command is the sandbox's own and needs none. Those that were known
//! by a container or a process get a name made of it, so that `ip netns exec` reaches them all.

use std::collections::BTreeMap;

use crate::model::id::NetnsId;
use crate::model::snapshot::{Netns, Snapshot};

use super::plain;
use super::scope::Scope;

/// Names by namespace.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Names {
    by_id: BTreeMap<NetnsId, String>,
}

impl Names {
    /// Names for all that is rebuilt.
    pub fn of(snapshot: &Snapshot, scope: &Scope) -> Self {
        let mut names = Self { by_id: BTreeMap::from([(NetnsId(0), ".".to_owned())]) };
        let others = || {
            snapshot.namespaces.iter().filter(|netns| netns.id != NetnsId(0) && scope.namespaces.contains(&netns.id))
        };
        // Names that exist come first, so that a made one never takes one.
        let keeps = |netns: &Netns| netns.named && plain::is_name(&netns.name);
        for netns in others().filter(|netns| keeps(netns)) {
            names.by_id.insert(netns.id, netns.name.clone());
        }
        for netns in others().filter(|netns| !keeps(netns)) {
            let wish = wish(netns);
            let mut name = wish.clone();
            let mut number = 2;
            while names.by_id.values().any(|taken| *taken == name) {
                name = format!("{wish}-{number}");
                number += 1;
            }
            names.by_id.insert(netns.id, name);
        }
        names
    }

    /// The name; `.` for the sandbox's own.
    pub fn name(&self, netns: NetnsId) -> &str {
        self.by_id.get(&netns).map_or(".", String::as_str)
    }

    /// How a namespace is called here that has another name, or the same, under /run/netns in the original.
    pub fn renamed(&self, snapshot: &Snapshot, original: &str) -> Option<&str> {
        let found = snapshot.namespaces.iter().find(|netns| netns.named && netns.name == original)?;
        self.by_id.get(&found.id).map(String::as_str)
    }

    /// The namespace of that name.
    pub fn id(&self, name: &str) -> Option<NetnsId> {
        self.by_id.iter().find(|(_, known)| known.as_str() == name).map(|(id, _)| *id)
    }
}

fn wish(netns: &Netns) -> String {
    let called = netns.container.as_ref().map_or(netns.name.as_str(), |container| container.name.as_str());
    let plain: String =
        called.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' || c == '_' { c } else { '-' }).collect();
    let plain = plain.trim_matches('-');
    if plain.is_empty() { format!("netns{}", netns.id.0) } else { plain.to_owned() }
}
