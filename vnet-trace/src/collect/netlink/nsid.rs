//! Which namespace a link-netnsid means (RTM_GETNSID). The kernel numbers the namespaces that a namespace's devices
//! are tied to; the number means something only there, and the only way to its owner is to try the ones we know.

use std::os::fd::{AsRawFd, BorrowedFd};

use super::{Channel, NetlinkError, Request, parts};

const RTM_GETNSID: u16 = 90;
const NETNSA_NSID: u16 = 1;
const NETNSA_FD: u16 = 3;

/// The number that the channel's namespace has given to `netns`; None if it has given none.
pub fn of(channel: &mut Channel, netns: BorrowedFd<'_>) -> Result<Option<i32>, NetlinkError> {
    let request = Request::new(RTM_GETNSID, &[0; 4]).with(NETNSA_FD, &netns.as_raw_fd().to_ne_bytes());
    channel.ask(&request, |message| {
        let (_, attributes) = parts::<4>("struct rtgenmsg", message)?;
        let nsid = attributes.find(NETNSA_NSID).map(|nsid| nsid.i32()).transpose()?;
        Ok(nsid.filter(|nsid| *nsid >= 0))
    })
}
