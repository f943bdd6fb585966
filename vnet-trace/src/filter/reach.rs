//! How far into a frame a program can read, and what of it cannot be run on a copy of a frame's first bytes.
//!
//! Every jump goes forward, so one sweep over the instructions, with what is known of the registers joined where ways
//! meet, covers every run. Of each register only the largest value is kept: registers are only ever compared with a bound
//! from above, and nothing that would need the smallest one (a subtraction) is bounded at all.

use super::classic::{
    ABS, ALU, BYTE, HALF, IMM, IND, Instruction, JA, JMP, LD, LDX, LEN, LSH, MEM, MEMORY, MSH, OPERATION, RET, RSH,
    SOURCE_X, ST, STX, TXA,
};

/// The most bytes of a frame that are copied for an expression.
pub const LIMIT: u32 = vnet_trace_ebpf::FRAME_REACH as u32;

/// What stands in the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Obstacle {
    /// The part of the language, or the load.
    pub what: String,
    /// Why that is not to be had.
    pub why: &'static str,
}

/// The largest value that each register can have, at one place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Most {
    a: u32,
    x: u32,
    memory: [u32; MEMORY],
}

impl Most {
    fn join(&mut self, other: &Self) {
        self.a = self.a.max(other.a);
        self.x = self.x.max(other.x);
        for (mine, theirs) in self.memory.iter_mut().zip(other.memory) {
            *mine = (*mine).max(theirs);
        }
    }
}

/// Words below which the kernel offers what is not in the packet, by negative offsets.
const EXTENSIONS: u32 = 0xffff_f000;

/// How many bytes of a frame the program reads at the most.
pub fn reach(program: &[Instruction]) -> Result<u32, Obstacle> {
    let mut states: Vec<Option<Most>> = vec![None; program.len()];
    let mut furthest = 0;
    if let Some(first) = states.first_mut() {
        *first = Some(Most { a: 0, x: 0, memory: [0; MEMORY] });
    }
    for (at, instruction) in program.iter().enumerate() {
        let Some(mut most) = states[at] else { continue };
        let end = step(*instruction, &mut most)?;
        furthest = furthest.max(end);
        for next in successors(at, *instruction) {
            let Some(state) = states.get_mut(next) else {
                return Err(Obstacle { what: format!("the jump at {at}"), why: "it leaves the program" });
            };
            match state {
                Some(state) => state.join(&most),
                None => *state = Some(most),
            }
        }
    }
    Ok(furthest)
}

/// The instructions that may come after one.
fn successors(at: usize, instruction: Instruction) -> Vec<usize> {
    let next = at + 1;
    match (instruction.class(), instruction.code & OPERATION) {
        (RET, _) => Vec::new(),
        (JMP, JA) => vec![next + instruction.k as usize],
        (JMP, _) => vec![next + usize::from(instruction.jump_true), next + usize::from(instruction.jump_false)],
        _ => vec![next],
    }
}

/// What an instruction makes of the registers. Gives the end of what it reads.
fn step(instruction: Instruction, most: &mut Most) -> Result<u32, Obstacle> {
    let Instruction { code, k, .. } = instruction;
    let mut end = 0;
    match instruction.class() {
        LD | LDX => {
            let value = match instruction.mode() {
                IMM => k,
                MEM => most.memory.get(k as usize).copied().unwrap_or(u32::MAX),
                LEN => u32::MAX,
                ABS if k >= EXTENSIONS => return Err(extension(k)),
                ABS => {
                    end = read(Some(k), instruction.load_size())?;
                    largest(code)
                }
                IND if k >= EXTENSIONS => return Err(extension(k)),
                IND => {
                    end = read(most.x.checked_add(k), instruction.load_size())?;
                    largest(code)
                }
                MSH => {
                    end = read(Some(k), 1)?;
                    60
                }
                _ => return Err(unknown(code)),
            };
            if instruction.class() == LD {
                most.a = value;
            } else {
                most.x = value;
            }
        }
        ST | STX => {
            let value = if instruction.class() == ST { most.a } else { most.x };
            *most.memory.get_mut(k as usize).ok_or_else(|| unknown(code))? = value;
        }
        ALU => {
            let operand = if code & SOURCE_X == 0 { Some(k) } else { None };
            most.a = computed(code & OPERATION, most.a, operand, most.x);
        }
        JMP if code & OPERATION == JA && k > i32::MAX as u32 => {
            return Err(Obstacle {
                what: "protochain".to_owned(),
                why: "its program goes back to earlier instructions, and the kernel takes none that does",
            });
        }
        JMP | RET => {}
        _ if code & TXA == 0 => most.x = most.a,
        _ => most.a = most.x,
    }
    Ok(end)
}

/// The largest number of this size.
const fn largest(code: u16) -> u32 {
    match code & 0x18 {
        BYTE => u8::MAX as u32,
        HALF => u16::MAX as u32,
        _ => u32::MAX,
    }
}

fn read(at: Option<u32>, size: u32) -> Result<u32, Obstacle> {
    match at.and_then(|at| at.checked_add(size)) {
        Some(end) if end <= LIMIT => Ok(end),
        end => Err(Obstacle {
            what: match end {
                Some(end) if end < 1 << 17 => format!("byte {} of a frame", end - 1),
                _ => "a byte whose place is computed without a bound".to_owned(),
            },
            why: "only a frame's first 256 bytes are looked at",
        }),
    }
}

/// The largest result. `constant` is the operand if it is one; else it is up to `x`.
fn computed(operation: u16, a: u32, constant: Option<u32>, x: u32) -> u32 {
    let operand = constant.unwrap_or(x);
    match operation {
        0x00 => a.saturating_add(operand),
        0x20 => a.saturating_mul(operand),
        0x30 => constant.and_then(|operand| a.checked_div(operand)).unwrap_or(a),
        0x40 | 0xa0 => ones(a | operand),
        0x50 => a.min(operand),
        LSH => {
            let wide = constant.filter(|shift| *shift < 32).map(|shift| u64::from(a) << shift);
            wide.and_then(|wide| u32::try_from(wide).ok()).unwrap_or(u32::MAX)
        }
        RSH => constant.and_then(|shift| a.checked_shr(shift)).unwrap_or(a),
        0x90 => constant.map_or(a, |operand| a.min(operand.saturating_sub(1))),
        // Subtraction and negation may wrap.
        _ => u32::MAX,
    }
}

/// The largest number with no more digits in base 2.
const fn ones(number: u32) -> u32 {
    if number == 0 { 0 } else { u32::MAX >> number.leading_zeros() }
}

/// Names what is asked for by an offset that is none, see the kernel's `include/uapi/linux/filter.h`.
fn extension(k: u32) -> Obstacle {
    let (what, why) = match k - EXTENSIONS {
        4 => (
            "inbound or outbound",
            "a packet that is followed goes both ways; name the device where it is to be seen first",
        ),
        8 => ("ifindex", "name the device where a packet is to be seen first"),
        44 | 48 | 60 => ("a VLAN tag beside the packet", "tags are put into the frame"),
        _ => ("what the kernel knows beside the packet", "an expression sees the frame only"),
    };
    Obstacle { what: what.to_owned(), why }
}

fn unknown(code: u16) -> Obstacle {
    Obstacle { what: format!("instruction {code:#x}"), why: "it is not one of classic BPF" }
}
