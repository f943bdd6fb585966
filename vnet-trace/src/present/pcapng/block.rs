//! One enhanced packet block, byte by byte: the crate that writes the other blocks cannot write the option `epb_packetid`.

use std::borrow::Cow;

use pcap_file::pcapng::RawBlock;

/// Block type of an enhanced packet block.
const ENHANCED_PACKET: u32 = 6;

/// Option codes, in the order in which they are written.
const COMMENT: u16 = 1;
const FLAGS: u16 = 2;
const PACKET_ID: u16 = 5;

/// What an enhanced packet block says.
pub struct EnhancedPacket<'a> {
    /// Number of the interface in the file.
    pub interface: u32,
    /// In the units of the interface.
    pub time: u64,
    /// Bytes captured.
    pub bytes: &'a [u8],
    /// Bytes on the wire.
    pub len: u32,
    /// Direction and destination.
    pub flags: u32,
    /// The same for every sighting of one packet.
    pub packet_id: Option<u64>,
    /// For people.
    pub comment: Option<&'a str>,
}

impl EnhancedPacket<'_> {
    /// The block, little endian.
    pub fn to_block(&self) -> RawBlock<'static> {
        let mut body = Vec::new();
        for field in [
            self.interface,
            (self.time >> 32) as u32,
            self.time as u32,
            self.bytes.len() as u32,
            self.len.max(self.bytes.len() as u32),
        ] {
            body.extend(field.to_le_bytes());
        }
        put_padded(&mut body, self.bytes);
        if let Some(comment) = self.comment {
            put_option(&mut body, COMMENT, comment.as_bytes());
        }
        put_option(&mut body, FLAGS, &self.flags.to_le_bytes());
        if let Some(id) = self.packet_id {
            put_option(&mut body, PACKET_ID, &id.to_le_bytes());
        }
        // The end of the options.
        body.extend([0; 4]);
        // Type, and the length at both ends.
        let len = body.len() as u32 + 12;
        RawBlock { type_: ENHANCED_PACKET, initial_len: len, body: Cow::Owned(body), trailer_len: len }
    }
}

fn put_option(body: &mut Vec<u8>, code: u16, value: &[u8]) {
    let value = &value[..value.len().min(usize::from(u16::MAX))];
    body.extend(code.to_le_bytes());
    body.extend((value.len() as u16).to_le_bytes());
    put_padded(body, value);
}

fn put_padded(body: &mut Vec<u8>, bytes: &[u8]) {
    body.extend(bytes);
    body.resize(body.len().next_multiple_of(4), 0);
}
