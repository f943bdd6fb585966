//! When the outcome is decided, so that there is nothing more to wait for.
//!
//! ping waits because it does not know what became of a packet. Where the configuration says that the packet dies at a
//! certain place, and what was seen bears it out, later packets will die there too: the wait is over as soon as the first one
//! would have been back many times over. A foretold loss that nobody saw is waited for as ping would.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use nix::sys::eventfd::{EfdFlags, EventFd};

use super::Patience;
use crate::collect::clock;
use crate::collect::kernel::{Detail, DropReason, KernelRecord, Probes};
use crate::collect::ping::{Control, Decision};
use crate::model::exchange::{Action, Exchange, Opaque};
use crate::model::id::Nanos;
use crate::model::question::Question;
use crate::model::recording::PingOutcome;

/// How long a reply gets, after the first request, before a predicted loss is taken for granted. Replies inside one machine
/// take less than a millisecond; the margin is for machines under load.
const GRACE_MS: u64 = 400;

/// Wakes the asker when something was captured.
pub struct Wake {
    event: Option<Arc<EventFd>>,
}

impl Wake {
    /// A wake-up call; without one (no file descriptors left) decisions fall at the asker's own times.
    pub fn new() -> Self {
        Self { event: EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK).ok().map(Arc::new) }
    }

    /// What rings it.
    pub fn notifier(&self) -> impl Fn() + Send + 'static {
        let event = self.event.clone();
        move || {
            if let Some(event) = &event {
                // It refuses only when its counter is full, and then it rings already.
                let _ = event.write(1);
            }
        }
    }
}

/// Decides when to stop.
pub struct Decider<'a> {
    decisive: &'a dyn Fn(&PingOutcome, &[KernelRecord]) -> bool,
    wake: Wake,
    patience: Patience,
    lost: bool,
    count: u32,
    first_deadline: Option<Nanos>,
    probes: Option<Probes>,
    records: Vec<KernelRecord>,
}

/// Records that are kept of one question.
const MOST_RECORDS: usize = 500_000;

impl<'a> Decider<'a> {
    /// For a question whose outcome the configuration foretells.
    pub fn new(
        patience: Patience,
        question: &Question,
        predicted: &Exchange,
        wake: Wake,
        probes: Option<Probes>,
        decisive: &'a dyn Fn(&PingOutcome, &[KernelRecord]) -> bool,
    ) -> Self {
        let chance = predicted
            .journeys
            .iter()
            .flat_map(|journey| &journey.steps)
            .any(|step| matches!(step.action, Action::Opaque(Opaque::Qdisc { .. } | Opaque::Rule { .. })));
        Self {
            decisive,
            count: question.count,
            wake,
            patience,
            lost: !predicted.faults.is_empty() && !chance,
            first_deadline: None,
            probes,
            records: Vec::new(),
        }
    }
}

impl Decider<'_> {
    /// Takes what the probes have.
    fn drain(&mut self) {
        if let Some(probes) = &mut self.probes {
            let records = &mut self.records;
            probes.drain(|record| {
                if records.len() < MOST_RECORDS {
                    records.push(record);
                }
            });
        }
    }

    /// Everything that the probes said, and the probes.
    pub fn finish(mut self) -> (Vec<KernelRecord>, Option<Probes>) {
        self.drain();
        self.records.sort_by_key(|record| record.time_ns);
        (self.records, self.probes)
    }
}

/// Whether the kernel said that a packet of ours was dropped, and why. What it says of copies that nobody waits for does
/// not count.
fn is_told(record: &KernelRecord) -> bool {
    match &record.detail {
        Detail::Drop { reason: Some(DropReason { name: Some(name), .. }), .. } => !matches!(
            &**name,
            "NOT_SPECIFIED"
                | "NO_SOCKET"
                | "QUEUE_PURGE"
                | "SOCKET_CLOSE"
                | "NEIGH_FAILED"
                | "OTHERHOST"
                | "UNHANDLED_PROTO"
        ),
        _ => false,
    }
}

impl Control for Decider<'_> {
    fn wake(&self) -> Option<BorrowedFd<'_>> {
        self.wake.event.as_ref().map(|event| event.as_fd())
    }

    fn decide(&mut self, so_far: &PingOutcome) -> Decision {
        if let Some(event) = &self.wake.event {
            let _ = event.read();
        }
        self.drain();
        if self.patience == Patience::AsPing || so_far.received > 0 {
            return Decision::GoOn;
        }
        // Foretold, or told: the kernel has said of a request why it dropped it, and no other is to come.
        let told = so_far.sent >= self.count && self.records.iter().any(is_told);
        if !self.lost && !told {
            return Decision::GoOn;
        }
        if so_far.sent == 0 && so_far.errors.is_empty() {
            return Decision::GoOn;
        }
        let now = clock::monotonic();
        let deadline = *self.first_deadline.get_or_insert(Nanos(now.0 + GRACE_MS * 1_000_000));
        if now < deadline {
            return Decision::AskAgain(deadline);
        }
        if (self.decisive)(so_far, &self.records) {
            return Decision::Stop;
        }
        // Not seen to be so, or not yet: the machine may be slow, or the configuration may not be all there is.
        let again = Nanos(clock::monotonic().0 + GRACE_MS * 1_000_000);
        self.first_deadline = Some(again);
        Decision::AskAgain(again)
    }
}
