//! Events and frames in one order of time.

use super::Pointer;
use crate::model::event::Event;
use crate::model::frame::Frame;
use crate::model::id::Nanos;

/// All sightings by time; at the same time events before frames, and each kind in its own order.
pub fn by_time(events: &[Event], frames: &[Frame]) -> Vec<Pointer> {
    let events = sorted(events, |event| event.time);
    let frames = sorted(frames, |frame| frame.time);
    let mut all = Vec::with_capacity(events.len() + frames.len());
    let mut frames = frames.into_iter().peekable();
    for (time, at) in events {
        while let Some((_, frame)) = frames.next_if(|(other, _)| *other < time) {
            all.push(Pointer::Frame(frame));
        }
        all.push(Pointer::Event(at));
    }
    all.extend(frames.map(|(_, at)| Pointer::Frame(at)));
    all
}

/// Positions by time. Recordings are written in order, so there is mostly nothing to sort.
fn sorted<T>(all: &[T], time: impl Fn(&T) -> Nanos) -> Vec<(Nanos, u32)> {
    let mut order: Vec<_> = (0..).zip(all).map(|(at, one)| (time(one), at)).collect();
    if !order.is_sorted() {
        order.sort_unstable();
    }
    order
}
