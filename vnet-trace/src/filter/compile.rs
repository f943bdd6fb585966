//! From text to a classic program, by libpcap.
//!
//! libpcap knows the language, names of services and protocols, and, where an expression has one, host names. Its words are
//! shown as they are; it does not say where it stopped reading, so that is found out, see [`place`].

use pcap::{Capture, Linktype};

use super::FilterError;
use super::classic::Instruction;

/// The classic program of an expression, for Ethernet frames.
pub(super) fn classic(text: &str) -> Result<Vec<Instruction>, FilterError> {
    let library = |error: pcap::Error| FilterError::Library { message: words(&error) };
    let dead = Capture::dead(Linktype::ETHERNET).map_err(library)?;
    let program = dead.compile(text, true).map_err(|error| FilterError::Refused {
        expression: text.to_owned(),
        at: place(text, &words(&error)),
        message: words(&error),
    })?;
    program
        .get_instructions()
        .iter()
        .map(|instruction| {
            read(&instruction.to_string())
                .ok_or_else(|| FilterError::Library { message: format!("{instruction} is no instruction") })
        })
        .collect()
}

/// An instruction, which the library only shows as text: code, both jumps, constant.
fn read(text: &str) -> Option<Instruction> {
    let mut numbers = text.split(' ').map(str::parse::<u32>);
    let mut next = || numbers.next()?.ok();
    Some(Instruction {
        code: next()?.try_into().ok()?,
        jump_true: next()?.try_into().ok()?,
        jump_false: next()?.try_into().ok()?,
        k: next()?,
    })
}

fn words(error: &pcap::Error) -> String {
    match error {
        pcap::Error::PcapError(message) => message.clone(),
        other => other.to_string(),
    }
}

/// Where the words of an error point to: at what they quote.
fn place(text: &str, message: &str) -> Option<usize> {
    let mut quoted = message.split(['\'', '"']).skip(1).step_by(2);
    quoted.find_map(|word| text.find(word))
}
