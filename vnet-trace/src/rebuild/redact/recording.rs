//! Whole recordings with other names, addresses and payload.
//!
//! Everything but the packets goes through its form as text, in which every address is one and every name a word, and back. The
//! packets are veiled byte by byte ([`veil`]), with the same mapping, so what belonged together still does, and the rules come to
//! the same verdict.
//!
//! Limits, beside those of [`super`]: a range of addresses in a packet filter that is no prefix may hold others afterwards, for
//! prefixes are preserved and order is not; link-layer addresses with a mask stay; so do ports, sizes, times, the kernel's version, and
//! the words of rules.

use std::hash::BuildHasher;
use std::net::IpAddr;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::Redaction;
use crate::model::event::{Event, EventKind};
use crate::model::frame::Frame;
use crate::model::id::MacAddr;
use crate::model::recording::{Picture, Recording, WatchHead};
use crate::packet::veil::{self, Veil};

/// A name of the recording is also a word of its form, so that it cannot be told apart.
#[derive(Debug, thiserror::Error)]
#[error("the recording cannot be redacted: a name in it is taken for something else")]
pub struct RedactError(#[from] serde_json::Error);

impl Veil for Redaction {
    fn ip(&self, address: IpAddr) -> IpAddr {
        Self::ip(self, address)
    }

    fn mac(&self, mac: MacAddr) -> MacAddr {
        Self::mac(self, mac)
    }

    fn seed(&self, beginning: &[u8]) -> u64 {
        self.key.hash_one(("payload", beginning))
    }
}

impl Redaction {
    /// A recording of a question.
    pub fn recording(&self, mut recording: Recording) -> Result<Recording, RedactError> {
        // Files and networks of engines tell who set what, in words that are all names.
        for snapshot in std::iter::once(&mut recording.before).chain(&mut recording.after) {
            (snapshot.provenance, snapshot.engine_networks) = Default::default();
        }
        let (mut events, mut frames) = (std::mem::take(&mut recording.events), std::mem::take(&mut recording.frames));
        for event in &mut events {
            self.event(event);
        }
        for frame in &mut frames {
            self.frame(frame);
        }
        Ok(Recording { events, frames, ..self.whole(recording)? })
    }

    /// The network of a watch.
    pub fn picture(&self, mut picture: Picture) -> Result<Picture, RedactError> {
        (picture.snapshot.provenance, picture.snapshot.engine_networks) = Default::default();
        self.whole(picture)
    }

    /// The beginning of a watch.
    pub fn head(&self, head: WatchHead) -> WatchHead {
        WatchHead { expression: self.text(&head.expression), ..head }
    }

    /// An event.
    pub fn event(&self, event: &mut Event) {
        veil::network(Arc::make_mut(&mut event.bytes), self);
        if let Some(mac) = &mut event.mac {
            (mac.dst, mac.src) = (Self::mac(self, mac.dst), Self::mac(self, mac.src));
        }
        match &mut event.kind {
            EventKind::FibLookup { src, dst, gateway, .. } => {
                (*src, *dst) = (self.ip(*src), self.ip(*dst));
                *gateway = gateway.map(|gateway| self.ip(gateway));
            }
            EventKind::Neigh { address, lladdr, .. } => {
                *address = self.ip(*address);
                *lladdr = lladdr.map(|lladdr| Self::mac(self, lladdr));
            }
            _ => {}
        }
    }

    /// A captured frame.
    pub fn frame(&self, frame: &mut Frame) {
        veil::frame(frame.link, &mut frame.bytes, self);
    }

    fn whole<T: Serialize + DeserializeOwned>(&self, value: T) -> Result<T, RedactError> {
        let mut form = serde_json::to_value(value)?;
        self.walk(&mut form);
        Ok(serde_json::from_value(form)?)
    }

    fn walk(&self, value: &mut Value) {
        match value {
            Value::String(text) => *text = self.text(text),
            Value::Array(all) => all.iter_mut().for_each(|one| self.walk(one)),
            Value::Object(fields) => {
                // Keys are names of fields, or settings with a device's name in them.
                let settings: Vec<String> = fields.keys().filter(|key| key.contains(['.', '/'])).cloned().collect();
                for key in settings {
                    if let Some(value) = fields.remove(&key) {
                        fields.insert(self.text(&key), value);
                    }
                }
                for (key, value) in fields.iter_mut() {
                    match (key.as_str(), &mut *value) {
                        ("Mac", Value::Array(bytes)) if bytes.len() == 6 => {
                            let old: Vec<u8> = bytes.iter().filter_map(Value::as_u64).map(|byte| byte as u8).collect();
                            if let Ok(old) = <[u8; 6]>::try_from(old) {
                                *bytes =
                                    Self::mac(self, MacAddr(old)).0.iter().map(|byte| Value::from(*byte)).collect();
                            }
                        }
                        // A prefix stays one: no bits behind its length.
                        ("Prefix", Value::Object(prefix)) => {
                            let length = prefix.get("length").and_then(Value::as_u64);
                            let address = prefix.get("address").and_then(Value::as_str);
                            if let (Some(length), Some(address)) = (length, address) {
                                let text = self.text(&format!("{address}/{length}"));
                                let address = text.split('/').next().unwrap_or(&text).to_owned();
                                prefix.insert("address".to_owned(), Value::from(address));
                            }
                        }
                        _ => self.walk(value),
                    }
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::correlate::tests::{device, echo, event, frame};
    use crate::model::frame::Direction;

    /// A recording with names, addresses and payload that are easy to find again.
    fn sample() -> Recording {
        let mut recording = crate::reconstruct::tests::recording();
        let (src, dst) = ([10, 20, 30, 41], [10, 20, 30, 42]);
        let bytes = echo(false, 1, 64, src, dst);
        recording.frames = vec![frame(1, device(0, 2), Direction::Out, &bytes)];
        let lookup = EventKind::FibLookup {
            table: 254,
            src: src.into(),
            dst: dst.into(),
            iif: crate::model::id::IfIndex(1),
            oif: crate::model::id::IfIndex(0),
            error: 0,
            nexthop: None,
            gateway: Some(dst.into()),
        };
        recording.events = vec![event(2, 0x100, Some(device(0, 2)), &bytes, lookup)];
        recording.question.dst = dst.into();
        let netns = &mut recording.before.namespaces[0];
        netns.name = "warehouse".to_owned();
        netns.links[0].name = "shelf7".to_owned();
        netns.addresses[0].address = src.into();
        netns.sysctls.insert("net.ipv4.conf.shelf7.rp_filter".to_owned(), "1".to_owned());
        recording
    }

    #[test]
    fn nothing_of_the_original_is_left_in_the_bytes() {
        let recording = sample();
        let redaction = Redaction::of(&recording.before);
        let redacted = redaction.recording(recording.clone()).unwrap();
        let mut file = Vec::new();
        ciborium::into_writer(&redacted, &mut file).unwrap();
        for old in [&b"warehouse"[..], b"shelf7", &[10, 20, 30], &[2, 2, 2, 2, 2, 2], &[4, 4, 4, 4, 4, 4]] {
            assert!(!file.windows(old.len()).any(|window| window == old), "{old:?}");
        }
        let text = serde_json::to_string(&redacted).unwrap();
        for old in ["warehouse", "shelf7", "10.20.30", "04:04:04"] {
            assert!(!text.contains(old), "{old}");
        }
        // What belonged together still does.
        let own = redacted.before.namespaces[0].addresses[0].address;
        let EventKind::FibLookup { src, .. } = redacted.events[0].kind else { panic!("another event") };
        assert_eq!(own, src);
        let name = &redacted.before.namespaces[0].links[0].name;
        let key = format!("net.ipv4.conf.{name}.rp_filter");
        assert!(redacted.before.namespaces[0].sysctls.contains_key(&key));
    }

    #[test]
    fn what_was_redacted_is_read_as_before() {
        let recording = sample();
        let redacted = Redaction::of(&recording.before).recording(recording.clone()).unwrap();
        let told = |recording: &Recording| {
            let packets = crate::correlate::correlate(recording);
            let exchange = crate::reconstruct::reconstruct(&packets, recording);
            exchange.journeys.iter().map(|journey| (journey.role, journey.path())).collect::<Vec<_>>()
        };
        assert_eq!(told(&redacted), told(&recording));
        assert!(!told(&recording).is_empty());
    }
}
