//! A watch on its way to files: what is written, when, and when the next file begins.
//!
//! Where captures let through more than was asked for (see [`super::reach`]), a frame belongs to the recording if it is one that
//! was asked for, or another sighting of the same packet. The other sighting may come later, so frames wait
//! [`WAIT`] before it is decided. What was seen is in the file at most [`WAIT`] and [`MOMENT`] later: that is what a `kill -9`
//! costs.
//!
//! Files rotate as tcpdump's do: after so many bytes the next file begins; with a number of files the numbers have
//! leading zeros, and after the last file the first is written anew.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use crate::collect::recording_file::stream::Recorder;
use crate::follow::name;
use crate::follow::recent::Recent;
use crate::model::event::Event;
use crate::model::exchange::Role;
use crate::model::frame::Frame;
use crate::model::id::Nanos;
use crate::model::recording::{Moment, Picture, WatchHead};

/// How long a frame waits for others of its packet.
const WAIT: Nanos = Nanos(500_000_000);

/// How often all that was seen is brought to the file.
pub const MOMENT: Nanos = Nanos(250_000_000);

/// Packets of which it is remembered that they were asked for.
const ASKED: usize = 65_536;

/// When the next file begins, and when it is enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Bounds {
    /// `-C`: bytes of one file.
    pub file: Option<u64>,
    /// `-W`: files; the first follows the last.
    pub files: Option<u32>,
    /// `--max-size`: bytes of all files together.
    pub total: Option<u64>,
}

/// Which frames belong to the recording.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Captured {
    /// All: the kernel's filter lets through what was asked for and what helps to understand it.
    AsAsked,
    /// Those of packets of which one sighting is as asked.
    More,
}

/// What waits for others of its packet.
enum Sighting {
    Frame(Frame),
    Event(Event),
}

/// A recording in the making.
pub struct Tape {
    path: PathBuf,
    bounds: Bounds,
    captured: Captured,
    head: WatchHead,
    picture: Picture,
    recorder: Option<Recorder<File>>,
    /// Which file it is, counted from 0.
    number: u64,
    /// Bytes of files that are complete and still there.
    complete: VecDeque<u64>,
    waiting: VecDeque<(Sighting, Option<u64>)>,
    asked: Recent<u64, ()>,
    moment: Moment,
}

impl Tape {
    /// Begins the first file.
    pub fn begin(
        path: &Path,
        bounds: Bounds,
        captured: Captured,
        head: WatchHead,
        picture: Picture,
    ) -> io::Result<Self> {
        let moment = Moment { time: head.began, frames_lost: 0, events_lost: 0 };
        let mut tape = Self {
            path: path.to_owned(),
            bounds,
            captured,
            head,
            picture,
            recorder: None,
            number: 0,
            complete: VecDeque::new(),
            waiting: VecDeque::new(),
            asked: Recent::new(ASKED),
            moment,
        };
        tape.open()?;
        Ok(tape)
    }

    /// Takes a frame.
    pub fn frame(&mut self, frame: &Frame, asked: bool) -> io::Result<()> {
        if self.captured == Captured::AsAsked {
            return self.write(|recorder| recorder.frame(frame));
        }
        let glance = name::of_frame(frame.link, &frame.bytes);
        if asked && let Some(name) = glance.name {
            self.asked.insert(name, ());
        }
        let helps = matches!(glance.role, Role::ArpRequest | Role::ArpReply | Role::IcmpError);
        // What has no name is kept by itself only.
        if asked || helps || glance.name.is_some() {
            let name = glance.name.filter(|_| !asked && !helps);
            self.waiting.push_back((Sighting::Frame(frame.clone()), name));
        }
        Ok(())
    }

    /// Takes an event. What says nothing of which packet it is of is kept.
    pub fn event(&mut self, event: &Event, asked: bool) -> io::Result<()> {
        if self.captured == Captured::AsAsked {
            return self.write(|recorder| recorder.event(event));
        }
        let name = name::of_event(&event.bytes, event.mac).and_then(|glance| glance.name);
        if let Some(name) = name.filter(|_| asked) {
            self.asked.insert(name, ());
        }
        self.waiting.push_back((Sighting::Event(event.clone()), name.filter(|_| !asked)));
        Ok(())
    }

    /// The network is another.
    pub fn picture(&mut self, picture: &Picture) -> io::Result<()> {
        self.picture = picture.clone();
        self.write(|recorder| recorder.picture(picture))
    }

    /// Brings what was seen to the file, if it is time. Tells whether there is room for more.
    pub fn moment(&mut self, moment: Moment) -> io::Result<Room> {
        if moment.time.0 < self.moment.time.0 + MOMENT.0 {
            return Ok(Room::Enough);
        }
        self.moment = moment;
        let until = match self.captured {
            Captured::AsAsked => moment.time,
            Captured::More => Nanos(moment.time.0.saturating_sub(WAIT.0)),
        };
        self.pour(until)?;
        self.write(|recorder| recorder.moment(&Moment { time: until, ..moment }))?;
        if self.is_full() {
            return Ok(Room::None);
        }
        let written = self.recorder.as_ref().map_or(0, Recorder::written);
        if self.bounds.file.is_some_and(|most| written >= most) {
            self.close()?;
            self.complete.push_back(written);
            let files = self.bounds.files.map_or(usize::MAX, |files| files as usize);
            while self.complete.len() >= files {
                self.complete.pop_front();
            }
            self.number += 1;
            self.open()?;
        }
        Ok(Room::Enough)
    }

    /// Writes what is left, and the end.
    pub fn end(mut self, moment: Moment) -> io::Result<()> {
        self.moment = moment;
        self.pour(Nanos(u64::MAX))?;
        self.close()
    }

    fn pour(&mut self, until: Nanos) -> io::Result<()> {
        while let Some((sighting, name)) = self.waiting.pop_front() {
            let time = match &sighting {
                Sighting::Frame(frame) => frame.time,
                Sighting::Event(event) => event.time,
            };
            if time > until {
                self.waiting.push_front((sighting, name));
                break;
            }
            if name.is_none_or(|name| self.asked.get(&name).is_some()) {
                self.write(|recorder| match &sighting {
                    Sighting::Frame(frame) => recorder.frame(frame),
                    Sighting::Event(event) => recorder.event(event),
                })?;
            }
        }
        Ok(())
    }

    fn write(&mut self, what: impl FnOnce(&mut Recorder<File>) -> io::Result<()>) -> io::Result<()> {
        if self.is_full() {
            return Ok(());
        }
        self.recorder.as_mut().map_or(Ok(()), what)
    }

    /// Whether the bound for all files has been reached.
    fn is_full(&self) -> bool {
        let written = self.recorder.as_ref().map_or(0, Recorder::written);
        self.bounds.total.is_some_and(|most| written + self.complete.iter().sum::<u64>() >= most)
    }

    fn open(&mut self) -> io::Result<()> {
        let path = file_name(&self.path, self.bounds, self.number);
        let file = File::create(path)?;
        self.recorder = Some(Recorder::begin(file, &self.head, &self.picture)?);
        Ok(())
    }

    fn close(&mut self) -> io::Result<()> {
        self.recorder.take().map_or(Ok(()), |recorder| recorder.end(&self.moment).map(|_| ()))
    }
}

/// Whether more may be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Room {
    /// It may.
    Enough,
    /// The bound for all files has been reached.
    None,
}

/// The name of a file: the number at its end, as tcpdump names them.
fn file_name(path: &Path, bounds: Bounds, number: u64) -> PathBuf {
    let Bounds { file: Some(_), files, .. } = bounds else { return path.to_owned() };
    let mut name = path.as_os_str().to_owned();
    match files {
        Some(files) => {
            let width = files.max(1).saturating_sub(1).checked_ilog10().unwrap_or(0) as usize + 1;
            name.push(format!("{:0width$}", number % u64::from(files.max(1))));
        }
        None if number > 0 => name.push(number.to_string()),
        None => {}
    }
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collect::recording_file::stream::{Part, Parts};
    use crate::correlate::tests::{device, echo, frame};
    use crate::model::frame::Direction;
    use crate::model::sight::Sight;
    use crate::model::snapshot::Snapshot;

    fn tape(path: &Path, bounds: Bounds, captured: Captured) -> Tape {
        let head = WatchHead {
            tool: String::new(),
            kernel: String::new(),
            expression: String::new(),
            began: Nanos(0),
            realtime_offset_ns: 0,
        };
        let picture = Picture { snapshot: Snapshot::default(), sight: Sight::default() };
        Tape::begin(path, bounds, captured, head, picture).unwrap()
    }

    fn moment(ms: u64) -> Moment {
        Moment { time: Nanos(ms * 1_000_000), frames_lost: 0, events_lost: 0 }
    }

    fn frames(path: &Path) -> Vec<Frame> {
        let mut parts = Parts::of_file(path).unwrap();
        let mut all = Vec::new();
        while let Ok(Some(part)) = parts.next_part() {
            if let Part::Frames(frames) = part {
                all.extend(frames);
            }
        }
        all
    }

    #[test]
    fn files_are_called_as_tcpdump_calls_them() {
        let name = |file, files, number| {
            let bounds = Bounds { file, files, total: None };
            file_name(Path::new("/x/y.vtr"), bounds, number).display().to_string()
        };
        assert_eq!(name(None, None, 0), "/x/y.vtr");
        assert_eq!((name(Some(1), None, 0), name(Some(1), None, 1)), ("/x/y.vtr".into(), "/x/y.vtr1".into()));
        assert_eq!((name(Some(1), Some(3), 2), name(Some(1), Some(3), 3)), ("/x/y.vtr2".into(), "/x/y.vtr0".into()));
        assert_eq!((name(Some(1), Some(10), 9), name(Some(1), Some(11), 9)), ("/x/y.vtr9".into(), "/x/y.vtr09".into()));
    }

    #[test]
    fn other_sightings_of_what_was_asked_for_are_written_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.vtr");
        let mut tape = tape(&path, Bounds::default(), Captured::More);
        for seq in 0..10u16 {
            let time = u64::from(seq) * 10_000_000;
            let before = frame(time, device(0, 2), Direction::Out, &echo(false, seq, 64, [10, 0, 0, 1], [10, 0, 0, 2]));
            let after =
                frame(time + 9, device(1, 2), Direction::In, &echo(false, seq, 63, [192, 0, 2, 1], [10, 0, 0, 2]));
            // Only the later sighting of every second one is as asked.
            tape.frame(&before, false).unwrap();
            tape.frame(&after, seq % 2 == 0).unwrap();
        }
        tape.moment(moment(5000)).unwrap();
        tape.end(moment(5000)).unwrap();
        let written = frames(&path);
        assert_eq!(written.len(), 10);
        assert!(written.is_sorted_by_key(|frame| frame.time));
    }

    #[test]
    fn files_rotate_and_all_of_them_are_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.vtr");
        let bounds = Bounds { file: Some(3000), files: Some(3), total: None };
        let mut ring = tape(&path, bounds, Captured::AsAsked);
        for at in 0..2000u64 {
            // Nothing that compresses.
            let noise: Vec<u8> =
                (0..100u64).map(|byte| ((at * 100 + byte).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8).collect();
            ring.frame(&frame(at * 100_000_000, device(0, 2), Direction::Out, &noise), true).unwrap();
            assert_eq!(ring.moment(moment(at * 100)).unwrap(), Room::Enough);
        }
        ring.end(moment(u64::from(u32::MAX))).unwrap();
        let mut names: Vec<_> =
            std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["x.vtr0", "x.vtr1", "x.vtr2"]);
        let sizes: Vec<u64> = names.iter().map(|name| folder.path().join(name).metadata().unwrap().len()).collect();
        assert!(sizes.iter().all(|size| *size < 8000), "{sizes:?}");
        let last: Vec<_> = names.iter().map(|name| frames(&folder.path().join(name)).len()).collect();
        assert!(last.iter().sum::<usize>() >= 20, "{last:?}");

        let bounds = Bounds { total: Some(5000), ..Bounds::default() };
        let mut bounded = tape(&path, bounds, Captured::AsAsked);
        let full = (0..1000u64).find(|at| {
            let noise = at.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes().repeat(10);
            bounded.frame(&frame(at * 300_000_000, device(0, 2), Direction::Out, &noise), true).unwrap();
            bounded.moment(moment(at * 300)).unwrap() == Room::None
        });
        bounded.end(moment(u64::from(u32::MAX))).unwrap();
        assert!(full.is_some() && path.metadata().unwrap().len() < 7000);
    }
}
