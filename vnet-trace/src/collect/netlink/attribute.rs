//! Netlink attributes as bytes: a reader that checks before it hands out, and the errors that say where it stopped.
//!
//! The typed crates turn a message into one large value or into nothing: one attribute of an unknown size loses the
//! whole link. Here every attribute stands alone, so a kernel newer than this program costs the attribute that changed.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::model::id::MacAddr;

/// Bytes that are not what they should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{layer} at byte {offset}: {needed} bytes needed, {had} there")]
pub struct Malformed {
    /// The structure that was being read.
    pub layer: &'static str,
    /// Where in that structure, in bytes.
    pub offset: usize,
    /// Bytes that it asks for.
    pub needed: usize,
    /// Bytes that are there.
    pub had: usize,
}

/// A well-formed list of attributes: every length has been checked.
#[derive(Debug, Clone, Copy)]
pub struct Attributes<'a> {
    layer: &'static str,
    bytes: &'a [u8],
}

/// One attribute.
#[derive(Debug, Clone, Copy)]
pub struct Attribute<'a> {
    /// Its number, without NLA_F_NESTED and NLA_F_NET_BYTEORDER.
    pub kind: u16,
    /// Its payload.
    pub value: &'a [u8],
    layer: &'static str,
}

/// Takes the fixed header of `N` bytes off the front.
pub fn fixed<'a, const N: usize>(layer: &'static str, bytes: &'a [u8]) -> Result<(&'a [u8; N], &'a [u8]), Malformed> {
    bytes.split_first_chunk::<N>().ok_or(Malformed { layer, offset: 0, needed: N, had: bytes.len() })
}

/// Four bytes of a fixed header as a number; `offset` is a constant below the header's checked size.
pub fn u32_at<const N: usize>(header: &[u8; N], offset: usize) -> u32 {
    header.get(offset..offset + 4).and_then(|bytes| bytes.try_into().ok()).map_or(0, u32::from_ne_bytes)
}

/// Two bytes of a fixed header as a number, as [`u32_at`].
pub fn u16_at<const N: usize>(header: &[u8; N], offset: usize) -> u16 {
    header.get(offset..offset + 2).and_then(|bytes| bytes.try_into().ok()).map_or(0, u16::from_ne_bytes)
}

/// Attributes start on multiples of four.
fn aligned(length: usize) -> usize {
    length.saturating_add(3) & !3
}

impl<'a> Attributes<'a> {
    /// Checks all lengths. Fewer than four bytes at the end are padding, as in the kernel's own reader.
    pub fn read(layer: &'static str, bytes: &'a [u8]) -> Result<Self, Malformed> {
        let mut offset = 0;
        while let Some((header, rest)) = bytes.get(offset..).and_then(<[u8]>::split_first_chunk::<4>) {
            let length = usize::from(u16_at(header, 0));
            if length < 4 || length - 4 > rest.len() {
                return Err(Malformed { layer, offset, needed: length.max(4), had: rest.len() + 4 });
            }
            offset += aligned(length);
        }
        Ok(Self { layer, bytes })
    }

    /// The attributes in the order of the message.
    pub fn iter(self) -> impl Iterator<Item = Attribute<'a>> {
        let Self { layer, mut bytes } = self;
        std::iter::from_fn(move || {
            let header = bytes.first_chunk::<4>()?;
            let length = usize::from(u16_at(header, 0));
            let value = bytes.get(4..length)?;
            let kind = u16_at(header, 2) & 0x3fff;
            bytes = bytes.get(aligned(length)..).unwrap_or_default();
            Some(Attribute { kind, value, layer })
        })
    }

    /// The first attribute of this kind.
    pub fn find(self, kind: u16) -> Option<Attribute<'a>> {
        self.iter().find(|attribute| attribute.kind == kind)
    }
}

impl<'a> Attribute<'a> {
    fn chunk<const N: usize>(&self) -> Result<[u8; N], Malformed> {
        self.value.first_chunk::<N>().copied().ok_or(self.short(N))
    }

    fn short(&self, needed: usize) -> Malformed {
        Malformed { layer: self.layer, offset: 0, needed, had: self.value.len() }
    }

    /// One byte.
    pub fn u8(&self) -> Result<u8, Malformed> {
        self.chunk::<1>().map(|[byte]| byte)
    }

    /// One byte that is a switch.
    pub fn bool(&self) -> Result<bool, Malformed> {
        self.u8().map(|byte| byte != 0)
    }

    /// Two bytes in host order.
    pub fn u16(&self) -> Result<u16, Malformed> {
        self.chunk().map(u16::from_ne_bytes)
    }

    /// Two bytes in network order.
    pub fn be16(&self) -> Result<u16, Malformed> {
        self.chunk().map(u16::from_be_bytes)
    }

    /// Four bytes in host order.
    pub fn u32(&self) -> Result<u32, Malformed> {
        self.chunk().map(u32::from_ne_bytes)
    }

    /// Four bytes in network order.
    pub fn be32(&self) -> Result<u32, Malformed> {
        self.chunk().map(u32::from_be_bytes)
    }

    /// Four signed bytes in host order.
    pub fn i32(&self) -> Result<i32, Malformed> {
        self.chunk().map(i32::from_ne_bytes)
    }

    /// Eight bytes in host order.
    pub fn u64(&self) -> Result<u64, Malformed> {
        self.chunk().map(u64::from_ne_bytes)
    }

    /// Four or sixteen bytes as an IP address.
    pub fn ip(&self) -> Result<IpAddr, Malformed> {
        ip(self.value).ok_or(self.short(if self.value.len() < 4 { 4 } else { 16 }))
    }

    /// A link-layer address of six bytes; None for one of another size.
    pub fn mac(&self) -> Option<MacAddr> {
        <[u8; 6]>::try_from(self.value).ok().map(MacAddr)
    }

    /// Text up to the first NUL.
    pub fn text(&self) -> String {
        let end = self.value.iter().position(|byte| *byte == 0).unwrap_or(self.value.len());
        String::from_utf8_lossy(self.value.get(..end).unwrap_or_default()).into_owned()
    }

    /// The attributes inside; `layer` names them in errors.
    pub fn nested(&self, layer: &'static str) -> Result<Attributes<'a>, Malformed> {
        Attributes::read(layer, self.value)
    }
}

/// Four or sixteen bytes as an IP address.
pub fn ip(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(|bytes| IpAddr::V4(Ipv4Addr::from(bytes))),
        16 => <[u8; 16]>::try_from(bytes).ok().map(|bytes| IpAddr::V6(Ipv6Addr::from(bytes))),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: [u8; 20] = [8, 0, 4, 0, 0xdc, 5, 0, 0, 9, 0, 3, 0x80, b'e', b't', b'h', b'0', 0, 0, 0, 0];

    #[test]
    fn reads_kind_without_flags_and_value_without_padding() {
        let read: Vec<_> = Attributes::read("test", &TWO).unwrap().iter().map(|a| (a.kind, a.value.len())).collect();
        assert_eq!(read, [(4, 4), (3, 5)]);
        let attributes = Attributes::read("test", &TWO).unwrap();
        assert_eq!(attributes.find(4).unwrap().u32(), Ok(1500));
        assert_eq!(attributes.find(3).unwrap().text(), "eth0");
    }

    #[test]
    fn every_truncation_is_an_error_or_a_shorter_list() {
        for length in 0..TWO.len() {
            match Attributes::read("test", &TWO[..length]) {
                Ok(attributes) => assert!(attributes.iter().count() <= 2),
                Err(error) => assert!(error.needed > error.had, "{error}"),
            }
        }
    }

    #[test]
    fn a_length_below_the_header_ends_the_reading() {
        assert!(Attributes::read("test", &[3, 0, 1, 0]).is_err());
        assert!(Attributes::read("test", &[0, 0, 0, 0, 0, 0, 0, 0]).is_err());
    }
}
