//! What the probes say about themselves, for those who want to know what they do.
//!
//! Writing such a message takes more instructions than a whole probe. So there is one function for it, which user space
//! replaces by nothing unless somebody listens.

use aya_log_ebpf::debug;
use vnet_trace_ebpf::{FLAG_BY_HEAD, FLAG_FIRST};

use crate::desk;
use crate::track::Sighting;

/// Says that the packet of a sighting is followed from here on.
#[inline(always)]
pub fn first(sighting: &mut Sighting, probe: u32) {
    if sighting.desk().flags & u32::from(FLAG_FIRST) != 0 {
        tell_first(sighting.number, probe);
    }
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn tell_first(number: u32, probe: u32) -> u32 {
    let Some(cpu) = desk::cpu() else { return 0 };
    let desk = cpu.desk(number);
    let by_head = desk.flags & u32::from(FLAG_BY_HEAD);
    debug!(
        (),
        "probe {}: following role {} as {:x}, buffer {:x}, a clone: {}",
        probe,
        desk.role,
        desk.origin,
        desk.head,
        by_head
    );
    1
}
