//! Absence as evidence: "it was not seen there" proves something only where it would have been seen.

use serde::{Deserialize, Serialize};

use super::exchange::Role;
use super::id::Device;
use super::sight::Sight;

/// A packet was not seen at a place that was watched without loss. Can only be made by [`Absence::of`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Absence {
    role: Role,
    device: Device,
}

impl Absence {
    /// The absence of a packet of this role at this device; None if the place was not watched without loss, so that
    /// nothing follows from not having seen it.
    pub fn of(role: Role, device: Device, sight: &Sight) -> Option<Self> {
        (sight.watched(device) || sight.is_lossless()).then_some(Self { role, device })
    }

    /// What was not seen.
    pub fn role(&self) -> Role {
        self.role
    }

    /// Where it was not seen.
    pub fn device(&self) -> Device {
        self.device
    }
}
