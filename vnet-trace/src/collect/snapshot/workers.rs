//! A few threads that share a list of work and may change their network namespace.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::SnapshotError;

/// Does `work` for every item, on up to `threads` threads, and gives the results in the items' order. None stands for
/// work that broke off. The threads end with the list, so work may leave its thread in another namespace.
pub fn each<T: Send, R: Send>(
    items: Vec<T>,
    threads: usize,
    work: impl Fn(usize, T) -> R + Sync,
) -> Result<Vec<Option<R>>, SnapshotError> {
    let next = AtomicUsize::new(0);
    let threads = threads.clamp(1, items.len().max(1));
    let slots: Vec<Mutex<(Option<T>, Option<R>)>> =
        items.into_iter().map(|item| Mutex::new((Some(item), None))).collect();
    let run = || {
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(slot) = slots.get(index) else { return };
            // The lock is not held during the work, so work that breaks off poisons nothing.
            let Some(item) = slot.lock().ok().and_then(|mut slot| slot.0.take()) else { continue };
            let result = work(index, item);
            if let Ok(mut slot) = slot.lock() {
                slot.1 = Some(result);
            }
        }
    };
    std::thread::scope(|scope| {
        let mut started = Vec::new();
        for number in 0..threads {
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
    Ok(slots.into_iter().map(|slot| slot.into_inner().ok().and_then(|(_, result)| result)).collect())
}

/// As many threads as the machine runs at once.
pub fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_results_in_order_and_survives_work_that_breaks_off() {
        let results = each((0..50).collect(), 3, |index, item: usize| {
            assert!(item != 20, "on purpose");
            index * 2
        });
        let results = results.unwrap();
        assert_eq!(results.len(), 50);
        assert!(results.iter().enumerate().all(|(index, result)| result.is_none_or(|result| result == index * 2)));
        assert_eq!(results[20], None);
    }
}
