//! Which packet a socket buffer carries, for as long as the buffer lives.
//!
//! A life begins with the first sighting of a pointer and ends with kfree_skb or consume_skb. Data buffers are shared by
//! clones and live until the last of them has ended.

use std::collections::HashMap;

use crate::model::id::SkbId;

/// What a socket buffer does at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Life {
    /// The packet, by its position.
    pub packet: u32,
    /// The visit that it makes.
    pub visit: u32,
    /// The start of its data buffer.
    head: Option<u64>,
}

/// The socket buffers that live.
#[derive(Debug, Default)]
pub struct Lives {
    buffers: HashMap<SkbId, Life>,
    /// Per data buffer: who carries it, and how many buffers share it.
    heads: HashMap<u64, (Life, u32)>,
}

impl Lives {
    /// What this buffer does, if it was seen before.
    pub fn of(&self, skb: Option<SkbId>) -> Option<Life> {
        self.buffers.get(&skb?).copied()
    }

    /// What another buffer with the same data does.
    pub fn by_head(&self, head: Option<u64>) -> Option<Life> {
        self.heads.get(&head?).map(|(life, _)| *life)
    }

    /// This buffer was seen with this packet, making this visit.
    pub fn note(&mut self, skb: SkbId, packet: u32, visit: u32, head: Option<u64>) {
        let life = Life { packet, visit, head };
        if self.buffers.get(&skb) == Some(&life) {
            return;
        }
        let before = self.buffers.insert(skb, life);
        let known = before.and_then(|life| life.head);
        if known != head {
            self.release(known);
        }
        if let Some(head) = head {
            let (holder, count) = self.heads.entry(head).or_insert((life, 0));
            *holder = life;
            *count += u32::from(known != Some(head));
        }
    }

    /// This buffer has ended.
    pub fn end(&mut self, skb: Option<SkbId>) {
        if let Some(life) = skb.and_then(|skb| self.buffers.remove(&skb)) {
            self.release(life.head);
        }
    }

    /// This buffer and this data carry something else now: whoever had them before has ended unseen.
    pub fn reused(&mut self, skb: Option<SkbId>, head: Option<u64>) {
        self.end(skb);
        if head.is_some_and(|head| self.heads.remove(&head).is_some()) {
            self.buffers.retain(|_, life| life.head != head);
        }
    }

    fn release(&mut self, head: Option<u64>) {
        let Some(head) = head else { return };
        if let Some((_, count)) = self.heads.get_mut(&head) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.heads.remove(&head);
            }
        }
    }
}
