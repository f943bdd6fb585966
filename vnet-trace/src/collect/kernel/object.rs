//! The compiled probes: what is in the object file, and one program of it ready for the kernel.
//!
//! Takes the bytes of the ELF file that `cargo xtask ebpf` makes, and gives the maps that it declares, its read-only data,
//! and, program by program, the instructions with all functions that they call. Nothing is done for a program that nobody
//! asks for. A function can be replaced by other instructions on the way, which is how an expression gets into
//! the probes.
//!
//! The formats are those of the ELF specification (64 bit, little endian) and, for relocations and calls, of the kernel's
//! `Documentation/bpf/llvm_reloc.rst`.

use std::collections::HashMap;

/// Why the object cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ObjectError {
    /// The file is not an object, or it ends early.
    #[error("the object's {part} is not where it should be")]
    Malformed {
        /// What could not be read.
        part: &'static str,
    },
    /// Nothing of that name is there.
    #[error("the object has no {name}")]
    Missing {
        /// What was looked for.
        name: String,
    },
    /// An instruction refers to something that is neither a map nor read-only data nor a function.
    #[error("{program} refers to {name}, which is nothing that could be loaded")]
    Reference {
        /// The program.
        program: String,
        /// What it refers to.
        name: String,
    },
}

/// A map that the object declares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MapSpec<'a> {
    /// Its name.
    pub name: &'a str,
    /// `enum bpf_map_type`.
    pub kind: u32,
    /// Bytes of a key.
    pub key_size: u32,
    /// Bytes of a value.
    pub value_size: u32,
    /// Most entries; of a ring buffer its bytes.
    pub max_entries: u32,
    /// `BPF_F_…`.
    pub flags: u32,
}

/// What the addresses in a program are to become.
#[derive(Debug, Default)]
pub struct Places {
    /// File descriptors of maps, by name.
    pub maps: HashMap<String, i32>,
    /// The file descriptor of the map with the read-only data.
    pub rodata: i32,
    /// The file descriptor of the map with the data that begins as zeroes.
    pub bss: i32,
}

/// A program for `BPF_PROG_LOAD`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Linked {
    /// Its instructions, 8 bytes each.
    pub instructions: Vec<u64>,
    /// Pairs of instruction and type: where each function begins, for the verifier.
    pub functions: Vec<[u32; 2]>,
}

/// `BPF_PSEUDO_MAP_FD`, `BPF_PSEUDO_MAP_VALUE`: an address that the kernel fills in.
const PSEUDO_MAP_FD: u64 = 1;
const PSEUDO_MAP_VALUE: u64 = 2;
/// `BPF_PSEUDO_CALL`: a call of another function of the program.
const PSEUDO_CALL: u64 = 1;
/// The opcode of a call.
const CALL: u64 = 0x85;
/// The opcode of the first half of a load of 64 bits.
const LOAD_64: u64 = 0x18;

const SYMBOL_SECTION: u8 = 3;

/// An object file. Its parts are found when it is opened, and read when they are needed.
#[derive(Debug)]
pub struct Object<'a> {
    sections: Vec<Section<'a>>,
    symbols: Vec<Symbol<'a>>,
    by_name: HashMap<&'a str, usize>,
    /// The type of the function that begins at an offset of a section.
    types: HashMap<(usize, u32), u32>,
}

#[derive(Debug)]
struct Section<'a> {
    name: &'a str,
    bytes: &'a [u8],
    /// How many bytes it takes in memory; without a file's bytes they are zeroes.
    size: u64,
    /// Offset of the instruction, and number of the symbol, ascending.
    relocations: Vec<(u64, u32)>,
}

#[derive(Clone, Copy, Debug)]
struct Symbol<'a> {
    name: &'a str,
    kind: u8,
    section: usize,
    value: u64,
    size: u64,
}

impl<'a> Object<'a> {
    /// Finds the parts of an object file.
    pub fn open(bytes: &'a [u8]) -> Result<Self, ObjectError> {
        let malformed = |part| ObjectError::Malformed { part };
        if bytes.get(..6) != Some(b"\x7fELF\x02\x01") {
            return Err(malformed("magic number"));
        }
        let header = "header";
        let table = number(bytes, 0x28, 8).ok_or_else(|| malformed(header))?;
        let count = number(bytes, 0x3c, 2).ok_or_else(|| malformed(header))? as usize;
        let names_at = number(bytes, 0x3e, 2).ok_or_else(|| malformed(header))? as usize;
        let entry = |index: usize, at: usize, size| number(bytes, table as usize + index * 64 + at, size);
        let part = |index: usize| -> Option<&'a [u8]> {
            bytes.get(entry(index, 0x18, 8)? as usize..)?.get(..entry(index, 0x20, 8)? as usize)
        };
        let names = part(names_at).ok_or_else(|| malformed("section names"))?;
        let mut object =
            Self { sections: Vec::new(), symbols: Vec::new(), by_name: HashMap::new(), types: HashMap::new() };
        let mut tables = Vec::new();
        for index in 0..count {
            let kind = entry(index, 4, 4).ok_or_else(|| malformed("section table"))?;
            let name =
                entry(index, 0, 4).and_then(|at| text(names, at as usize)).ok_or_else(|| malformed("section names"))?;
            // A section without bytes in the file.
            let empty = kind == 0 || kind == 8;
            let content = if empty { &[][..] } else { part(index).ok_or_else(|| malformed("sections"))? };
            let size = entry(index, 0x20, 8).ok_or_else(|| malformed("section table"))?;
            object.sections.push(Section { name, bytes: content, size, relocations: Vec::new() });
            match kind {
                2 => {
                    let link = entry(index, 0x28, 4).and_then(|link| part(link as usize));
                    object.symbols = symbols(content, link.ok_or_else(|| malformed("symbol names"))?)
                        .ok_or_else(|| malformed("symbols"))?;
                }
                9 => tables.push((entry(index, 0x2c, 4).unwrap_or(0) as usize, content)),
                _ => {}
            }
        }
        for (of, content) in tables {
            let section = object.sections.get_mut(of).ok_or_else(|| malformed("relocations"))?;
            section.relocations = content
                .chunks_exact(16)
                .filter_map(|entry| Some((number(entry, 0, 8)?, number(entry, 12, 4)? as u32)))
                .collect();
            section.relocations.sort_unstable();
        }
        object.by_name = object.symbols.iter().enumerate().map(|(index, symbol)| (symbol.name, index)).collect();
        object.types = object.function_types().ok_or_else(|| malformed("function types"))?;
        Ok(object)
    }

    /// The maps that it declares.
    pub fn maps(&self) -> Vec<MapSpec<'a>> {
        self.symbols
            .iter()
            .filter(|symbol| symbol.size == 28 && self.section_name(symbol.section) == "maps")
            .filter_map(|symbol| {
                let bytes = self.content(symbol)?;
                let word = |index: usize| number(bytes, index * 4, 4).map(|word| word as u32);
                Some(MapSpec {
                    name: symbol.name,
                    kind: word(0)?,
                    key_size: word(1)?,
                    value_size: word(2)?,
                    max_entries: word(3)?,
                    flags: word(4)?,
                })
            })
            .collect()
    }

    /// The read-only data, in which globals can be replaced with [`Object::global`].
    pub fn rodata(&self) -> Vec<u8> {
        self.section(".rodata").map(<[u8]>::to_vec).unwrap_or_default()
    }

    /// How many bytes of data begin as zeroes.
    pub fn bss_bytes(&self) -> u32 {
        let section = self.sections.iter().find(|section| section.name == ".bss");
        section.map_or(0, |section| u32::try_from(section.size).unwrap_or(u32::MAX))
    }

    /// Where in the read-only data a global is.
    pub fn global(&self, name: &str) -> Result<std::ops::Range<usize>, ObjectError> {
        let symbol = self.symbol(name)?;
        Ok(symbol.value as usize..(symbol.value + symbol.size) as usize)
    }

    /// The types of the functions, for the kernel.
    pub fn btf(&self) -> &'a [u8] {
        self.section(".BTF").unwrap_or_default()
    }

    /// The licence, with the zero that ends it.
    pub fn license(&self) -> &'a [u8] {
        self.section("license").unwrap_or_default()
    }

    /// A program with everything that it calls. `instead` gives other instructions for a function, by its name; they must
    /// not refer to anything.
    pub fn link(
        &self,
        program: &str,
        places: &Places,
        instead: &HashMap<String, Vec<u64>>,
    ) -> Result<Linked, ObjectError> {
        let main = *self.symbol(program)?;
        let mut linked = Linked { instructions: Vec::new(), functions: Vec::new() };
        let mut functions = vec![main];
        let mut starts: Vec<u32> = Vec::new();
        // Which instruction calls which of the functions.
        let mut calls: Vec<(usize, usize)> = Vec::new();
        let mut at = 0;
        while let Some(function) = functions.get(at).copied() {
            let start = linked.instructions.len();
            starts.push(start as u32);
            if let Some(kind) = self.types.get(&(function.section, function.value as u32)) {
                linked.functions.push([start as u32, *kind]);
            }
            at += 1;
            if let Some(replacement) = instead.get(function.name) {
                linked.instructions.extend_from_slice(replacement);
                continue;
            }
            let code = self.content(&function).ok_or(ObjectError::Malformed { part: "code" })?;
            linked.instructions.extend(code.as_chunks().0.iter().map(|bytes| u64::from_le_bytes(*bytes)));
            for index in 0..code.len() / 8 {
                let offset = function.value + index as u64 * 8;
                let here = start + index;
                let instruction = linked.instructions[here];
                let target = self.relocation(function.section, offset);
                if instruction & 0xff == CALL && instruction >> 12 & 0xf == PSEUDO_CALL {
                    let callee = self
                        .callee(&function, target, offset, instruction)
                        .ok_or_else(|| self.reference(program, target))?;
                    let position = functions
                        .iter()
                        .position(|known| (known.section, known.value) == (callee.section, callee.value));
                    let position = position.unwrap_or_else(|| {
                        functions.push(callee);
                        functions.len() - 1
                    });
                    calls.push((here, position));
                } else if instruction & 0xff == LOAD_64
                    && let Some(symbol) = target
                {
                    let [first, second] =
                        self.address(symbol, instruction, places).ok_or_else(|| self.reference(program, target))?;
                    linked.instructions[here] = first;
                    if let Some(next) = linked.instructions.get_mut(here + 1) {
                        *next = second;
                    }
                }
            }
        }
        for (here, position) in calls {
            let distance = i64::from(starts[position]) - here as i64 - 1;
            let instruction = linked.instructions[here] & 0xffff_ffff;
            linked.instructions[here] = instruction | u64::from(distance as u32) << 32;
        }
        Ok(linked)
    }

    /// Both halves of the load of an address that only the kernel knows.
    fn address(&self, symbol: u32, instruction: u64, places: &Places) -> Option<[u64; 2]> {
        let symbol = self.symbols.get(symbol as usize)?;
        let plain = instruction & 0xffff_0fff & 0xffff_ffff;
        match self.section_name(symbol.section) {
            "maps" => {
                let fd = *places.maps.get(symbol.name)?;
                Some([plain | PSEUDO_MAP_FD << 12 | u64::from(fd as u32) << 32, 0])
            }
            section @ (".rodata" | ".bss") => {
                let fd = if section == ".bss" { places.bss } else { places.rodata };
                let offset = symbol.value + (instruction >> 32);
                Some([plain | PSEUDO_MAP_VALUE << 12 | u64::from(fd as u32) << 32, offset << 32])
            }
            _ => None,
        }
    }

    /// The function that a call is for.
    fn callee(&self, caller: &Symbol<'a>, target: Option<u32>, offset: u64, instruction: u64) -> Option<Symbol<'a>> {
        let distance = i64::from((instruction >> 32) as u32 as i32);
        let (section, value) = match target.and_then(|target| self.symbols.get(target as usize)) {
            Some(symbol) if symbol.kind != SYMBOL_SECTION => return Some(*symbol),
            Some(symbol) => (symbol.section, (distance + 1) * 8),
            None => (caller.section, offset as i64 + (distance + 1) * 8),
        };
        self.symbols
            .iter()
            .find(|symbol| symbol.kind == 2 && symbol.section == section && symbol.value as i64 == value)
            .copied()
    }

    fn reference(&self, program: &str, symbol: Option<u32>) -> ObjectError {
        let name = symbol.and_then(|symbol| self.symbols.get(symbol as usize)).map_or("nothing", |symbol| symbol.name);
        ObjectError::Reference { program: program.to_owned(), name: name.to_owned() }
    }

    fn relocation(&self, section: usize, offset: u64) -> Option<u32> {
        let relocations = &self.sections.get(section)?.relocations;
        let at = relocations.binary_search_by_key(&offset, |(offset, _)| *offset).ok()?;
        Some(relocations[at].1)
    }

    fn symbol(&self, name: &str) -> Result<&Symbol<'a>, ObjectError> {
        let missing = || ObjectError::Missing { name: name.to_owned() };
        self.by_name.get(name).and_then(|index| self.symbols.get(*index)).ok_or_else(missing)
    }

    fn content(&self, symbol: &Symbol<'a>) -> Option<&'a [u8]> {
        self.sections.get(symbol.section)?.bytes.get(symbol.value as usize..)?.get(..symbol.size as usize)
    }

    fn section(&self, name: &str) -> Option<&'a [u8]> {
        self.sections.iter().find(|section| section.name == name).map(|section| section.bytes)
    }

    fn section_name(&self, index: usize) -> &'a str {
        self.sections.get(index).map_or("", |section| section.name)
    }

    /// Reads from `.BTF.ext` which function has which type.
    fn function_types(&self) -> Option<HashMap<(usize, u32), u32>> {
        let (Some(ext), Some(btf)) = (self.section(".BTF.ext"), self.section(".BTF")) else {
            return Some(HashMap::new());
        };
        let strings = btf.get((number(btf, 4, 4)? + number(btf, 16, 4)?) as usize..)?;
        let from = (number(ext, 4, 4)? + number(ext, 8, 4)?) as usize;
        let functions = ext.get(from..)?.get(..number(ext, 12, 4)? as usize)?;
        let record = number(functions, 0, 4)? as usize;
        let mut types = HashMap::new();
        let mut at = 4;
        while at < functions.len() {
            let name = text(strings, number(functions, at, 4)? as usize)?;
            let section = self.sections.iter().position(|section| section.name == name)?;
            let count = number(functions, at + 4, 4)? as usize;
            at += 8;
            for _ in 0..count {
                types.insert((section, number(functions, at, 4)? as u32), number(functions, at + 4, 4)? as u32);
                at += record;
            }
        }
        Some(types)
    }
}

fn symbols<'a>(table: &'a [u8], names: &'a [u8]) -> Option<Vec<Symbol<'a>>> {
    table
        .chunks_exact(24)
        .map(|entry| {
            Some(Symbol {
                name: text(names, number(entry, 0, 4)? as usize)?,
                kind: entry[4] & 0xf,
                section: number(entry, 6, 2)? as usize,
                value: number(entry, 8, 8)?,
                size: number(entry, 16, 8)?,
            })
        })
        .collect()
}

/// A number of so many bytes, the lowest first.
fn number(bytes: &[u8], at: usize, size: usize) -> Option<u64> {
    let bytes = bytes.get(at..at.checked_add(size)?)?;
    Some(bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
}

/// The text that begins here and ends with a zero.
fn text(strings: &[u8], at: usize) -> Option<&str> {
    let bytes = strings.get(at..)?;
    let length = bytes.iter().position(|byte| *byte == 0)?;
    std::str::from_utf8(&bytes[..length]).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collect::kernel::TABLE;
    use crate::collect::kernel::load::OBJECT;

    fn places(object: &Object<'_>) -> Places {
        let maps = object.maps().iter().enumerate().map(|(at, map)| (map.name.to_owned(), at as i32 + 3)).collect();
        Places { maps, rodata: 2, bss: 1 }
    }

    #[test]
    fn every_program_of_the_table_can_be_put_together() {
        let object = Object::open(OBJECT).expect("an object");
        let places = places(&object);
        for program in TABLE.iter().flat_map(|row| row.targets).flat_map(super::super::Target::programs) {
            let linked = object.link(program, &places, &HashMap::new()).expect(program);
            assert_eq!(linked.functions.first().map(|first| first[0]), Some(0), "{program}");
            assert!(linked.functions.is_sorted(), "{program}");
            let calls = linked
                .instructions
                .iter()
                .enumerate()
                .filter(|(_, code)| *code & 0xff == CALL && *code >> 12 & 0xf == PSEUDO_CALL);
            for (at, call) in calls {
                let target = at as i64 + 1 + i64::from((call >> 32) as u32 as i32);
                let is_function = linked.functions.iter().any(|[start, _]| i64::from(*start) == target);
                assert!(is_function, "{program}: the call at {at} goes to {target}");
            }
        }
    }

    #[test]
    fn a_file_that_ends_early_is_no_object() {
        for length in (0..OBJECT.len()).step_by(997) {
            let _ = Object::open(&OBJECT[..length]).map(|object| object.maps());
        }
        assert_eq!(Object::open(&OBJECT[..100]).err(), Some(ObjectError::Malformed { part: "section names" }));
    }
}
