//! What the user typed as a destination: an address, an address with a zone, or a name.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};

/// `-4` and `-6`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Family {
    /// Neither was given.
    #[default]
    Any,
    /// `-4`.
    V4,
    /// `-6`.
    V6,
}

/// A destination to ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// Its address.
    pub address: IpAddr,
    /// What stood behind the `%`.
    pub zone: Option<String>,
}

/// Why a destination cannot be asked.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    /// The address is not of the family that was demanded.
    #[error("{address} is not an {} address", if matches!(.wanted, Family::V4) { "IPv4" } else { "IPv6" })]
    WrongFamily {
        /// Destination.
        address: IpAddr,
        /// What `-4` or `-6` demands.
        wanted: Family,
    },
    /// The name has no address.
    #[error("cannot resolve {name} in the asked namespace")]
    Name {
        /// As typed.
        name: String,
        /// What the resolver said.
        #[source]
        source: io::Error,
    },
    /// The name has only addresses of the other family.
    #[error("{name} has no {} address", if matches!(.wanted, Family::V4) { "IPv4" } else { "IPv6" })]
    NoSuchFamily {
        /// As typed.
        name: String,
        /// What `-4` or `-6` demands.
        wanted: Family,
    },
}

impl Family {
    fn admits(self, address: IpAddr) -> bool {
        match self {
            Self::Any => true,
            Self::V4 => address.is_ipv4(),
            Self::V6 => address.is_ipv6(),
        }
    }
}

/// The address of a destination. A name is looked up by the system's resolver, so this has to be called in the asked namespace;
/// note that `ip netns exec` also swaps /etc/resolv.conf, which this does not.
pub fn resolve(text: &str, family: Family) -> Result<Resolved, ResolveError> {
    let (host, zone) = match text.split_once('%') {
        Some((host, zone)) if !zone.is_empty() => (host, Some(zone.to_owned())),
        _ => (text, None),
    };
    if let Ok(address) = host.parse() {
        return if family.admits(address) {
            Ok(Resolved { address, zone })
        } else {
            Err(ResolveError::WrongFamily { address, wanted: family })
        };
    }
    let found = (host, 0).to_socket_addrs().map_err(|source| ResolveError::Name { name: text.to_owned(), source })?;
    let address = found.map(|address: SocketAddr| address.ip()).find(|address| family.admits(*address));
    match address {
        Some(address) => Ok(Resolved { address, zone }),
        None => Err(ResolveError::NoSuchFamily { name: text.to_owned(), wanted: family }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_needs_no_resolver() {
        let resolved = resolve("fe80::1%eth0", Family::Any).unwrap();
        assert_eq!((resolved.address.to_string(), resolved.zone.as_deref()), ("fe80::1".into(), Some("eth0")));
        assert_eq!(resolve("10.0.0.1", Family::V4).unwrap().zone, None);
    }

    #[test]
    fn an_address_of_the_other_family_is_named() {
        let error = resolve("fd00::1", Family::V4).unwrap_err();
        assert_eq!(error.to_string(), "fd00::1 is not an IPv4 address");
    }

    #[test]
    fn a_name_that_cannot_be_is_named() {
        let error = resolve("no such host", Family::Any).unwrap_err();
        assert!(error.to_string().contains("no such host"));
    }
}
