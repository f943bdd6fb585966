//! Classic BPF becomes eBPF.
//!
//! The result is the body of a function `(frame, available, length) -> verdict` without a reference to anything outside
//! it: the probes call it with the address of a frame, of which `available` bytes are there and which is `length` bytes
//! long. The verdict is 0 for no, 1 for yes, and 2 if it depends on a byte that the frame has but that is not there.
//!
//! | register | holds |
//! | --- | --- |
//! | r0 | where a load is, until the verdict |
//! | r1, r2, r3 | frame, available, length |
//! | r4, r5 | what a load computes |
//! | r7, r8 | A, X |
//! | stack | scratch memory |
//!
//! A load first compares where it ends with what is available, unless it is known on every way that leads there that so
//! much is: most programs ask for the EtherType first and look at each header several times.
//!
//! The instruction sets are described in the kernel's `Documentation/bpf/standardization/instruction-set.rst`.

use super::classic::{
    ABS, ALU, BYTE, DIV, HALF, IMM, IND, Instruction, JA, JEQ, JGE, JGT, JMP, JSET, LD, LDX, LEN, LSH, MEM, MEMORY,
    MOD, MSH, NEG, OPERATION, RET, RETURN_A, RSH, SOURCE_X, ST, STX, TXA,
};
use super::reach::LIMIT;

const R0: u8 = 0;
const FRAME: u8 = 1;
const AVAILABLE: u8 = 2;
const LENGTH: u8 = 3;
const END: u8 = 4;
const PLACE: u8 = 5;
const A: u8 = 7;
const X: u8 = 8;
const STACK: u8 = 10;

/// Classes of eBPF, and what goes with them.
const ALU32: u8 = 0x04;
const ALU64: u8 = 0x07;
const JMP64: u8 = 0x05;
const JMP32: u8 = 0x06;
const MOVE: u8 = 0xb0;
const REGISTER: u8 = 0x08;
const LOAD: u8 = 0x61;
const STORE: u8 = 0x63;
const LOAD_HALF: u8 = 0x69;
const LOAD_BYTE: u8 = 0x71;
const TO_BIG_ENDIAN: u8 = 0xdc;
const EXIT: u8 = 0x95;

/// Verdicts.
const NO: i32 = 0;
const YES: i32 = 1;
const UNKNOWN: i32 = 2;

/// Where a jump goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Target {
    /// A classic instruction.
    Classic(usize),
    /// The end for loads that end, at the place in `END`, behind what is available.
    Outside,
    /// The end for frames that do not match.
    No,
}

/// A program under way.
#[derive(Default)]
struct Writer {
    code: Vec<u64>,
    /// Jumps whose distance is not known yet.
    jumps: Vec<(usize, Target)>,
}

impl Writer {
    fn put(&mut self, code: u8, to: u8, from: u8, offset: i16, k: i32) {
        let registers = u64::from(from << 4 | to);
        let word = u64::from(code) | registers << 8 | u64::from(offset as u16) << 16 | u64::from(k as u32) << 32;
        self.code.push(word);
    }

    /// An operation of 32 bits with a constant.
    fn constant(&mut self, operation: u8, to: u8, k: u32) {
        self.put(ALU32 | operation, to, 0, 0, k as i32);
    }

    /// An operation of 32 bits with a register.
    fn register(&mut self, operation: u8, to: u8, from: u8) {
        self.put(ALU32 | REGISTER | operation, to, from, 0, 0);
    }

    fn jump(&mut self, code: u8, of: u8, with: u8, k: u32, target: Target) {
        self.jumps.push((self.code.len(), target));
        self.put(code, of, with, 0, k as i32);
    }

    fn jumps_to(&self, target: Target) -> bool {
        self.jumps.iter().any(|(_, to)| *to == target)
    }

    fn finish(&mut self, verdict: i32) {
        self.put(ALU64 | MOVE, R0, 0, 0, verdict);
        self.put(EXIT, 0, 0, 0, 0);
    }
}

/// Translates a program of which [`super::reach::reach`] has nothing to say. None if a jump becomes too long, or there is
/// an instruction that classic BPF does not have.
pub fn translate(program: &[Instruction]) -> Option<Vec<u64>> {
    let available = available(program);
    let mut writer = Writer::default();
    let mut starts = Vec::with_capacity(program.len());
    writer.constant(MOVE, A, 0);
    writer.constant(MOVE, X, 0);
    if program.iter().any(|instruction| touches_memory(*instruction)) {
        for word in 0..MEMORY {
            // 0x62: a word that is a constant.
            writer.put(0x62, STACK, 0, slot(word)?, 0);
        }
    }
    for (at, instruction) in program.iter().enumerate() {
        starts.push(writer.code.len());
        // The kernel refuses a program with instructions that no way leads to.
        if let Some(available) = available[at] {
            one(&mut writer, at, *instruction, available)?;
        }
    }
    let outside = writer.code.len();
    if writer.jumps_to(Target::Outside) {
        // What ends behind the frame is not there for anybody; what is only not at hand leaves the question open.
        writer.jump(JMP32 | REGISTER | 0x20, END, LENGTH, 0, Target::No);
        writer.finish(UNKNOWN);
    }
    let no = writer.code.len();
    if writer.jumps_to(Target::No) {
        writer.finish(NO);
    }
    for (at, target) in std::mem::take(&mut writer.jumps) {
        let to = match target {
            Target::Classic(index) => *starts.get(index)?,
            Target::Outside => outside,
            Target::No => no,
        };
        let distance = i16::try_from(to as i64 - at as i64 - 1).ok()?;
        writer.code[at] |= u64::from(distance as u16) << 16;
    }
    Some(writer.code)
}

fn touches_memory(instruction: Instruction) -> bool {
    matches!(instruction.class(), ST | STX) || matches!(instruction.class(), LD | LDX) && instruction.mode() == MEM
}

/// Where a word of scratch memory is, counted from the top of the stack.
fn slot(word: usize) -> Option<i16> {
    (word < MEMORY).then(|| -4 * (MEMORY as i16 - word as i16))
}

fn one(writer: &mut Writer, at: usize, instruction: Instruction, available: u32) -> Option<()> {
    let Instruction { code, k, .. } = instruction;
    match instruction.class() {
        class @ (LD | LDX) => {
            let to = if class == LD { A } else { X };
            match instruction.mode() {
                IMM => writer.constant(MOVE, to, k),
                MEM => writer.put(LOAD, to, STACK, slot(k as usize)?, 0),
                LEN => writer.register(MOVE, to, LENGTH),
                ABS => absolute(writer, to, k, instruction, available)?,
                IND => indirect(writer, to, k, instruction)?,
                MSH => {
                    let byte = Instruction { code: ABS | BYTE, ..instruction };
                    absolute(writer, X, k, byte, available)?;
                    writer.constant(0x50, X, 0xf);
                    writer.constant(LSH as u8, X, 2);
                }
                _ => return None,
            }
        }
        class @ (ST | STX) => writer.put(STORE, STACK, if class == ST { A } else { X }, slot(k as usize)?, 0),
        ALU => arithmetic(writer, code & OPERATION, (code & SOURCE_X == 0).then_some(k))?,
        JMP => jump(writer, at, instruction)?,
        RET => {
            if code & RETURN_A == 0 {
                writer.finish(if k == 0 { NO } else { YES });
            } else {
                writer.jump(JMP32 | 0x10, A, 0, 0, Target::No);
                writer.finish(YES);
            }
        }
        _ if code & TXA == 0 => writer.register(MOVE, X, A),
        _ => writer.register(MOVE, A, X),
    }
    Some(())
}

/// Loads from a place that is known.
fn absolute(writer: &mut Writer, to: u8, k: u32, instruction: Instruction, available: u32) -> Option<()> {
    let end = k.checked_add(instruction.load_size()).filter(|end| *end <= LIMIT)?;
    if end > available {
        writer.constant(MOVE, END, end);
        writer.jump(JMP32 | REGISTER | 0x20, END, AVAILABLE, 0, Target::Outside);
    }
    fetch(writer, to, FRAME, k as i16, instruction);
    Some(())
}

/// Loads from a place that depends on X.
fn indirect(writer: &mut Writer, to: u8, k: u32, instruction: Instruction) -> Option<()> {
    let size = instruction.load_size();
    writer.register(MOVE, PLACE, X);
    writer.constant(0, PLACE, k);
    // It cannot be more, but the verifier does not know that, and what is available is no constant to it.
    writer.jump(JMP32 | 0x20, PLACE, 0, LIMIT.checked_sub(size)?, Target::No);
    writer.register(MOVE, END, PLACE);
    writer.constant(0, END, size);
    writer.jump(JMP32 | REGISTER | 0x20, END, AVAILABLE, 0, Target::Outside);
    // The number is added to the address and not the address to the number, whose type some kernels forget.
    writer.put(ALU64 | REGISTER | MOVE, R0, FRAME, 0, 0);
    writer.put(ALU64 | REGISTER, R0, PLACE, 0, 0);
    fetch(writer, to, R0, 0, instruction);
    Some(())
}

fn fetch(writer: &mut Writer, to: u8, from: u8, offset: i16, instruction: Instruction) {
    match instruction.code & 0x18 {
        BYTE => writer.put(LOAD_BYTE, to, from, offset, 0),
        HALF => {
            writer.put(LOAD_HALF, to, from, offset, 0);
            writer.put(TO_BIG_ENDIAN, to, 0, 0, 16);
        }
        _ => {
            writer.put(LOAD, to, from, offset, 0);
            writer.put(TO_BIG_ENDIAN, to, 0, 0, 32);
        }
    }
}

fn arithmetic(writer: &mut Writer, operation: u16, constant: Option<u32>) -> Option<()> {
    let code = operation as u8;
    match (operation, constant) {
        (NEG, _) => writer.constant(code, A, 0),
        (LSH | RSH, Some(32..)) => writer.constant(MOVE, A, 0),
        (LSH | RSH, None) => {
            // By 32 or more nothing is left; eBPF would take the lowest five bits of the distance.
            writer.put(JMP32 | 0xb0, X, 0, 2, 31);
            writer.constant(MOVE, A, 0);
            writer.put(JMP64, 0, 0, 1, 0);
            writer.register(code, A, X);
        }
        // libpcap refuses that by itself.
        (DIV | MOD, Some(0)) => return None,
        (DIV | MOD, None) => {
            writer.jump(JMP32 | 0x10, X, 0, 0, Target::No);
            writer.register(code, A, X);
        }
        (0x00..=0xa0, Some(k)) => writer.constant(code, A, k),
        (0x00..=0xa0, None) => writer.register(code, A, X),
        _ => return None,
    }
    Some(())
}

fn jump(writer: &mut Writer, at: usize, instruction: Instruction) -> Option<()> {
    let next = at + 1;
    if instruction.code & OPERATION == JA {
        if instruction.k != 0 {
            writer.jump(JMP64, 0, 0, 0, Target::Classic(next + instruction.k as usize));
        }
        return Some(());
    }
    // The codes are the same in both sets.
    let code = match instruction.code & OPERATION {
        operation @ (JEQ | JGT | JGE | JSET) => operation as u8,
        _ => return None,
    };
    let (source, k) = if instruction.code & SOURCE_X == 0 { (0, instruction.k) } else { (REGISTER, 0) };
    if instruction.jump_true != instruction.jump_false {
        let target = Target::Classic(next + usize::from(instruction.jump_true));
        writer.jump(JMP32 | code | source, A, if source == 0 { 0 } else { X }, k, target);
    }
    if instruction.jump_false != 0 {
        writer.jump(JMP64, 0, 0, 0, Target::Classic(next + usize::from(instruction.jump_false)));
    }
    Some(())
}

/// How many bytes are known to be available before each instruction, on every way that leads there; None if none does.
fn available(program: &[Instruction]) -> Vec<Option<u32>> {
    let mut known: Vec<Option<u32>> = vec![None; program.len()];
    if let Some(first) = known.first_mut() {
        *first = Some(0);
    }
    for (at, instruction) in program.iter().enumerate() {
        let Some(mut here) = known[at] else { continue };
        if matches!((instruction.class(), instruction.mode()), (LD, ABS) | (LDX, MSH)) {
            let size = if instruction.class() == LDX { 1 } else { instruction.load_size() };
            here = here.max(instruction.k.saturating_add(size));
        }
        let mut meet = |next: usize| {
            if let Some(there) = known.get_mut(next) {
                *there = Some(there.map_or(here, |there| there.min(here)));
            }
        };
        match (instruction.class(), instruction.code & OPERATION) {
            (RET, _) => {}
            (JMP, JA) => meet(at + 1 + instruction.k as usize),
            (JMP, _) => {
                meet(at + 1 + usize::from(instruction.jump_true));
                meet(at + 1 + usize::from(instruction.jump_false));
            }
            _ => meet(at + 1),
        }
    }
    known
}
