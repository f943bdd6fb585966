//! Letting go of what keeps the probes attached.
//!
//! A tracepoint lets go at once. The entry of a function does not: the kernel waits until no CPU can be inside
//! the trampoline any more, for each function, which takes milliseconds on a real machine and a second or more for all of
//! them on a slow one. Nobody has to wait for that but the process that closes the last descriptor. So the descriptors
//! are left to a process that has nothing else to do: it closes everything else, and ends. Who has the answer can go.

use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use nix::libc;

/// How quickly the kernel lets go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// At once.
    Quick,
    /// After a while.
    Slow,
}

/// Closes the descriptors, or has them closed.
pub fn release(links: Vec<OwnedFd>, pace: Pace) {
    if pace == Pace::Slow && leave_behind(&links) {
        // Now these are not the last ones, and closing them is quick.
        return;
    }
    // The waits are for the same thing, so they are done side by side.
    std::thread::scope(|scope| {
        for link in links {
            scope.spawn(move || drop(link));
        }
    });
}

/// Makes a process that holds the descriptors and nothing else, and ends. Tells whether there is one.
#[expect(unsafe_code, reason = "there is no safe way to make a process that shares descriptors")]
fn leave_behind(links: &[OwnedFd]) -> bool {
    let mut kept: Vec<RawFd> = links.iter().map(AsRawFd::as_raw_fd).collect();
    kept.sort_unstable();
    // SAFETY: the child only makes system calls that are safe after a fork of a process with threads, and ends with
    // _exit(2). It makes another one, which nobody has to wait for, because its parent is gone.
    unsafe {
        match libc::fork() {
            -1 => false,
            0 => {
                if libc::fork() == 0 {
                    close_all_but(&kept);
                }
                libc::_exit(0)
            }
            child => {
                let mut status = 0;
                while libc::waitpid(child, &raw mut status, 0) < 0 && *libc::__errno_location() == libc::EINTR {}
                true
            }
        }
    }
}

/// Closes every descriptor but these, which must be in order: whoever waits for the end of a pipe must not wait for us.
///
/// # Safety
///
/// Nothing may use any other descriptor of this process from now on.
#[expect(unsafe_code, reason = "descriptors are closed by number")]
unsafe fn close_all_but(kept: &[RawFd]) {
    let mut from: libc::c_uint = 0;
    for fd in kept.iter().map(|fd| *fd as libc::c_uint) {
        if from < fd {
            // SAFETY: as the caller promises. Allocates nothing.
            unsafe { libc::syscall(libc::SYS_close_range, from, fd - 1, 0) };
        }
        from = fd + 1;
    }
    // SAFETY: the same.
    unsafe { libc::syscall(libc::SYS_close_range, from, libc::c_uint::MAX, 0) };
}
