//! The two clocks of a recording: CLOCK_MONOTONIC, on which all its times are, and CLOCK_REALTIME, on which libpcap's are.

use nix::time::{ClockId, clock_gettime};

use crate::model::id::Nanos;

/// Now, on the clock of the probes (`bpf_ktime_get_ns`).
pub fn monotonic() -> Nanos {
    Nanos(read(ClockId::CLOCK_MONOTONIC))
}

/// Nanoseconds since 1970.
pub fn realtime() -> u64 {
    read(ClockId::CLOCK_REALTIME)
}

/// What to add to a monotonic time to get nanoseconds since 1970. The two clocks tick alike and differ only by
/// steps (settimeofday, leap seconds); the smallest of a few differences is the one that was interrupted least.
pub fn realtime_offset() -> u64 {
    let once = || {
        let before = monotonic().0;
        let wall = realtime();
        let after = monotonic().0;
        (after - before, wall.saturating_sub(before + (after - before) / 2))
    };
    (0..4).map(|_| once()).min().map_or(0, |(_, offset)| offset)
}

/// Seconds that local time is ahead of UTC at this time (nanoseconds since 1970); 0 if it cannot be told.
#[expect(unsafe_code, reason = "the time zone is known to the C library only")]
pub fn ahead_of_utc(realtime_ns: u64) -> i64 {
    let seconds = nix::libc::time_t::try_from(realtime_ns / 1_000_000_000).unwrap_or_default();
    // SAFETY: all fields are numbers and a pointer that may be null.
    let mut local: nix::libc::tm = unsafe { std::mem::zeroed() };
    // SAFETY: both pointers are to values that live on this stack, and no other thread changes the environment.
    let filled = unsafe { nix::libc::localtime_r(&raw const seconds, &raw mut local) };
    if filled.is_null() { 0 } else { local.tm_gmtoff }
}

/// Neither clock can fail on Linux; 0 would show as an impossible time.
fn read(clock: ClockId) -> u64 {
    clock_gettime(clock).map_or(0, |time| {
        u64::try_from(time.tv_sec()).unwrap_or_default() * 1_000_000_000
            + u64::try_from(time.tv_nsec()).unwrap_or_default()
    })
}
