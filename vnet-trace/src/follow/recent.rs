//! A map that forgets what was not used for long, in bounded memory.

use std::collections::HashMap;
use std::hash::Hash;

/// Keeps between `most` and twice as many entries: when the younger half is full, the older one is forgotten.
#[derive(Debug, Clone)]
pub struct Recent<K, V> {
    young: HashMap<K, V>,
    old: HashMap<K, V>,
    most: usize,
}

impl<K: Hash + Eq, V> Recent<K, V> {
    /// An empty map that keeps at least this many of the latest entries.
    pub fn new(most: usize) -> Self {
        Self { young: HashMap::new(), old: HashMap::new(), most: most.max(1) }
    }

    /// An entry.
    pub fn get(&self, key: &K) -> Option<&V> {
        self.young.get(key).or_else(|| self.old.get(key))
    }

    /// An entry to be changed; it is young again.
    pub fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        if let Some((key, value)) = self.old.remove_entry(key) {
            self.insert(key, value);
        }
        self.young.get_mut(key)
    }

    /// Adds or replaces an entry.
    pub fn insert(&mut self, key: K, value: V) {
        if self.young.len() >= self.most && !self.young.contains_key(&key) {
            self.old = std::mem::take(&mut self.young);
        }
        self.old.remove(&key);
        self.young.insert(key, value);
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.young.clear();
        self.old.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_stays_and_what_is_not_goes() {
        let mut recent = Recent::new(10);
        recent.insert(0, "kept");
        for key in 1..1000 {
            recent.insert(key, "new");
            assert_eq!(recent.get_mut(&0), Some(&mut "kept"));
        }
        assert_eq!(recent.get(&1), None);
        assert_eq!(recent.get(&999), Some(&"new"));
        assert!(recent.young.len() + recent.old.len() <= 20);
    }
}
