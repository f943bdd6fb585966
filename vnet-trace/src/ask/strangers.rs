//! Network namespaces that only the packets themselves show.
//!
//! One that lives by an open file alone, or whose processes belong to other users, is found by nobody who looks for it; yet a
//! probe says by which namespace a packet comes. Without a place of its own in the snapshot, what was seen there would be
//! taken for a sighting at the place before.

use std::collections::BTreeSet;

use vnet_trace_ebpf::Role;

use crate::collect::kernel::KernelRecord;
use crate::model::id::NetnsId;
use crate::model::snapshot::{Netns, Part, Snapshot};

/// The namespaces in which a packet of the question was seen and that the snapshot does not have, with nothing read of them.
///
/// Address resolution is told apart by addresses alone, which another network of the machine may have as well; so where
/// nothing else was seen is none. And where nothing was closed to us, what nobody can find is what lies beyond our sight:
/// then there are none either.
pub fn found(snapshot: &Snapshot, records: &[KernelRecord]) -> Vec<Netns> {
    if !snapshot.is_restricted() {
        return Vec::new();
    }
    let is_known = |inode: &u32| snapshot.namespaces.iter().any(|netns| netns.inode as u32 == *inode);
    let own = |record: &&KernelRecord| matches!(record.role, Role::EchoRequest | Role::EchoReply);
    let seen = records.iter().filter(own).filter_map(KernelRecord::inode);
    let inodes: BTreeSet<u32> = seen.filter(|inode| !is_known(inode)).collect();
    let first = snapshot.namespaces.len();
    inodes
        .into_iter()
        .enumerate()
        .map(|(index, inode)| Netns {
            id: NetnsId((first + index) as u32),
            inode: u64::from(inode),
            name: format!("net:[{inode}]"),
            unread: BTreeSet::from([Part::Everything]),
            ..Netns::default()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collect::kernel::decode::tests::record;
    use crate::collect::kernel::{Detail, DeviceRef};
    use vnet_trace_ebpf::ProbeId;

    fn seen(role: Role, inode: u32) -> KernelRecord {
        let device = Some(DeviceRef { netns: Some(inode), ifindex: 2 });
        KernelRecord { role, device, ..record(ProbeId::NetDevQueue, Detail::Seen) }
    }

    #[test]
    fn only_where_the_question_itself_was_seen_is_a_place() {
        let known = Netns { inode: 4000, ..Netns::default() };
        let snapshot = Snapshot { namespaces: vec![known], hidden_processes: 3, ..Snapshot::default() };
        let records = [
            seen(Role::EchoRequest, 4000),
            seen(Role::ArpRequest, 4001),
            seen(Role::EchoRequest, 4002),
            seen(Role::EchoReply, 4002),
        ];
        let open = Snapshot { hidden_processes: 0, ..snapshot.clone() };
        assert!(found(&open, &records).is_empty());
        let found = found(&snapshot, &records);
        let names: Vec<(NetnsId, &str)> = found.iter().map(|netns| (netns.id, netns.name.as_str())).collect();
        assert_eq!(names, [(NetnsId(1), "net:[4002]")]);
        assert!(found.iter().all(Netns::is_closed));
    }
}
