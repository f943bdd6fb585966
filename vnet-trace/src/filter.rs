//! Filter expressions: tcpdump's language, for the kernel and for recordings.
//!
//! Takes the text of an expression, has libpcap compile it for Ethernet frames, and gives an [`Expression`]: a classic BPF
//! program that is known to end and to mean the same here as there. It runs in user space by [`Expression::matches`], and in
//! the kernel as eBPF instructions. It reads no packet from anywhere itself.
//!
//! # What a packet looks like to an expression
//!
//! An expression sees an Ethernet frame as it would be on a wire: both addresses, the VLAN tags, the EtherType, the packet.
//! The kernel rarely has it like that: it keeps the outermost VLAN tag beside the packet, and a packet that is on its way
//! to a device has no Ethernet header yet. So whoever runs the program makes the frame first: the tag is put in, and an
//! EtherType is put before a packet that has no header. What such a packet lacks are its two addresses; an expression
//! that reads them ([`Expression::reads_addresses`]) waits for a place where they are known.
//!
//! # Limits
//!
//! Not every expression can be run on a copy of a packet's first bytes. Those that can't are refused when they are made,
//! see [`FilterError`]; there is none that is run and means something else.

mod classic;
mod compile;
mod frames;
mod reach;
mod translate;

pub use classic::Instruction;
pub use frames::Kinds;
pub use vnet_trace_ebpf::FRAME_REACH;

/// The text of an expression and the program that it stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expression {
    text: String,
    program: Vec<Instruction>,
    reach: u32,
    kernel: Vec<u64>,
}

/// The most instructions that are given to the kernel, whose own limit for all of a program is 4096 on the oldest kernels
/// for some users.
const LONGEST: usize = 3000;

/// Why an expression cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// libpcap does not understand it.
    #[error("{message}")]
    Refused {
        /// The expression.
        expression: String,
        /// libpcap's words.
        message: String,
        /// The byte of the expression that they are about, where that is known.
        at: Option<usize>,
    },
    /// It asks for something that cannot be told from a frame's first bytes.
    #[error("{what} cannot be asked for here: {why}")]
    Unsupported {
        /// The expression.
        expression: String,
        /// The part of the language, or the load, that it needs.
        what: String,
        /// Why that is not to be had.
        why: &'static str,
    },
    /// libpcap itself could not be used.
    #[error("libpcap cannot compile expressions here: {message}")]
    Library {
        /// Its words.
        message: String,
    },
}

impl FilterError {
    /// The expression with a caret below the place that is meant, in two lines; None if no place is known.
    pub fn caret(&self) -> Option<String> {
        let Self::Refused { expression, at: Some(at), .. } = self else { return None };
        let before = expression.get(..*at)?.chars().count();
        Some(format!("{expression}\n{}^", " ".repeat(before)))
    }
}

impl Expression {
    /// Compiles an expression; an empty one matches every packet.
    pub fn compile(text: &str) -> Result<Self, FilterError> {
        let program = compile::classic(text)?;
        let unsupported = |obstacle: reach::Obstacle| FilterError::Unsupported {
            expression: text.to_owned(),
            what: obstacle.what,
            why: obstacle.why,
        };
        let reach = reach::reach(&program).map_err(unsupported)?;
        let too_long = || {
            unsupported(reach::Obstacle {
                what: "so much at once".to_owned(),
                why: "its program is too long for the kernel",
            })
        };
        let kernel = translate::translate(&program).filter(|code| code.len() <= LONGEST).ok_or_else(too_long)?;
        Ok(Self { text: text.to_owned(), program, reach, kernel })
    }

    /// The expression as it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The classic program.
    pub fn program(&self) -> &[Instruction] {
        &self.program
    }

    /// Which kinds of packets it can match at all.
    pub fn kinds(&self) -> Kinds {
        frames::kinds(&self.program)
    }

    /// How many bytes of a frame it reads at the most.
    pub fn reach(&self) -> u32 {
        self.reach
    }

    /// The program for the kernel: the body of a function that is given the address of a frame, how many bytes of it are
    /// there (no more than [`Expression::reach`] matter), and how long the frame is, and that gives 0 for no, 1 for yes, and
    /// 2 if it depends on a byte that is not there.
    pub fn kernel_code(&self) -> &[u64] {
        &self.kernel
    }

    /// Whether a frame matches: `frame` is what is there of it, `length` is how long it is or was.
    pub fn matches(&self, frame: &[u8], length: u32) -> bool {
        classic::run(&self.program, frame, length) != 0
    }

    /// Whether a frame does not match, whatever follows the bytes that are there.
    pub fn denies(&self, frame: &[u8], length: u32) -> bool {
        classic::judge(&self.program, frame, length) == Some(0)
    }

    /// Whether the answer may depend on how long the frame is, or on its VLAN tags.
    pub fn asks_for_length_or_tag(&self) -> bool {
        let words = self.text.split(|c: char| !c.is_ascii_alphanumeric());
        words.into_iter().any(|word| matches!(word, "len" | "greater" | "less" | "vlan"))
    }

    /// Whether the program looks at the frame's Ethernet addresses.
    pub fn reads_addresses(&self) -> bool {
        self.program.iter().any(|instruction| instruction.may_load_below(12))
    }
}

#[cfg(test)]
pub(crate) mod tests;
