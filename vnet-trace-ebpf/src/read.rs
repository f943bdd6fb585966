//! Reading kernel memory: at offsets that user space found in the running kernel's BTF.
//!
//! A Rust object carries no field relocations, so user space writes the offsets into [`OFFSETS`]
//! before the kernel loads the object. The map behind it is read-only and frozen, which makes every
//! offset a known constant for the verifier: a branch on an offset that is [`ABSENT`] is cut off
//! before it is checked.
//!
//! There are four ways to read, by how often the code runs:
//!
//! - [`typed`]: a plain load, where the kernel hands over a pointer whose type it knows (`tp_btf`).
//!   For the few fields that are looked at on every packet's way. Not for fields that are pointers:
//!   for each such load the verifier of newer kernels searches its BTF by name, which takes
//!   milliseconds, and from 6.17 on the loaded pointer is not a number that could be worked with.
//! - Through such a pointer into the packet, where the kernel allows it: [`crate::expression::glance`].
//! - [`crate::desk::Desk`]: the whole `sk_buff` at once, once it is known to be of interest.
//! - [`field`] and [`copy`]: single values, from anywhere.
//!
//! None of them asks whether an address is null: the kernel's helper reads nothing from the lowest addresses and
//! gives zeroes, and every question that is not asked halves what the verifier has to go through.

use core::arch::asm;
use core::ffi::c_void;
use core::mem::MaybeUninit;
use core::ptr;

use aya_ebpf::helpers::generated::bpf_probe_read_kernel;
use vnet_trace_ebpf::{ABSENT, BitField, Config, Offsets};

/// Offsets in the running kernel's structures, written before load.
#[unsafe(no_mangle)]
pub static OFFSETS: Offsets = Offsets::ABSENT;

/// What is asked for, written before load.
#[unsafe(no_mangle)]
pub static CONFIG: Config = Config::NONE;

/// Reads one field of [`OFFSETS`].
macro_rules! offset {
    ($field:ident) => {
        $crate::read::constant(&$crate::read::OFFSETS.$field)
    };
}
pub(crate) use offset;

/// Reads one field of [`CONFIG`].
macro_rules! config {
    ($field:ident) => {
        $crate::read::constant(&$crate::read::CONFIG.$field)
    };
}
pub(crate) use config;

/// Reads a value that is replaced before load, of which the compiler must not know what it is now.
#[inline(always)]
pub fn constant<T: Copy>(value: &T) -> T {
    // SAFETY: a reference is valid and aligned.
    unsafe { ptr::read_volatile(value) }
}

/// A pointer into kernel memory whose type the verifier knows.
pub type Typed = *const u8;

/// Loads a field that is not a pointer from a typed pointer; a fault reads as 0.
#[inline(always)]
pub fn typed<T: Copy>(base: Typed, offset: u32) -> T {
    // SAFETY: the verifier admits the load only inside the structure.
    unsafe { base.add(offset as usize).cast::<T>().read_volatile() }
}

/// The same for a field that shares its byte with others.
#[inline(always)]
pub fn typed_bits(base: Typed, field: BitField) -> u8 {
    if field.byte == ABSENT {
        return 0;
    }
    bits(typed(base, field.byte), field)
}

/// The lower half of an address.
///
/// The verifier lets a typed pointer be copied in part, which makes it a number, but neither shifted nor subtracted from
/// another one; so the copy is written as an instruction that the compiler cannot merge with what comes next.
#[inline(always)]
pub fn low(pointer: u64) -> u32 {
    let low: u32;
    // SAFETY: the instruction copies a register.
    unsafe { asm!("{0} = {1}", out(wreg) low, in(wreg) pointer as u32, options(pure, nomem, nostack)) };
    low
}

#[inline(always)]
pub fn bits(byte: u8, field: BitField) -> u8 {
    (byte >> (field.shift & 7)) & field.mask as u8
}

/// Copies a `T` from a kernel address; zeroes if it cannot be read.
#[inline(always)]
pub fn copy<T: Copy + Default>(address: u64) -> T {
    let mut value = MaybeUninit::<T>::uninit();
    // SAFETY: the helper checks the address, and on failure fills the memory with zeroes, which are
    // a value of the integers and arrays of integers that this is used for.
    unsafe {
        bpf_probe_read_kernel(value.as_mut_ptr().cast(), size_of::<T>() as u32, address as *const c_void);
        value.assume_init()
    }
}

/// Copies a field of the structure at `base`; 0 if the kernel has no such field, or `base` is null.
#[inline(always)]
pub fn field<T: Copy + Default>(base: u64, offset: u32) -> T {
    if offset == ABSENT {
        return T::default();
    }
    copy(base.wrapping_add(u64::from(offset)))
}

/// The inode number of a `struct net`; 0 for null.
#[inline(always)]
pub fn net_inum(net: u64) -> u32 {
    field(net, offset!(net_inum))
}

/// The inode number of a device's network namespace; 0 for no device.
#[inline(always)]
pub fn dev_netns(dev: u64) -> u32 {
    net_inum(field(dev, offset!(dev_net)))
}

/// The interface index of a device; 0 for no device.
#[inline(always)]
pub fn dev_ifindex(dev: u64) -> u32 {
    field(dev, offset!(dev_ifindex))
}
