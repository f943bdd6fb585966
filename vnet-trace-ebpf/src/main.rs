//! The probes: eBPF programs at tracepoints, at the entry and at the return of kernel functions.
//!
//! Each sees an `sk_buff` (or a route look-up, or a neighbour entry) pass, asks [`filter`] and
//! [`track`] whether it belongs to what is asked for, and if so has [`emit`] write one record.
//! Nothing is decided here; user space reads the records.
//!
//! One probe often exists twice or thrice, as `fentry_…`/`fexit_…` and as `kprobe_…`/`kretprobe_…`,
//! because no single way of attaching works on all kernels. They share their body. How kernel memory is
//! read is argued in [`read`], where a program keeps what it works on in [`desk`]. The table of which program goes where is user
//! space's, in `vnet_trace::collect::kernel::attach`.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]
#![expect(unsafe_code, reason = "kernel memory is read through raw pointers; the kernel's verifier checks each access")]

mod desk;
mod emit;
mod expression;
mod filter;
mod probes;
mod read;
mod tell;
mod track;

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // The verifier refuses a program in which this can be reached, so it never is.
    loop {}
}

/// The helpers that read kernel memory are only for programs under a licence compatible with the GPL.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
