//! The bytes of echo requests, and what comes back. Pure.
//!
//! The payload begins with the time of sending (8 bytes) and our [`cookie`], then counts up; as much of that as the
//! size asked for holds.

use std::net::SocketAddr;

use etherparse::checksum::Sum16BitWords;

use crate::model::id::Nanos;
use crate::packet::identity::cookie;

/// Bytes of an echo header.
const HEADER: usize = 8;

/// What a socket gave us.
pub(super) struct Arrival<'a> {
    pub bytes: &'a [u8],
    /// Raw IPv4 sockets give the IP header, all others do not.
    pub has_ip_header: bool,
    pub is_v6: bool,
}

/// How an echo reply looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Intact,
    /// The payload is not what was sent.
    WrongData,
    /// Seen on raw sockets only, which are served before the kernel looks at the checksum.
    BadChecksum,
}

/// An echo request. ICMPv6's checksum is left to the kernel, which knows the pseudo header.
pub(super) fn request(destination: &SocketAddr, id: u16, seq: u16, size: u16, now: Nanos) -> Vec<u8> {
    let kind = if destination.is_ipv4() { 8 } else { 128 };
    let mut bytes = vec![kind, 0, 0, 0];
    bytes.extend(id.to_be_bytes());
    bytes.extend(seq.to_be_bytes());
    bytes.extend((0..usize::from(size)).map(|at| pattern(at, id, now)));
    if destination.is_ipv4() {
        let sum = Sum16BitWords::new().add_slice(&bytes).ones_complement();
        // etherparse sums in memory order.
        bytes[2..4].copy_from_slice(&sum.to_ne_bytes());
    }
    bytes
}

/// The sequence number of the reply to one of our requests, and what it is like. None if it is anything else.
pub(super) fn judge(arrival: &Arrival<'_>, id: u16) -> Option<(u16, Verdict)> {
    let header_len = if arrival.has_ip_header { usize::from(arrival.bytes.first()? & 0xf) * 4 } else { 0 };
    let icmp = arrival.bytes.get(header_len..)?;
    let header: &[u8; HEADER] = icmp.first_chunk()?;
    let [kind, _, _, _, id_high, id_low, seq_high, seq_low] = *header;
    let reply = if arrival.is_v6 { 129 } else { 0 };
    if kind != reply || u16::from_be_bytes([id_high, id_low]) != id {
        return None;
    }
    let seq = u16::from_be_bytes([seq_high, seq_low]);
    let payload = &icmp[HEADER..];
    let is_damaged = !arrival.is_v6 && Sum16BitWords::new().add_slice(icmp).ones_complement() != 0;
    let is_strange = payload.iter().enumerate().skip(8).any(|(at, byte)| *byte != pattern(at, id, Nanos::default()));
    let verdict = match (is_damaged, is_strange) {
        (true, _) => Verdict::BadChecksum,
        (false, true) => Verdict::WrongData,
        (false, false) => Verdict::Intact,
    };
    Some((seq, verdict))
}

/// The byte at this place of the payload. Only the first eight depend on the time.
fn pattern(at: usize, id: u16, now: Nanos) -> u8 {
    match at {
        0..8 => now.0.to_be_bytes()[at],
        8..16 => cookie(id)[at - 8],
        _ => at as u8,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const V4: &str = "10.0.0.1:0";
    const V6: &str = "[fd00::1]:0";

    fn reply_to(mut request: Vec<u8>) -> Vec<u8> {
        let is_v4 = request[0] == 8;
        request[0] = if is_v4 { 0 } else { 129 };
        request[2..4].copy_from_slice(&[0, 0]);
        let sum = Sum16BitWords::new().add_slice(&request).ones_complement();
        request[2..4].copy_from_slice(&sum.to_ne_bytes());
        request
    }

    fn arrival(bytes: &[u8], is_v6: bool) -> Arrival<'_> {
        Arrival { bytes, has_ip_header: false, is_v6 }
    }

    #[test]
    fn a_request_has_a_fitting_checksum_and_our_cookie() {
        let bytes = request(&V4.parse().unwrap(), 0x1234, 7, 56, Nanos(1));
        assert_eq!(bytes.len(), 64);
        assert_eq!(Sum16BitWords::new().add_slice(&bytes).ones_complement(), 0);
        assert_eq!(bytes[16..24], cookie(0x1234));
    }

    #[test]
    fn the_reply_to_a_request_is_recognised() {
        for (text, is_v6) in [(V4, false), (V6, true)] {
            let bytes = reply_to(request(&text.parse().unwrap(), 9, 7, 56, Nanos(1)));
            assert_eq!(judge(&arrival(&bytes, is_v6), 9), Some((7, Verdict::Intact)));
            assert_eq!(judge(&arrival(&bytes, is_v6), 10), None);
        }
    }

    #[test]
    fn the_request_itself_is_not_its_reply() {
        let bytes = request(&V4.parse().unwrap(), 9, 7, 56, Nanos(1));
        assert_eq!(judge(&arrival(&bytes, false), 9), None);
    }

    #[test]
    fn a_damaged_payload_is_seen() {
        let mut bytes = reply_to(request(&V4.parse().unwrap(), 9, 7, 56, Nanos(1)));
        bytes[40] ^= 1;
        assert_eq!(judge(&arrival(&bytes, false), 9), Some((7, Verdict::BadChecksum)));
        let mut repaired = bytes.clone();
        repaired[2..4].copy_from_slice(&[0, 0]);
        let sum = Sum16BitWords::new().add_slice(&repaired).ones_complement();
        repaired[2..4].copy_from_slice(&sum.to_ne_bytes());
        assert_eq!(judge(&arrival(&repaired, false), 9), Some((7, Verdict::WrongData)));
    }

    #[test]
    fn the_smallest_request_still_has_an_answer() {
        let bytes = reply_to(request(&V4.parse().unwrap(), 9, 7, 0, Nanos(1)));
        assert_eq!(judge(&arrival(&bytes, false), 9), Some((7, Verdict::Intact)));
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(
            bytes in proptest::collection::vec(any::<u8>(), 0..100), has_ip_header: bool, is_v6: bool
        ) {
            judge(&Arrival { bytes: &bytes, has_ip_header, is_v6 }, 1);
        }
    }
}
