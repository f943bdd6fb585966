//! Watches written, cut at every place, damaged and made up.

use proptest::prelude::*;

use super::super::tests::sample;
use super::*;
use crate::model::id::Nanos;

fn picture() -> Picture {
    let recording = sample(0, 0);
    Picture { snapshot: recording.before, sight: recording.sight }
}

fn head() -> WatchHead {
    WatchHead {
        tool: "vnet-trace 0.1.0".into(),
        kernel: "6.1.0".into(),
        expression: "udp port 53".into(),
        began: Nanos(5),
        realtime_offset_ns: 1_700_000_000_000_000_000,
    }
}

/// A watch of some moments, and where in it each block ends.
fn watch(moments: u64) -> Vec<u8> {
    let mut recorder = Recorder::begin(Vec::new(), &head(), &picture()).unwrap();
    for at in 0..moments {
        let some = sample(at % 3, 2);
        some.events.iter().for_each(|event| recorder.event(event).unwrap());
        some.frames.iter().for_each(|frame| recorder.frame(frame).unwrap());
        recorder.moment(&Moment { time: Nanos(at), frames_lost: at, events_lost: 0 }).unwrap();
    }
    recorder.end(&Moment { time: Nanos(99), frames_lost: 0, events_lost: 0 }).unwrap()
}

/// Everything that can be read: sightings, moments, and the error at the end.
fn read(bytes: &[u8]) -> (usize, Vec<Moment>, Option<RecordingError>) {
    let (mut sightings, mut moments) = (0, Vec::new());
    let mut parts = match Parts::new(bytes) {
        Ok(parts) => parts,
        Err(error) => return (0, moments, Some(error)),
    };
    loop {
        match parts.next_part() {
            Ok(Some(Part::Events(events))) => sightings += events.len(),
            Ok(Some(Part::Frames(frames))) => sightings += frames.len(),
            Ok(Some(Part::Moment(moment))) => moments.push(moment),
            Ok(Some(_)) => {}
            Ok(None) => return (sightings, moments, None),
            Err(error) => {
                assert!(matches!(parts.next_part(), Ok(None)), "nothing comes after an error");
                return (sightings, moments, Some(error));
            }
        }
    }
}

/// Where the blocks of a file begin.
fn boundaries(file: &[u8]) -> Vec<usize> {
    let mut all = vec![12];
    while let Some(len) = file.get(all[all.len() - 1] + 4..).and_then(|rest| rest.first_chunk()) {
        all.push(all[all.len() - 1] + 12 + u32::from_le_bytes(*len) as usize);
    }
    all
}

#[test]
fn what_was_written_is_read() {
    let (sightings, moments, error) = read(&watch(20));
    assert!(error.is_none(), "{error:?}");
    assert_eq!((sightings, moments.len()), (20 * 2 + 19, 21));
    assert_eq!(moments[7].frames_lost, 7);
}

#[test]
fn a_watch_that_was_killed_is_read_up_to_its_last_moment() {
    let whole = watch(20);
    let boundaries = boundaries(&whole);
    assert_eq!(boundaries.last(), Some(&whole.len()));
    let mut before = 0;
    for len in 0..whole.len() {
        let (sightings, _, error) = read(&whole[..len]);
        let error = error.expect("it is cut");
        assert!(sightings >= before, "{len}");
        before = sightings;
        match &error {
            RecordingError::CutOff { readable } => {
                let last = boundaries.iter().rfind(|at| **at <= len).copied().unwrap_or(8);
                // Before the first block only the magic has been read.
                assert!(readable.bytes == last as u64 || len < boundaries[1], "{len}: {error}");
            }
            RecordingError::Foreign { .. } if len < 8 => {}
            other => panic!("{len}: {other}"),
        }
    }
    // Cut at the end of a moment, all of it is there.
    assert_eq!(before, 59);
}

#[test]
fn every_flipped_bit_is_noticed_or_does_not_matter() {
    let whole = watch(6);
    let (sightings, ..) = read(&whole);
    for at in 12..whole.len() {
        let mut changed = whole.clone();
        changed[at] ^= 1 << (at % 8);
        let (found, _, error) = read(&changed);
        // A changed tag makes a block unknown; that only matters if it held sightings, and then the counts tell.
        assert!(error.is_some() || found == sightings, "byte {at}");
    }
}

#[test]
fn hostile_lengths_cost_nothing() {
    let whole = watch(3);
    for at in boundaries(&whole).into_iter().take_while(|at| *at < whole.len()) {
        for field in [4, 8] {
            let mut lie = whole.clone();
            lie[at + field..at + field + 4].copy_from_slice(&[0xff; 4]);
            let (_, _, error) = read(&lie);
            assert!(
                matches!(error, Some(RecordingError::Damaged { source: BlockError::TooLarge { .. }, .. })),
                "{error:?}"
            );
        }
    }
    // A block that claims to be small and is not, once it is decompressed.
    let mut bomb = [&MAGIC[..], &VERSION.to_le_bytes()].concat();
    let packed = zstd::bulk::compress(&vec![0; 10 << 20], 1).unwrap();
    bomb.extend(*b"frm2");
    bomb.extend((packed.len() as u32).to_le_bytes());
    bomb.extend(100u32.to_le_bytes());
    bomb.extend(packed);
    assert!(matches!(read(&bomb).2, Some(RecordingError::Damaged { source: BlockError::Decompress(_), .. })));
}

#[test]
fn the_recording_of_a_question_is_read_in_pieces_too() {
    let recording = sample(2500, 3);
    let mut bytes = Vec::new();
    super::super::write(&recording, &mut bytes).unwrap();
    let (sightings, _, error) = read(&bytes);
    assert_eq!((sightings, error.is_none()), (2503, true));
}

proptest! {
    #[test]
    fn damage_never_panics(damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6)) {
        let mut file = watch(4);
        for (at, value) in damage {
            let at = at.index(file.len());
            file[at] = value;
        }
        let _ = read(&file);
    }

    /// Past the compression, into the content.
    #[test]
    fn random_content_never_panics(content in prop::collection::vec(any::<u8>(), 0..300), tag in 0..7usize) {
        let packed = zstd::bulk::compress(&content, 1).unwrap();
        let tag = [b"head", b"evt2", b"frm2", b"wtch", b"pict", b"mmnt", b"end."][tag];
        let lens = [(packed.len() as u32).to_le_bytes(), (content.len() as u32).to_le_bytes()].concat();
        let _ = read(&[&MAGIC[..], &VERSION.to_le_bytes(), tag, &lens, &packed].concat());
    }
}
