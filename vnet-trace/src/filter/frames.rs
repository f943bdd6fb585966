//! Which kinds of packets an expression can match at all, so that nobody watches places that no such packet comes to.
//!
//! The program is gone through with only the frame's EtherType known, and every other byte unknown: a jump that depends on an
//! unknown value goes both ways. If no way ends with a match, no frame of that type can match. What is unknown here
//! is never taken for impossible.

use std::collections::HashSet;

use super::classic::{
    ABS, IMM, Instruction, JA, JEQ, JGE, JGT, JMP, JSET, LD, LDX, OPERATION, RET, RETURN_A, SOURCE_X, ST,
};

/// Kinds of packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a kind of its own")]
pub struct Kinds {
    /// IPv4.
    pub ipv4: bool,
    /// IPv6.
    pub ipv6: bool,
    /// ARP.
    pub arp: bool,
    /// ICMP and ICMPv6.
    pub icmp: bool,
}

/// Offsets of the EtherType, of IPv4's protocol and of IPv6's next header in a frame without tags.
const ETHER_TYPE: u32 = 12;
const PROTOCOL: u32 = 23;
const NEXT_HEADER: u32 = 20;

/// What a program can match.
pub fn kinds(program: &[Instruction]) -> Kinds {
    let can = |known: &[(u32, u32, u32)]| can_match(program, known);
    // Behind a tag everything is possible; few expressions speak of tags.
    let tagged = can(&[(ETHER_TYPE, 2, 0x8100)]) || can(&[(ETHER_TYPE, 2, 0x88a8)]);
    let of_type = |ether_type: u32| tagged || can(&[(ETHER_TYPE, 2, ether_type)]);
    let icmp =
        can(&[(ETHER_TYPE, 2, 0x0800), (PROTOCOL, 1, 1)]) || can(&[(ETHER_TYPE, 2, 0x86dd), (NEXT_HEADER, 1, 58)]);
    Kinds { ipv4: of_type(0x0800), ipv6: of_type(0x86dd), arp: of_type(0x0806), icmp: tagged || icmp }
}

/// Whether some frame matches, in which these bytes (place, how many, value) are known.
fn can_match(program: &[Instruction], known: &[(u32, u32, u32)]) -> bool {
    let mut seen = HashSet::new();
    let mut open = vec![(0_usize, None::<u32>)];
    while let Some((at, a)) = open.pop() {
        let Some(instruction) = program.get(at).copied() else { continue };
        // Each instruction is looked at once for each value of A, of which there are only those in the program.
        if !seen.insert((at, a)) {
            continue;
        }
        let k = instruction.k;
        match instruction.class() {
            RET if instruction.code & RETURN_A != 0 || k != 0 => return true,
            RET => {}
            JMP => {
                let operand = (instruction.code & SOURCE_X == 0).then_some(k);
                let holds = a.zip(operand).and_then(|(a, operand)| match instruction.code & OPERATION {
                    JEQ => Some(a == operand),
                    JGT => Some(a > operand),
                    JGE => Some(a >= operand),
                    JSET => Some(a & operand != 0),
                    _ => None,
                });
                if instruction.code & OPERATION == JA {
                    open.push((at + 1 + k as usize, a));
                    continue;
                }
                if holds != Some(false) {
                    open.push((at + 1 + usize::from(instruction.jump_true), a));
                }
                if holds != Some(true) {
                    open.push((at + 1 + usize::from(instruction.jump_false), a));
                }
            }
            LD => {
                let value = match instruction.mode() {
                    IMM => Some(k),
                    ABS => {
                        let size = instruction.load_size();
                        known.iter().find(|(place, bytes, _)| (*place, *bytes) == (k, size)).map(|(_, _, value)| *value)
                    }
                    _ => None,
                };
                open.push((at + 1, value));
            }
            // These leave A alone.
            LDX | ST => open.push((at + 1, a)),
            _ => open.push((at + 1, None)),
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use crate::filter::Expression;

    fn kinds(text: &str) -> [bool; 4] {
        let kinds = Expression::compile(text).expect(text).kinds();
        [kinds.ipv4, kinds.ipv6, kinds.arp, kinds.icmp]
    }

    #[test]
    fn an_expression_of_one_protocol_says_so() {
        assert_eq!(kinds("arp"), [false, false, true, false]);
        assert_eq!(kinds("icmp"), [true, false, false, true]);
        assert_eq!(kinds("icmp6"), [false, true, false, true]);
        assert_eq!(kinds("tcp port 80"), [true, true, false, false]);
        assert_eq!(kinds("ip and udp"), [true, false, false, false]);
        assert_eq!(kinds("tcp[13] & 2 != 0"), [true, false, false, false]);
    }

    #[test]
    fn what_may_be_anything_is_everything() {
        assert_eq!(kinds(""), [true; 4]);
        assert_eq!(kinds("not tcp"), [true; 4]);
        assert_eq!(kinds("vlan and tcp"), [true; 4]);
        assert_eq!(kinds("host 10.0.0.1"), [true, false, true, true]);
        assert_eq!(kinds("ether host 02:00:00:00:00:01"), [true; 4]);
        assert_eq!(kinds("len > 100"), [true; 4]);
    }
}
