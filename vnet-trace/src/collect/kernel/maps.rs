//! The maps of the probes: made from what the object declares, filled and read by key.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use super::load::AttachError;
use super::object::{Object, Places};
use super::sys;

/// `BPF_F_RDONLY_PROG`: programs only read it.
const READ_ONLY: u32 = 1 << 7;

/// All maps of the object, its read-only data, and its data that begins as zeroes.
#[derive(Debug)]
pub struct Maps {
    by_name: HashMap<String, OwnedFd>,
    rodata: OwnedFd,
    bss: OwnedFd,
}

impl Maps {
    /// Makes them. `entries` gives other sizes than the object does.
    pub fn create(object: &Object<'_>, rodata: &[u8], entries: &[(&str, u32)]) -> Result<Self, AttachError> {
        let mut by_name = HashMap::new();
        for spec in object.maps() {
            let entries =
                entries.iter().find(|(name, _)| *name == spec.name).map_or(spec.max_entries, |(_, size)| *size);
            let fd = sys::map_create(spec.name, spec.kind, spec.key_size, spec.value_size, entries, spec.flags)
                .map_err(|source| AttachError::map(spec.name, source))?;
            by_name.insert(spec.name.to_owned(), fd);
        }
        let read_only = |source| AttachError::map(".rodata", source);
        let data =
            sys::map_create("rodata", sys::MAP_ARRAY, 4, rodata.len() as u32, 1, READ_ONLY).map_err(read_only)?;
        sys::map_update(data.as_fd(), &[0; 4], rodata).map_err(read_only)?;
        sys::map_freeze(data.as_fd()).map_err(read_only)?;
        let bss = sys::map_create("bss", sys::MAP_ARRAY, 4, object.bss_bytes().max(1), 1, 0)
            .map_err(|source| AttachError::map(".bss", source))?;
        Ok(Self { by_name, rodata: data, bss })
    }

    /// Their file descriptors, for the programs.
    pub fn places(&self) -> Places {
        let number = |fd: &OwnedFd| fd.as_raw_fd();
        Places {
            maps: self.by_name.iter().map(|(name, fd)| (name.clone(), number(fd))).collect(),
            rodata: number(&self.rodata),
            bss: number(&self.bss),
        }
    }

    /// One of them.
    pub fn get(&self, name: &str) -> Result<BorrowedFd<'_>, AttachError> {
        self.by_name.get(name).map(AsFd::as_fd).ok_or_else(|| AttachError::map(name, io::ErrorKind::NotFound.into()))
    }

    /// Takes one of them out.
    pub fn take(&mut self, name: &str) -> Result<OwnedFd, AttachError> {
        self.by_name.remove(name).ok_or_else(|| AttachError::map(name, io::ErrorKind::NotFound.into()))
    }

    /// Puts a key into a set, which is a map to one byte.
    pub fn insert(&self, name: &str, key: &[u8]) -> Result<(), AttachError> {
        sys::map_update(self.get(name)?, key, &[1]).map_err(|source| AttachError::map(name, source))
    }

    /// The numbers that each CPU has counted under an index.
    pub fn per_cpu(&self, name: &str, index: u32, cpus: usize) -> Result<Vec<u64>, AttachError> {
        let mut bytes = vec![0; cpus * 8];
        sys::map_lookup(self.get(name)?, &index.to_ne_bytes(), &mut bytes)
            .map_err(|source| AttachError::map(name, source))?;
        Ok(bytes.as_chunks().0.iter().map(|number| u64::from_ne_bytes(*number)).collect())
    }
}

/// How many CPUs the kernel counts for: the length of the values that it gives for a map of CPUs.
pub fn possible_cpus() -> usize {
    let text = std::fs::read_to_string("/sys/devices/system/cpu/possible").unwrap_or_default();
    let last = text.trim().rsplit([',', '-']).next().and_then(|last| last.parse::<usize>().ok());
    last.map_or(1, |last| last + 1)
}

/// An address as the maps hold it.
pub fn address_key(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    }
}
