//! Sockets: a program reads the packet, or its socket has no room.

use aya_ebpf::macros::raw_tracepoint;
use aya_ebpf::programs::RawTracePointContext;
use vnet_trace_ebpf::ProbeId;

use super::{nothing, seen};
use crate::track::{Begin, Sighting};

/// `skb_copy_datagram_iovec(skb, bytes)`. The socket's skb may be a clone that is seen here first.
#[raw_tracepoint]
pub fn raw_skb_copy_datagram_iovec(ctx: RawTracePointContext) -> i32 {
    let bytes: u64 = ctx.arg(1);
    let note = |sighting: &mut Sighting| sighting.desk().args[0] = bytes & 0xffff_ffff;
    seen(ProbeId::SocketRead, ctx.arg(0), Begin::ByHead, note, nothing);
    0
}

/// `sock_rcvqueue_full(sk, skb)`.
#[raw_tracepoint]
pub fn raw_sock_rcvqueue_full(ctx: RawTracePointContext) -> i32 {
    seen(ProbeId::SocketFull, ctx.arg(1), Begin::ByHead, nothing, nothing);
    0
}
