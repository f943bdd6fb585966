//! Where a program works: the packet that it looks at, and what it finds out about it.
//!
//! The stack of a program is small, and a function that the verifier checks on its own can only be given numbers. So what
//! belongs to one sighting lies on a [`Desk`], in memory of the CPU that makes the sighting, and functions are told which
//! desk. A task, a soft interrupt, a hard interrupt and a non-maskable one may each be at work on one CPU, one inside the
//! other, so each CPU has four desks, and a count of those that are in use.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::bpf_probe_read_kernel;
use aya_ebpf::macros::map;
use aya_ebpf::maps::PerCpuArray;
use vnet_trace_ebpf::{ARGS, BitField, FRAME_BYTES};

use crate::read::bits;

/// How much of an `sk_buff` is copied: its size is 224 or 232 bytes, its memory is 256.
pub const SKB_BYTES: usize = 256;

/// One sighting.
#[repr(C, align(1024))]
pub struct Desk {
    /// A copy of the `sk_buff`.
    skb: [u8; SKB_BYTES],
    /// The packet as an Ethernet frame, for expressions.
    pub frame: [u8; FRAME_BYTES],
    /// Address of the `sk_buff`.
    pub address: u64,
    /// `skb->head`.
    pub head: u64,
    /// The tracking id.
    pub origin: u64,
    /// Where the network header is.
    pub network: u64,
    /// What the probe has to say, see [`vnet_trace_ebpf::ProbeId`].
    pub args: [u64; ARGS],
    /// The device, where it is not `skb->dev`; 0 otherwise.
    pub dev: u64,
    /// A second device, or 0.
    pub other: u64,
    /// A [`vnet_trace_ebpf::Role`].
    pub role: u32,
    /// `FLAG_…` bits.
    pub flags: u32,
    /// Inode number of the namespace where it was seen.
    pub netns: u32,
    /// Interface index of the device where it was seen.
    pub ifindex: u32,
}

const DESKS: usize = 4;

/// What belongs to one CPU.
#[repr(C)]
pub struct Cpu {
    desks: [Desk; DESKS],
    /// How many desks are in use.
    used: u32,
    padding: u32,
    /// The packet that this CPU is taking through the stack.
    pub context: Context,
    /// How many packets this CPU has begun to follow.
    pub begun: u64,
    /// The skb that was queued last and is not asked for, so that its transmission need not ask again; 0 means none.
    pub passed_over: u64,
    /// When this CPU woke the reader last.
    pub woken_ns: u64,
}

/// A packet on its way through the stack of one CPU; `skb` is 0 if there is none.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Context {
    pub skb: u64,
    pub head: u64,
    pub origin: u64,
    pub netns: u32,
    pub ifindex: u32,
}

#[map]
static CPUS: PerCpuArray<Cpu> = PerCpuArray::with_max_entries(1, 0);

/// What belongs to this CPU. There always is something, which the verifier does not know.
#[inline(always)]
pub fn cpu() -> Option<&'static mut Cpu> {
    // SAFETY: the element is this CPU's own; who interrupts leaves it as it was, but for counts and names that are single
    // words.
    CPUS.get_ptr_mut(0).map(|cpu| unsafe { &mut *cpu })
}

impl Cpu {
    /// The desk of this number.
    #[inline(always)]
    pub fn desk(&mut self, number: u32) -> &mut Desk {
        // SAFETY: the number is kept below the count of desks.
        unsafe { &mut *(&raw mut self.desks).cast::<Desk>().add((number & (DESKS as u32 - 1)) as usize) }
    }

    /// Takes the next free desk for an skb. It must be given back.
    ///
    /// The address goes through memory, which makes a number of a pointer whose type the verifier knows.
    #[inline(always)]
    pub fn take(&mut self, skb: u64) -> u32 {
        let number = self.used & (DESKS as u32 - 1);
        self.used += 1;
        self.desk(number).address = skb;
        number
    }

    /// Gives the last desk back.
    #[inline(always)]
    pub fn give_back(&mut self) {
        self.used -= 1;
    }
}

impl Desk {
    /// Copies the skb.
    #[inline(always)]
    pub fn read(&mut self) {
        // SAFETY: the helper checks the address, and the copy is as long as what is read.
        unsafe {
            bpf_probe_read_kernel((&raw mut self.skb).cast(), SKB_BYTES as u32, self.address as *const c_void);
        }
    }

    /// Clears what a probe may have to say.
    #[inline(always)]
    pub fn clear(&mut self) {
        set_args(&mut self.args, [0; ARGS]);
        self.dev = 0;
        self.other = 0;
    }

    /// A field of the skb; 0 if the kernel has no such field.
    #[inline(always)]
    pub fn get<T: Copy + Default>(&self, offset: u32) -> T {
        if offset as usize > SKB_BYTES - size_of::<T>() {
            return T::default();
        }
        // SAFETY: inside the copy, as has just been checked.
        unsafe { (&raw const self.skb).cast::<u8>().add(offset as usize).cast::<T>().read_volatile() }
    }

    /// A field of the skb that shares its byte with others.
    #[inline(always)]
    pub fn bits(&self, field: BitField) -> u8 {
        bits(self.get(field.byte), field)
    }
}

/// Writes arguments one by one. Together they would become a call of a function with a loop, which the verifier goes
/// through byte by byte.
#[inline(always)]
pub fn set_args(into: &mut [u64; ARGS], args: [u64; ARGS]) {
    for (slot, value) in into.iter_mut().zip(args) {
        // SAFETY: a reference is valid and aligned.
        unsafe { core::ptr::write_volatile(slot, value) };
    }
}
