//! Makes the type information of the object what the kernel's verifier needs, and no more.
//!
//! The compiler describes every type of the program, and which source line each instruction comes from. The verifier wants
//! to know which function is which, how many arguments it has, and whether it is checked on its own (a global one) or with
//! each of its callers. That is what stays: functions whose arguments are numbers. So the kernel takes the information as it
//! is, no name of the source has to be mended when the object is loaded, and a mere change of formatting does not change
//! the object. The format is documented in the kernel's `Documentation/bpf/btf.rst`.

use std::collections::HashMap;

use anyhow::{Context, Result, bail};

/// Length of the header of `.BTF`.
const HEADER: usize = 24;

/// Length of the header of `.BTF.ext` as far as it is used: functions and lines.
const EXT_HEADER: usize = 24;

const KIND_INT: u32 = 1;
const KIND_FUNC: u32 = 12;
const KIND_FUNC_PROTO: u32 = 13;

/// Functions that are given addresses, so that they are checked with their callers: those that the compiler calls for
/// copies, and the one that stands for an expression.
const WITH_CALLER: [&str; 5] = ["memset", "memcpy", "memmove", "memcmp", "filter_expression"];

/// The sections `.BTF` and `.BTF.ext` with functions only.
pub fn functions_only(btf: &[u8], ext: &[u8]) -> Result<(Vec<u8>, Vec<u8>)> {
    let start = word(btf, 4)? as usize;
    let types = section(btf, start + word(btf, 8)? as usize, word(btf, 12)? as usize)?;
    let strings = section(btf, start + word(btf, 16)? as usize, word(btf, 20)? as usize)?;
    let old = read(types)?;
    let mut new = Types { bytes: Vec::new(), count: 0, strings: vec![0], at: HashMap::new() };
    let number = new.integer("u64", 8);

    let functions_at = word(ext, 4)? as usize + word(ext, 8)? as usize;
    let mut functions = section(ext, functions_at, word(ext, 12)? as usize)?.to_vec();
    let record = word(&functions, 0)? as usize;
    let mut at = 4;
    while at < functions.len() {
        let name = text(strings, word(&functions, at)?)?;
        put(&mut functions, at, new.string(name));
        let count = word(&functions, at + 4)? as usize;
        at += 8;
        for _ in 0..count {
            let function = old.get(word(&functions, at + 4)? as usize - 1).context("a function without a type")?;
            let proto = old.get(function.third as usize - 1).context("a function without arguments")?;
            if (function.kind, proto.kind) != (KIND_FUNC, KIND_FUNC_PROTO) {
                bail!("a function that is none");
            }
            let name = text(strings, function.name)?;
            let returned = if proto.third == 0 { 0 } else { number };
            let is_global = function.count == 1 && !WITH_CALLER.contains(&name);
            let id = new.function(name, proto.count, number, returned, is_global);
            put(&mut functions, at + 4, id);
            at += record;
        }
    }
    Ok((join(&new.bytes, &new.strings), extension(&functions)))
}

/// One type of the compiler's.
struct Type {
    name: u32,
    kind: u32,
    count: u32,
    third: u32,
}

fn read(types: &[u8]) -> Result<Vec<Type>> {
    let mut read = Vec::new();
    let mut at = 0;
    while at < types.len() {
        let info = word(types, at + 4)?;
        let (kind, count) = (info >> 24 & 0x1f, info & 0xffff);
        read.push(Type { name: word(types, at)?, kind, count, third: word(types, at + 8)? });
        at += 12
            + match kind {
                KIND_INT | 14 | 17 => 4,
                3 => 12,
                4 | 5 | 15 | 19 => count as usize * 12,
                6 | KIND_FUNC_PROTO => count as usize * 8,
                2 | 7..=12 | 16 | 18 => 0,
                kind => bail!("BTF type of unknown kind {kind}"),
            };
    }
    Ok(read)
}

/// The types that stay.
struct Types {
    bytes: Vec<u8>,
    count: u32,
    strings: Vec<u8>,
    at: HashMap<String, u32>,
}

impl Types {
    fn add(&mut self, name: u32, info: u32, third: u32, more: &[u32]) -> u32 {
        for word in [name, info, third].iter().chain(more) {
            self.bytes.extend_from_slice(&word.to_le_bytes());
        }
        self.count += 1;
        self.count
    }

    fn integer(&mut self, name: &str, size: u32) -> u32 {
        let name = self.string(name);
        self.add(name, KIND_INT << 24, size, &[size * 8])
    }

    fn function(&mut self, name: &str, arguments: u32, of: u32, returned: u32, is_global: bool) -> u32 {
        let named: Vec<u32> = (0..arguments).flat_map(|index| [self.string(&format!("a{index}")), of]).collect();
        let proto = self.add(0, KIND_FUNC_PROTO << 24 | arguments, returned, &named);
        let name = self.string(name);
        self.add(name, KIND_FUNC << 24 | u32::from(is_global), proto, &[])
    }

    fn string(&mut self, text: &str) -> u32 {
        if let Some(at) = self.at.get(text) {
            return *at;
        }
        let at = self.strings.len() as u32;
        self.strings.extend_from_slice(text.as_bytes());
        self.strings.push(0);
        self.at.insert(text.to_owned(), at);
        at
    }
}

/// A `.BTF` of these types and strings.
fn join(types: &[u8], strings: &[u8]) -> Vec<u8> {
    let (types_length, strings_length) = (types.len() as u32, strings.len() as u32);
    let mut btf = magic();
    for word in [HEADER as u32, 0, types_length, types_length, strings_length] {
        btf.extend_from_slice(&word.to_le_bytes());
    }
    btf.extend_from_slice(types);
    btf.extend_from_slice(strings);
    btf
}

/// A `.BTF.ext` of these functions and no lines: of the lines only the length of a record remains.
fn extension(functions: &[u8]) -> Vec<u8> {
    let mut ext = magic();
    let length = functions.len() as u32;
    for word in [EXT_HEADER as u32, 0, length, length, 4] {
        ext.extend_from_slice(&word.to_le_bytes());
    }
    ext.extend_from_slice(functions);
    ext.extend_from_slice(&16_u32.to_le_bytes());
    ext
}

/// Magic number, version and flags, of a little-endian target.
fn magic() -> Vec<u8> {
    vec![0x9f, 0xeb, 1, 0]
}

fn text(strings: &[u8], at: u32) -> Result<&str> {
    let text = strings.get(at as usize..).context("BTF names a string beyond its strings")?;
    let end = text.iter().position(|byte| *byte == 0).context("BTF string without an end")?;
    std::str::from_utf8(&text[..end]).context("BTF string that is no text")
}

fn put(bytes: &mut [u8], at: usize, word: u32) {
    bytes[at..at + 4].copy_from_slice(&word.to_le_bytes());
}

fn section(bytes: &[u8], at: usize, length: usize) -> Result<&[u8]> {
    bytes.get(at..at + length).context("BTF ends early")
}

fn word(bytes: &[u8], at: usize) -> Result<u32> {
    let bytes = section(bytes, at, 4)?;
    Ok(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
}
