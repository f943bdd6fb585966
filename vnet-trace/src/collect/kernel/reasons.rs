//! What the running kernel calls its reasons to drop a packet.
//!
//! The numbers move between kernels, even within one stable series, so the names come from BTF: from
//! `enum skb_drop_reason`, and from the enumerations of the subsystems (`ovs_drop_reason` and the
//! like), whose values carry the subsystem's number in their upper 16 bits.

use std::collections::HashMap;
use std::sync::Arc;

use super::btf::Btf;
use super::record::ReasonNames;

/// The prefix of the core's reasons, which says nothing.
const CORE_PREFIX: &str = "SKB_DROP_REASON_";

/// Names of drop reasons by number.
#[derive(Debug, Default)]
pub struct Reasons {
    names: HashMap<u32, Arc<str>>,
    on_kfree: bool,
    on_route_input: bool,
}

impl Reasons {
    /// Reads the names from the kernel's BTF and from that of modules.
    pub fn read<'a>(vmlinux: &Btf, modules: impl Iterator<Item = &'a Btf>) -> Self {
        let mut reasons = Self {
            names: HashMap::new(),
            on_kfree: vmlinux.tracepoint_arguments("kfree_skb").is_some_and(|count| count > 2),
            on_route_input: vmlinux.returns_enum("ip_route_input_noref", "skb_drop_reason"),
        };
        reasons.add(vmlinux);
        for module in modules {
            reasons.add(module);
        }
        reasons
    }

    fn add(&mut self, btf: &Btf) {
        for enumeration in btf.enumerations() {
            for (name, number) in btf.enumerators(enumeration) {
                let is_sentinel = name.ends_with("_MAX") || name.ends_with("_MASK") || name.starts_with("__");
                if !is_sentinel {
                    let short = name.strip_prefix(CORE_PREFIX).unwrap_or(&name);
                    self.names.insert(number, Arc::from(short));
                }
            }
        }
    }
}

impl ReasonNames for Reasons {
    fn reason_name(&self, number: u32) -> Option<Arc<str>> {
        self.names.get(&number).cloned()
    }

    fn has_reasons(&self) -> bool {
        self.on_kfree
    }

    fn route_input_returns_reasons(&self) -> bool {
        self.on_route_input
    }
}
