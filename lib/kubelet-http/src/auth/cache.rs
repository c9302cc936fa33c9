//! Answers of the API server, each for a while.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// More are not kept; who asks with ever new tokens must not fill the memory.
const MOST: usize = 4096;

/// Values by key, until their time is over.
#[derive(Debug)]
pub(super) struct Cache<K, V>(Mutex<HashMap<K, (Instant, V)>>);

impl<K, V> Default for Cache<K, V> {
    fn default() -> Self {
        Self(Mutex::new(HashMap::new()))
    }
}

impl<K: Eq + Hash, V: Clone> Cache<K, V> {
    pub(super) fn get(&self, key: &K) -> Option<V> {
        let now = Instant::now();
        self.lock().get(key).filter(|(until, _)| *until > now).map(|(_, value)| value.clone())
    }

    pub(super) fn insert(&self, key: K, value: V, known: Duration) {
        let now = Instant::now();
        let mut all = self.lock();
        if all.len() >= MOST {
            all.retain(|_, (until, _)| *until > now);
        }
        if all.len() >= MOST {
            all.clear();
        }
        all.insert(key, (now + known, value));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<K, (Instant, V)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Cache, MOST};

    #[tokio::test(start_paused = true)]
    async fn an_answer_is_forgotten_after_its_time() {
        let cache = Cache::default();
        cache.insert("a", 1, Duration::from_secs(30));
        tokio::time::advance(Duration::from_secs(29)).await;
        assert_eq!(cache.get(&"a"), Some(1));
        tokio::time::advance(Duration::from_secs(2)).await;
        assert_eq!(cache.get(&"a"), None);
    }

    #[tokio::test]
    async fn it_does_not_grow_without_end() {
        let cache = Cache::default();
        for key in 0..3 * MOST {
            cache.insert(key, (), Duration::from_secs(60));
        }
        assert!(cache.lock().len() <= MOST);
        assert_eq!(cache.get(&(3 * MOST - 1)), Some(()));
    }
}
