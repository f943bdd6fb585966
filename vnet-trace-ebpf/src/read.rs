//! Reading kernel memory: at offsets that user space found in the running kernel's BTF.
//!
//! A Rust object carries no field relocations, so user space writes the offsets into [`OFFSETS`]
//! before the kernel loads the object. The map behind it is read-only and frozen, which makes every
//! offset a known constant for the verifier: a branch on an offset that is [`ABSENT`] is cut off
//! before it is checked.
//!
//! There are two ways to read, and each program uses one of them throughout:
//!
//! - [`Direct`]: where the kernel hands over a pointer whose type it knows (`tp_btf`, `fentry`,
//!   `fexit`), a field is an ordinary load, and a pointer loaded so has a known type again. A fault
//!   reads as 0.
//! - [`Copied`]: where the pointer is a mere number (`kprobe`, `raw_tracepoint`), through
//!   `bpf_probe_read_kernel`.
//!
//! From 6.17 on a direct load of a pointer to bytes, such as `skb->head`, gives a typed pointer too,
//! which no function may be given as a number; [`number`] reads it as one.
//!
//! What has no type even there (packet bytes, pointers with flag bits, arrays at the end of a
//! structure) is read with [`copy`], which serves both.

use core::ffi::c_void;
use core::mem::MaybeUninit;
use core::ptr;

use aya_ebpf::helpers::generated::bpf_probe_read_kernel as probe_read_kernel;
use vnet_trace_ebpf::{ABSENT, BitField, Config, Offsets};

/// Offsets in the running kernel's structures, written before load.
#[unsafe(no_mangle)]
pub static OFFSETS: Offsets = Offsets::ABSENT;

/// What is asked for, written before load.
#[unsafe(no_mangle)]
pub static CONFIG: Config =
    Config { tunnel_ports: [0; 4], mode: 0, only_netns: 0, kfree_reason: 0, consume_location: 0, reserved: [0; 4] };

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

/// A pointer into kernel memory.
pub type Kernel = *const u8;

/// How a field of a kernel structure is read.
pub trait Access {
    /// Reads a `T` at `base + offset`; 0 if it cannot be read.
    fn load<T: Copy + Default>(base: Kernel, offset: u32) -> T;

    /// Reads a field that some kernels lack; 0 there, and for a null pointer.
    #[inline(always)]
    fn field<T: Copy + Default>(base: Kernel, offset: u32) -> T {
        if offset == ABSENT || base.is_null() {
            return T::default();
        }
        Self::load(base, offset)
    }

    /// Reads a pointer; null if it cannot be read.
    #[inline(always)]
    fn pointer(base: Kernel, offset: u32) -> Kernel {
        if offset == ABSENT || base.is_null() {
            return ptr::null();
        }
        Self::load_pointer(base, offset)
    }

    /// Reads a pointer at `base + offset`, which must be readable.
    fn load_pointer(base: Kernel, offset: u32) -> Kernel;

    /// Reads a field that shares its byte with others.
    #[inline(always)]
    fn bits(base: Kernel, field: BitField) -> u8 {
        if field.byte == ABSENT {
            return 0;
        }
        let byte: u8 = Self::load(base, field.byte);
        (byte >> (field.shift & 7)) & field.mask as u8
    }
}

/// Loads from pointers whose type the kernel knows.
pub struct Direct;

impl Access for Direct {
    #[inline(always)]
    fn load<T: Copy + Default>(base: Kernel, offset: u32) -> T {
        // SAFETY: the verifier admits the load only inside the structure; a fault reads as 0.
        unsafe { base.add(offset as usize).cast::<T>().read_volatile() }
    }

    #[inline(always)]
    fn load_pointer(base: Kernel, offset: u32) -> Kernel {
        // SAFETY: as above.
        unsafe { base.add(offset as usize).cast::<Kernel>().read_volatile() }
    }
}

/// Copies from pointers that are mere numbers.
pub struct Copied;

impl Access for Copied {
    #[inline(always)]
    fn load<T: Copy + Default>(base: Kernel, offset: u32) -> T {
        copy(base as u64 + u64::from(offset))
    }

    #[inline(always)]
    fn load_pointer(base: Kernel, offset: u32) -> Kernel {
        let address: u64 = copy(base as u64 + u64::from(offset));
        address as Kernel
    }
}

/// Copies a `T` from a kernel address; zeroes if it cannot be read.
#[inline(always)]
pub fn copy<T: Copy + Default>(address: u64) -> T {
    let mut value = MaybeUninit::<T>::uninit();
    // SAFETY: the helper checks the address, and on failure fills the memory with zeroes, which are
    // a value of the integers and arrays of integers that this is used for.
    unsafe {
        probe_read_kernel(value.as_mut_ptr().cast(), size_of::<T>() as u32, address as *const c_void);
        value.assume_init()
    }
}

/// Reads a pointer as a number, whatever the verifier would make of it.
#[inline(always)]
pub fn number(base: Kernel, offset: u32) -> u64 {
    copy(base as u64 + u64::from(offset))
}

/// The inode number of a device's network namespace; 0 for no device.
#[inline(always)]
pub fn dev_netns<A: Access>(dev: Kernel) -> u32 {
    net_inum::<A>(A::pointer(dev, offset!(dev_net)))
}

/// The inode number of a `struct net`; 0 for null.
#[inline(always)]
pub fn net_inum<A: Access>(net: Kernel) -> u32 {
    A::field(net, offset!(net_inum))
}

/// The interface index of a device; 0 for no device.
#[inline(always)]
pub fn dev_ifindex<A: Access>(dev: Kernel) -> u32 {
    A::field(dev, offset!(dev_ifindex))
}
