//! Reading kernel memory: at offsets that user space found in the running kernel's BTF.
//!
//! A Rust object carries no field relocations, so user space writes the offsets into [`OFFSETS`]
//! before the kernel loads the object. The map behind it is read-only and frozen, which makes every
//! offset a known constant for the verifier: a branch on an offset that is [`ABSENT`] is cut off
//! before it is checked.
//!
//! There are three ways to read, by how often the code runs:
//!
//! - [`typed`]: a plain load, where the kernel hands over a pointer whose type it knows (`tp_btf`).
//!   For the few fields that are looked at on every packet's way. Not for fields that are pointers:
//!   for each such load the verifier of newer kernels searches its BTF by name, which takes
//!   milliseconds, and from 6.17 on the loaded pointer is not a number that could be worked with.
//! - [`View`]: the whole `sk_buff` at once, once it is known to be of interest.
//! - [`field`] and [`copy`]: single values, from anywhere.

use core::ffi::c_void;
use core::mem::MaybeUninit;
use core::ptr;

use aya_ebpf::helpers::generated::bpf_probe_read_kernel;
use aya_ebpf::macros::map;
use aya_ebpf::maps::PerCpuArray;
use vnet_trace_ebpf::{ABSENT, BitField, Config, Offsets};

/// Offsets in the running kernel's structures, written before load.
#[unsafe(no_mangle)]
pub static OFFSETS: Offsets = Offsets::ABSENT;

/// What is asked for, written before load.
#[unsafe(no_mangle)]
pub static CONFIG: Config = Config {
    tunnel_ports: [0; 4],
    mode: 0,
    only_netns: 0,
    kfree_reason: 0,
    consume_location: 0,
    transport: 0,
    reserved: [0; 3],
};

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

#[inline(always)]
fn bits(byte: u8, field: BitField) -> u8 {
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
    if offset == ABSENT || base == 0 {
        return T::default();
    }
    copy(base + u64::from(offset))
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

/// How much of an `sk_buff` is copied: its size is 224 or 232 bytes, its memory is 256.
const VIEW_BYTES: usize = 256;

/// A task, a soft interrupt, a hard interrupt and a non-maskable one may each be reading an skb on one CPU.
const DEPTHS: u32 = 4;

/// Copies of skbs, for each CPU and depth of interruption.
#[map]
static VIEWS: PerCpuArray<[u64; VIEW_BYTES / 8]> = PerCpuArray::with_max_entries(DEPTHS, 0);

/// How many views each CPU has in use.
#[map]
static DEPTH: PerCpuArray<u32> = PerCpuArray::with_max_entries(1, 0);

/// A copy of an `sk_buff`.
#[derive(Clone, Copy)]
pub struct View {
    copy: *const u8,
}

impl View {
    /// Copies an skb. Each view must be given back with [`View::done`].
    #[inline(always)]
    pub fn of(skb: u64) -> Option<Self> {
        let depth = DEPTH.get_ptr_mut(0)?;
        // SAFETY: the element is this CPU's own; who interrupts puts it back.
        let level = unsafe { *depth };
        let view = VIEWS.get_ptr_mut(level & (DEPTHS - 1))?;
        // SAFETY: as above; the helper checks the address of the skb, and the memory of the view is
        // as long as what is read.
        unsafe {
            *depth = level + 1;
            bpf_probe_read_kernel(view.cast(), VIEW_BYTES as u32, skb as *const c_void);
        }
        Some(Self { copy: view.cast() })
    }

    /// Gives the memory of the view back.
    #[inline(always)]
    pub fn done(self) {
        if let Some(depth) = DEPTH.get_ptr_mut(0) {
            // SAFETY: the element is this CPU's own; who interrupts puts it back.
            unsafe { *depth -= 1 };
        }
    }

    /// A field; 0 if the kernel has no such field.
    #[inline(always)]
    pub fn get<T: Copy + Default>(&self, offset: u32) -> T {
        if offset as usize > VIEW_BYTES - size_of::<T>() {
            return T::default();
        }
        // SAFETY: inside the copy, as has just been checked.
        unsafe { self.copy.add(offset as usize).cast::<T>().read_volatile() }
    }

    /// A field that shares its byte with others.
    #[inline(always)]
    pub fn bits(&self, field: BitField) -> u8 {
        bits(self.get(field.byte), field)
    }
}
