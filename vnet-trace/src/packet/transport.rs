//! TCP (RFC 9293), UDP (RFC 768), ESP (RFC 4303): as much as tells one flow from another.

use etherparse::UdpHeaderSlice;

use super::{Layer, PacketError, Payload, Ports, Span, Tcp};

/// Reads ports, numbers and flags. The options are not needed, so a header that is cut after its fixed part is fine.
pub(super) fn parse_tcp(span: Span<'_>) -> Result<Tcp, PacketError> {
    let fields = (span.be16(0), span.be16(2), span.be32(4), span.be32(8), span.array::<2>(12));
    let (Some(src), Some(dst), Some(seq), Some(ack), Some([_, flags])) = fields else {
        return Err(span.short(Layer::Tcp, 20));
    };
    Ok(Tcp { ports: Ports { src, dst }, flags, seq, ack })
}

pub(super) fn parse_udp(span: Span<'_>) -> Result<Ports, PacketError> {
    let header = UdpHeaderSlice::from_slice(span.bytes).map_err(|_| span.short(Layer::Udp, 8))?;
    Ok(Ports { src: header.source_port(), dst: header.destination_port() })
}

pub(super) fn parse_esp(span: Span<'_>) -> Result<Payload, PacketError> {
    match (span.be32(0), span.be32(4)) {
        (Some(spi), Some(seq)) => Ok(Payload::Esp { spi, seq }),
        _ => Err(span.short(Layer::Esp, 8)),
    }
}
