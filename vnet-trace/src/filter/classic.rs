//! Classic BPF: the programs that libpcap makes, and what they mean.
//!
//! The machine has two registers of 32 bits, A and X, and 16 words of scratch memory. A load outside the packet ends the
//! program, which then has not matched; so does a division by zero. The language is described in the BSD manual page bpf(4)
//! and in the kernel's `Documentation/networking/filter.rst`.

/// Instruction classes, the lowest three bits of a code; the eighth, 7, moves between the registers.
pub(super) const LD: u16 = 0x00;
pub(super) const LDX: u16 = 0x01;
pub(super) const ST: u16 = 0x02;
pub(super) const STX: u16 = 0x03;
pub(super) const ALU: u16 = 0x04;
pub(super) const JMP: u16 = 0x05;
pub(super) const RET: u16 = 0x06;

/// How much a load takes.
pub(super) const HALF: u16 = 0x08;
pub(super) const BYTE: u16 = 0x10;
const SIZE: u16 = 0x18;

/// Where a load takes it from.
pub(super) const IMM: u16 = 0x00;
pub(super) const ABS: u16 = 0x20;
pub(super) const IND: u16 = 0x40;
pub(super) const MEM: u16 = 0x60;
pub(super) const LEN: u16 = 0x80;
pub(super) const MSH: u16 = 0xa0;
const MODE: u16 = 0xe0;

/// Operations of arithmetic and jumps.
pub(super) const OPERATION: u16 = 0xf0;
pub(super) const DIV: u16 = 0x30;
pub(super) const LSH: u16 = 0x60;
pub(super) const RSH: u16 = 0x70;
pub(super) const NEG: u16 = 0x80;
pub(super) const MOD: u16 = 0x90;
pub(super) const JA: u16 = 0x00;
pub(super) const JEQ: u16 = 0x10;
pub(super) const JGT: u16 = 0x20;
pub(super) const JGE: u16 = 0x30;
pub(super) const JSET: u16 = 0x40;

/// The second operand is X, not the constant.
pub(super) const SOURCE_X: u16 = 0x08;
/// What is returned is A, not the constant.
pub(super) const RETURN_A: u16 = 0x10;
/// X becomes A, not A becomes X.
pub(super) const TXA: u16 = 0x80;

/// Words of scratch memory.
pub(super) const MEMORY: usize = 16;

/// One instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instruction {
    /// What it does.
    pub code: u16,
    /// How many instructions a jump whose condition holds skips.
    pub jump_true: u8,
    /// How many instructions a jump whose condition does not hold skips.
    pub jump_false: u8,
    /// The constant.
    pub k: u32,
}

impl Instruction {
    /// Its class.
    pub(super) const fn class(self) -> u16 {
        self.code & 7
    }

    /// How many bytes a load takes.
    pub(super) const fn load_size(self) -> u32 {
        match self.code & SIZE {
            HALF => 2,
            BYTE => 1,
            _ => 4,
        }
    }

    /// Where a load takes its value from.
    pub(super) const fn mode(self) -> u16 {
        self.code & MODE
    }

    /// Whether it may read a byte of the frame before this one.
    pub(super) fn may_load_below(self, limit: u32) -> bool {
        match (self.class(), self.mode()) {
            (LD, ABS) | (LDX, MSH) => self.k < limit,
            // X is not negative, so what is read lies at or after the constant, unless the sum wraps.
            (LD, IND) => self.k < limit || self.k > i32::MAX as u32,
            _ => false,
        }
    }
}

/// Runs a program on the part of a frame that is there. `length` is that of the whole frame. The result is what the program
/// returns: 0 if the frame does not match.
pub(super) fn run(program: &[Instruction], frame: &[u8], length: u32) -> u32 {
    judge(program, frame, length).unwrap_or(0)
}

/// The same; None where the program breaks off, as for a byte that is not there.
pub(super) fn judge(program: &[Instruction], frame: &[u8], length: u32) -> Option<u32> {
    let mut machine = Machine { a: 0, x: 0, memory: [0; MEMORY], frame, length };
    let mut at = 0;
    // Jumps only go forward, so a program takes at most as many steps as it has instructions.
    while let Some(instruction) = program.get(at) {
        at += 1;
        match machine.step(*instruction)? {
            Step::On(skip) => at += skip,
            Step::Return(value) => return Some(value),
        }
    }
    Some(0)
}

struct Machine<'a> {
    a: u32,
    x: u32,
    memory: [u32; MEMORY],
    frame: &'a [u8],
    length: u32,
}

enum Step {
    On(usize),
    Return(u32),
}

impl Machine<'_> {
    /// None: a load outside the frame, a division by zero, or no such instruction.
    fn step(&mut self, instruction: Instruction) -> Option<Step> {
        let Instruction { code, k, .. } = instruction;
        match instruction.class() {
            LD => self.a = self.load(instruction)?,
            LDX => self.x = self.load(instruction)?,
            ST => *self.memory.get_mut(k as usize)? = self.a,
            STX => *self.memory.get_mut(k as usize)? = self.x,
            ALU => {
                let operand = if code & SOURCE_X == 0 { k } else { self.x };
                self.a = compute(code & OPERATION, self.a, operand)?;
            }
            JMP => {
                let operand = if code & SOURCE_X == 0 { k } else { self.x };
                let holds = match code & OPERATION {
                    JA => return Some(Step::On(k as usize)),
                    JEQ => self.a == operand,
                    JGT => self.a > operand,
                    JGE => self.a >= operand,
                    JSET => self.a & operand != 0,
                    _ => return None,
                };
                let skip = if holds { instruction.jump_true } else { instruction.jump_false };
                return Some(Step::On(usize::from(skip)));
            }
            RET => return Some(Step::Return(if code & RETURN_A == 0 { k } else { self.a })),
            _ if code & TXA == 0 => self.x = self.a,
            _ => self.a = self.x,
        }
        Some(Step::On(0))
    }

    fn load(&self, instruction: Instruction) -> Option<u32> {
        let k = instruction.k;
        match instruction.mode() {
            IMM => Some(k),
            MEM => self.memory.get(k as usize).copied(),
            LEN => Some(self.length),
            ABS => self.bytes(k, instruction.load_size()),
            IND => self.bytes(self.x.checked_add(k)?, instruction.load_size()),
            MSH => Some((self.bytes(k, 1)? & 0xf) << 2),
            _ => None,
        }
    }

    /// Bytes of the frame as a number, the first one counting most.
    fn bytes(&self, at: u32, count: u32) -> Option<u32> {
        let at = at as usize;
        let bytes = self.frame.get(at..at.checked_add(count as usize)?)?;
        Some(bytes.iter().fold(0, |number, byte| number << 8 | u32::from(*byte)))
    }
}

fn compute(operation: u16, a: u32, operand: u32) -> Option<u32> {
    Some(match operation {
        0x00 => a.wrapping_add(operand),
        0x10 => a.wrapping_sub(operand),
        0x20 => a.wrapping_mul(operand),
        DIV => a.checked_div(operand)?,
        0x40 => a | operand,
        0x50 => a & operand,
        LSH => a.checked_shl(operand).unwrap_or(0),
        RSH => a.checked_shr(operand).unwrap_or(0),
        NEG => a.wrapping_neg(),
        MOD => a.checked_rem(operand)?,
        0xa0 => a ^ operand,
        _ => return None,
    })
}
