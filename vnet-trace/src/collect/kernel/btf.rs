//! The running kernel's own description of its types (BTF): where fields lie, how many arguments a
//! function has, what its numbers are called.
//!
//! Takes `/sys/kernel/btf/vmlinux` (and the files of modules beside it) and answers questions about
//! named types. It is read once, at the start of a trace, so it must be fast: one sweep over about
//! 150,000 types notes where each of them begins and which of them carry a name that somebody wants;
//! nothing else is decoded until it is asked for.
//!
//! The format is documented in the kernel's `Documentation/bpf/btf.rst`.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where the kernel shows its BTF.
const DIRECTORY: &str = "/sys/kernel/btf";

/// Why BTF could not be read.
#[derive(Debug, thiserror::Error)]
pub enum BtfError {
    /// The kernel has no BTF, or we may not read it.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// Not BTF.
    #[error("not BTF: magic number {found:#06x} instead of 0xeb9f")]
    Magic {
        /// What stood in place of the magic number.
        found: u16,
    },
    /// The file ends early.
    #[error("BTF {section} needs {needed} bytes but has {had}")]
    Truncated {
        /// Which part of the file.
        section: &'static str,
        /// How many bytes it should have.
        needed: usize,
        /// How many bytes there are.
        had: usize,
    },
    /// A type of a kind that this version does not know, so that its length is unknown too.
    #[error("BTF type {id} is of unknown kind {kind}")]
    Kind {
        /// Its number.
        id: u32,
        /// Its kind.
        kind: u8,
    },
}

/// Kinds of types that can be asked for by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A structure.
    Struct,
    /// An enumeration.
    Enum,
    /// A `typedef`; tracepoints are described by those named `btf_trace_…`.
    Typedef,
    /// A function.
    Func,
}

/// Where a field lies in its structure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// Bits from the start of the structure.
    pub bit_offset: u32,
    /// Width if it is a bit field.
    pub bit_size: Option<u32>,
}

impl Field {
    /// Bytes from the start of the structure.
    pub fn byte_offset(self) -> u32 {
        self.bit_offset / 8
    }
}

/// A parsed BTF file. A module's types continue the numbers, and the strings, of `vmlinux`.
#[derive(Debug)]
pub struct Btf {
    data: Vec<u8>,
    /// Where each type begins in `data`.
    types: Vec<u32>,
    /// Where the strings begin in `data`.
    strings: usize,
    string_bytes: usize,
    base: Option<Arc<Btf>>,
    named: HashMap<(Kind, String), u32>,
}

const HEADER: usize = 24;
const KIND_STRUCT: u8 = 4;
const KIND_UNION: u8 = 5;
const KIND_ENUM: u8 = 6;
const KIND_TYPEDEF: u8 = 8;
const KIND_FUNC: u8 = 12;
const KIND_FUNC_PROTO: u8 = 13;
const KIND_ENUM64: u8 = 19;

impl Btf {
    /// Reads the kernel's own BTF and notes where the wanted names are, and all enumerations whose
    /// name ends in `drop_reason`.
    pub fn vmlinux(wanted: &Wanted) -> Result<Self, BtfError> {
        Self::read(&Path::new(DIRECTORY).join("vmlinux"), None, wanted)
    }

    /// Reads the BTF of a loaded module.
    pub fn module(name: &str, base: &Arc<Self>, wanted: &Wanted) -> Result<Self, BtfError> {
        Self::read(&Path::new(DIRECTORY).join(name), Some(Arc::clone(base)), wanted)
    }

    fn read(path: &Path, base: Option<Arc<Self>>, wanted: &Wanted) -> Result<Self, BtfError> {
        let data = std::fs::read(path).map_err(|source| BtfError::Read { path: path.to_owned(), source })?;
        Self::parse(data, base, wanted)
    }

    /// Parses BTF.
    pub fn parse(data: Vec<u8>, base: Option<Arc<Self>>, wanted: &Wanted) -> Result<Self, BtfError> {
        if data.len() < HEADER {
            return Err(BtfError::Truncated { section: "header", needed: HEADER, had: data.len() });
        }
        let magic = u16::from_ne_bytes([data[0], data[1]]);
        if magic != 0xeb9f {
            return Err(BtfError::Magic { found: magic });
        }
        let header = |at| word(&data, at) as usize;
        let start = header(4);
        let (type_at, type_bytes) = (start + header(8), header(12));
        let (strings, string_bytes) = (start + header(16), header(20));
        for (section, end) in [("types", type_at + type_bytes), ("strings", strings + string_bytes)] {
            if end > data.len() {
                return Err(BtfError::Truncated { section, needed: end, had: data.len() });
            }
        }
        let mut btf = Self { data, types: Vec::new(), strings, string_bytes, base, named: HashMap::new() };
        btf.sweep(type_at, type_at + type_bytes, wanted)?;
        Ok(btf)
    }

    fn sweep(&mut self, start: usize, end: usize, wanted: &Wanted) -> Result<(), BtfError> {
        let first = self.first_id();
        let mut types = Vec::with_capacity((end - start) / 24);
        let mut named = HashMap::new();
        let mut at = start;
        while at + 12 <= end {
            let id = first + types.len() as u32;
            types.push(at as u32);
            let info = word(&self.data, at + 4);
            let kind = kind_of(info);
            let named_kind = match kind {
                KIND_STRUCT => Some(Kind::Struct),
                KIND_ENUM | KIND_ENUM64 => Some(Kind::Enum),
                KIND_TYPEDEF => Some(Kind::Typedef),
                KIND_FUNC => Some(Kind::Func),
                _ => None,
            };
            if let Some(named_kind) = named_kind {
                let name = self.string(word(&self.data, at));
                if wanted.contains(name) || named_kind == Kind::Enum && is_reasons(name) {
                    named.entry((named_kind, String::from_utf8_lossy(name).into_owned())).or_insert(id);
                }
            }
            at += 12 + trailing_bytes(kind, vlen_of(info)).ok_or(BtfError::Kind { id, kind })?;
        }
        if at > end {
            return Err(BtfError::Truncated { section: "types", needed: at, had: end });
        }
        self.types = types;
        self.named = named;
        Ok(())
    }

    /// The number of a type; None if there is none of that name, or the name was not among the wanted.
    pub fn id(&self, kind: Kind, name: &str) -> Option<u32> {
        let key = (kind, name.to_owned());
        self.named.get(&key).copied().or_else(|| self.base.as_ref()?.id(kind, name))
    }

    /// A field of a structure, by a path such as `__sk_common.skc_net.net`; anonymous structures and
    /// unions on the way are looked into.
    pub fn field(&self, structure: &str, path: &str) -> Option<Field> {
        let mut id = self.id(Kind::Struct, structure)?;
        let mut bits = 0;
        let mut size = None;
        for name in path.split('.') {
            let (field, member) = self.member(self.resolve(id)?, name, 0)?;
            bits += field.bit_offset;
            size = field.bit_size;
            id = member;
        }
        Some(Field { bit_offset: bits, bit_size: size })
    }

    /// A member of a structure or union by name: where it lies, and its type.
    fn member(&self, id: u32, name: &str, depth: u32) -> Option<(Field, u32)> {
        let info = self.info(id)?;
        if depth > 8 || !matches!(kind_of(info), KIND_STRUCT | KIND_UNION) {
            return None;
        }
        let at = self.at(id)? + 12;
        for index in 0..vlen_of(info) {
            let at = at + index * 12;
            let member_name = self.owner(id).string(self.word(id, at));
            let member_type = self.word(id, at + 4);
            let offset = self.word(id, at + 8);
            // With the flag set, the upper byte is the width of a bit field.
            let (bit_offset, width) = if info >> 31 == 1 { (offset & 0x00ff_ffff, offset >> 24) } else { (offset, 0) };
            if member_name == name.as_bytes() {
                let bit_size = (width != 0).then_some(width);
                return Some((Field { bit_offset, bit_size }, member_type));
            }
            if member_name.is_empty()
                && let Some((inner, found)) = self.resolve(member_type).and_then(|id| self.member(id, name, depth + 1))
            {
                let bit_offset = bit_offset + inner.bit_offset;
                return Some((Field { bit_offset, ..inner }, found));
            }
        }
        None
    }

    /// How many arguments a function has.
    pub fn function_arguments(&self, function: &str) -> Option<usize> {
        let func = self.id(Kind::Func, function)?;
        Some(vlen_of(self.info(self.type_word(func)?)?))
    }

    /// How many arguments a tracepoint has; its first, private argument is not counted.
    pub fn tracepoint_arguments(&self, tracepoint: &str) -> Option<usize> {
        let typedef = self.id(Kind::Typedef, &format!("btf_trace_{tracepoint}"))?;
        let proto = self.type_word(self.type_word(typedef)?)?;
        let info = self.info(proto)?;
        (kind_of(info) == KIND_FUNC_PROTO).then(|| vlen_of(info).saturating_sub(1))
    }

    /// Whether a function returns an enumeration of this name.
    pub fn returns_enum(&self, function: &str, enumeration: &str) -> bool {
        self.id(Kind::Func, function)
            .and_then(|func| self.type_word(func))
            .and_then(|proto| self.type_word(proto))
            .and_then(|returned| self.resolve(returned))
            .is_some_and(|returned| {
                self.info(returned).is_some_and(|info| matches!(kind_of(info), KIND_ENUM | KIND_ENUM64))
                    && self.name(returned) == Some(enumeration.as_bytes())
            })
    }

    /// The names of all enumerations that were noted.
    pub fn enumerations(&self) -> impl Iterator<Item = &str> {
        self.named.keys().filter(|(kind, _)| *kind == Kind::Enum).map(|(_, name)| name.as_str())
    }

    /// Names and values of an enumeration, values as their lower 32 bits.
    pub fn enumerators(&self, name: &str) -> Vec<(String, u32)> {
        let Some(id) = self.id(Kind::Enum, name) else {
            return Vec::new();
        };
        let (Some(info), Some(at)) = (self.info(id), self.at(id)) else {
            return Vec::new();
        };
        let width = if kind_of(info) == KIND_ENUM64 { 12 } else { 8 };
        (0..vlen_of(info))
            .map(|index| {
                let at = at + 12 + index * width;
                let name = self.owner(id).string(self.word(id, at));
                (String::from_utf8_lossy(name).into_owned(), self.word(id, at + 4))
            })
            .collect()
    }

    /// Steps through typedefs and qualifiers.
    fn resolve(&self, mut id: u32) -> Option<u32> {
        for _ in 0..32 {
            let info = self.info(id)?;
            match kind_of(info) {
                // typedef, volatile, const, restrict, type tag
                8..=11 | 18 => id = self.type_word(id)?,
                _ => return Some(id),
            }
        }
        None
    }

    fn first_id(&self) -> u32 {
        self.base.as_ref().map_or(1, |base| base.first_id() + base.types.len() as u32)
    }

    /// The file that a type is in.
    fn owner(&self, id: u32) -> &Self {
        match &self.base {
            Some(base) if id < self.first_id() => base.owner(id),
            _ => self,
        }
    }

    fn at(&self, id: u32) -> Option<usize> {
        let owner = self.owner(id);
        let index = id.checked_sub(owner.first_id())?;
        owner.types.get(index as usize).map(|at| *at as usize)
    }

    fn info(&self, id: u32) -> Option<u32> {
        Some(self.word(id, self.at(id)? + 4))
    }

    /// The third word of a type: the type that it refers to.
    fn type_word(&self, id: u32) -> Option<u32> {
        Some(self.word(id, self.at(id)? + 8))
    }

    fn name(&self, id: u32) -> Option<&[u8]> {
        let owner = self.owner(id);
        Some(owner.string(self.word(id, self.at(id)?)))
    }

    /// A word of the file that a type is in.
    fn word(&self, id: u32, at: usize) -> u32 {
        word(&self.owner(id).data, at)
    }

    fn string(&self, offset: u32) -> &[u8] {
        let mut offset = offset as usize;
        if let Some(base) = &self.base {
            let below = base.all_string_bytes();
            if offset < below {
                return base.string(offset as u32);
            }
            offset -= below;
        }
        let end = self.strings + self.string_bytes;
        let from = (self.strings + offset).min(end);
        let bytes = &self.data[from..end];
        let length = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
        &bytes[..length]
    }

    fn all_string_bytes(&self) -> usize {
        self.string_bytes + self.base.as_ref().map_or(0, |base| base.all_string_bytes())
    }
}

/// The names that somebody will ask for, arranged so that most others are told apart by their first
/// byte and their length.
#[derive(Debug, Default)]
pub struct Wanted {
    names: HashSet<Vec<u8>>,
    by_first: Vec<u64>,
}

impl Wanted {
    /// Collects names.
    pub fn new<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        let mut wanted = Self { by_first: vec![0; 256], ..Self::default() };
        for name in names {
            let bytes = name.as_bytes();
            if let Some(first) = bytes.first() {
                wanted.by_first[usize::from(*first)] |= 1 << (bytes.len() & 63);
                wanted.names.insert(bytes.to_vec());
            }
        }
        wanted
    }

    fn contains(&self, name: &[u8]) -> bool {
        name.first().is_some_and(|first| {
            self.by_first
                .get(usize::from(*first))
                .is_some_and(|lengths| lengths & 1 << (name.len() & 63) != 0 && self.names.contains(name))
        })
    }
}

fn is_reasons(name: &[u8]) -> bool {
    name.ends_with(b"drop_reason")
}

fn word(data: &[u8], at: usize) -> u32 {
    data.get(at..at + 4).map_or(0, |bytes| u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
}

fn kind_of(info: u32) -> u8 {
    (info >> 24 & 0x1f) as u8
}

fn vlen_of(info: u32) -> usize {
    (info & 0xffff) as usize
}

/// How many bytes follow the three words that all types begin with.
fn trailing_bytes(kind: u8, vlen: usize) -> Option<usize> {
    Some(match kind {
        // pointer, forward, typedef, volatile, const, restrict, function, float, type tag
        2 | 7..=12 | 16 | 18 => 0,
        // integer, variable, declaration tag
        1 | 14 | 17 => 4,
        // array
        3 => 12,
        // enumeration, function prototype
        KIND_ENUM | KIND_FUNC_PROTO => vlen * 8,
        // structure, union, section, 64-bit enumeration
        KIND_STRUCT | KIND_UNION | 15 | KIND_ENUM64 => vlen * 12,
        _ => return None,
    })
}

#[cfg(test)]
mod tests;
