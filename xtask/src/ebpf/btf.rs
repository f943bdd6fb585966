//! Makes the type information of the object no larger than the kernel's verifier needs.
//!
//! The compiler adds to it which source line each instruction comes from, with the text of the line, so that a mere
//! change of formatting would change the object. Here the lines are taken out, and the strings that only they used.
//! What stays: the types, and which function is which type, without which the verifier would not check the larger
//! functions on their own. The format is documented in the kernel's `Documentation/bpf/btf.rst`.

use std::collections::HashMap;

use anyhow::{Context, Result, bail};

/// Length of the header of `.BTF`.
const HEADER: usize = 24;

/// Length of the header of `.BTF.ext` as far as it is used: functions and lines.
const EXT_HEADER: usize = 24;

/// The sections `.BTF` and `.BTF.ext` without lines.
pub fn without_lines(btf: &[u8], ext: &[u8]) -> Result<(Vec<u8>, Vec<u8>)> {
    let start = word(btf, 4)? as usize;
    let types = section(btf, start + word(btf, 8)? as usize, word(btf, 12)? as usize)?;
    let strings = section(btf, start + word(btf, 16)? as usize, word(btf, 20)? as usize)?;
    let mut kept = Strings { old: strings, new: vec![0], at: HashMap::from([(0, 0)]) };

    let mut types = types.to_vec();
    let mut at = 0;
    while at < types.len() {
        let info = word(&types, at + 4)?;
        let count = (info & 0xffff) as usize;
        kept.rename(&mut types, at)?;
        // How long each entry behind a type is, and whether it begins with a name.
        let (entries, length, named) = match info >> 24 & 0x1f {
            1 | 14 | 17 => (1, 4, false),
            3 => (1, 12, false),
            4 | 5 | 19 => (count, 12, true),
            6 | 13 => (count, 8, true),
            15 => (count, 12, false),
            2 | 7..=12 | 16 | 18 => (0, 0, false),
            kind => bail!("BTF type of unknown kind {kind}"),
        };
        at += 12;
        for _ in 0..entries {
            if named {
                kept.rename(&mut types, at)?;
            }
            at += length;
        }
    }

    let functions_at = word(ext, 4)? as usize + word(ext, 8)? as usize;
    let mut functions = section(ext, functions_at, word(ext, 12)? as usize)?.to_vec();
    let record = word(&functions, 0)? as usize;
    let mut at = 4;
    while at < functions.len() {
        kept.rename(&mut functions, at)?;
        at += 8 + record * word(&functions, at + 4)? as usize;
    }

    Ok((join(&types, &kept.new), extension(&functions)))
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

/// The strings that are used, moved together.
struct Strings<'a> {
    old: &'a [u8],
    new: Vec<u8>,
    at: HashMap<u32, u32>,
}

impl Strings<'_> {
    /// Replaces the offset of a string by its new one.
    fn rename(&mut self, bytes: &mut [u8], at: usize) -> Result<()> {
        let offset = word(bytes, at)?;
        let new = match self.at.get(&offset) {
            Some(new) => *new,
            None => self.keep(offset)?,
        };
        bytes[at..at + 4].copy_from_slice(&new.to_le_bytes());
        Ok(())
    }

    fn keep(&mut self, offset: u32) -> Result<u32> {
        let text = self.old.get(offset as usize..).context("BTF names a string beyond its strings")?;
        let end = text.iter().position(|byte| *byte == 0).context("BTF string without an end")?;
        let new = self.new.len() as u32;
        self.new.extend_from_slice(&text[..=end]);
        self.at.insert(offset, new);
        Ok(new)
    }
}

fn section(bytes: &[u8], at: usize, length: usize) -> Result<&[u8]> {
    bytes.get(at..at + length).context("BTF ends early")
}

fn word(bytes: &[u8], at: usize) -> Result<u32> {
    let bytes = section(bytes, at, 4)?;
    Ok(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
}
