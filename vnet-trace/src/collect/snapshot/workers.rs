//! A few threads that share a list of work and may change their network namespace.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::SnapshotError;

/// Does `work` for every item, on up to `threads` threads, and gives the results in the items' order. None stands for
/// work that broke off. The threads end with the list, so work may leave its thread in another namespace.
pub fn each<T: Sync, R: Send>(
    items: &[T],
    threads: usize,
    work: impl Fn(usize, &T) -> R + Sync,
) -> Result<Vec<Option<R>>, SnapshotError> {
    let next = AtomicUsize::new(0);
    let results: Vec<Mutex<Option<R>>> = items.iter().map(|_| Mutex::new(None)).collect();
    let run = || {
        while let (index, Some(item)) = take(items, &next) {
            let result = work(index, item);
            if let Some(Ok(mut slot)) = results.get(index).map(Mutex::lock) {
                *slot = Some(result);
            }
        }
    };
    std::thread::scope(|scope| {
        let mut started = Vec::new();
        for number in 0..threads.clamp(1, items.len().max(1)) {
            match std::thread::Builder::new().name("snapshot".into()).spawn_scoped(scope, run) {
                Ok(thread) => started.push(thread),
                // One is enough.
                Err(source) if number == 0 => return Err(SnapshotError::Thread { source }),
                Err(_) => break,
            }
        }
        for thread in started {
            let _ = thread.join();
        }
        Ok(())
    })?;
    Ok(results.into_iter().map(|slot| slot.into_inner().unwrap_or(None)).collect())
}

fn take<'a, T>(items: &'a [T], next: &AtomicUsize) -> (usize, Option<&'a T>) {
    let index = next.fetch_add(1, Ordering::Relaxed);
    (index, items.get(index))
}

/// As many threads as the machine runs at once.
pub fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}
