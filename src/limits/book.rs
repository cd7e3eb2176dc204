//! Buckets of many senders, found by what tells them apart, such as an address or an organization.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::bucket::{Bucket, Rate};

/// How often it is looked which buckets are full again and need no place.
const SWEEP: Duration = Duration::from_secs(1);

/// A bucket for each sender, of so many at most.
#[derive(Debug)]
pub struct Book<K> {
    rate: Rate,
    most: usize,
    pages: Mutex<Pages<K>>,
}

#[derive(Debug)]
struct Pages<K> {
    buckets: HashMap<K, Bucket>,
    /// Of those who find no place, all together.
    others: Bucket,
    swept: Option<Instant>,
}

impl<K: Hash + Eq> Book<K> {
    /// Buckets of that rate for `most` senders; more share one until a place is free.
    pub fn new(rate: Rate, most: usize) -> Self {
        let pages = Pages { buckets: HashMap::new(), others: Bucket::default(), swept: None };
        Self { rate, most, pages: Mutex::new(pages) }
    }

    /// Takes a token of a sender's if there is one.
    pub fn take(&self, sender: K) -> bool {
        let mut pages = self.pages.lock().unwrap_or_else(PoisonError::into_inner);
        let known = pages.buckets.contains_key(&sender);
        if !known && pages.buckets.len() >= self.most {
            self.sweep(&mut pages);
            if pages.buckets.len() >= self.most {
                return self.rate.take(&pages.others);
            }
        }
        self.rate.take(pages.buckets.entry(sender).or_default())
    }

    /// Whether a sender has a token left.
    pub fn has(&self, sender: &K) -> bool {
        let pages = self.pages.lock().unwrap_or_else(PoisonError::into_inner);
        match pages.buckets.get(sender) {
            Some(bucket) => self.rate.has(bucket),
            None => pages.buckets.len() < self.most || self.rate.has(&pages.others),
        }
    }

    /// Forgets the buckets that are full, which are like new ones.
    fn sweep(&self, pages: &mut Pages<K>) {
        let now = Instant::now();
        if pages.swept.is_some_and(|swept| now - swept < SWEEP) {
            return;
        }
        pages.swept = Some(now);
        pages.buckets.retain(|_, bucket| !self.rate.is_full(bucket));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_sender_has_a_bucket_of_its_own() {
        let book = Book::new(Rate::per_minute(2), 10);
        assert!(book.has(&1) && book.take(1) && book.take(1));
        assert!(!book.take(1) && !book.has(&1));
        assert!(book.has(&2) && book.take(2));
    }

    #[test]
    fn those_without_a_place_share_one_bucket_and_full_ones_make_room() {
        let book = Book::new(Rate::per_minute(1), 100);
        for sender in 0..100 {
            assert!(book.take(sender));
        }
        assert!(book.take(1_000), "nobody has used the common bucket");
        assert!(!book.take(1_001) && !book.has(&1_002), "it is for all of them");
        let quick = Book::new(Rate::new(1_000_000_000, 1), 100);
        for sender in 0..1_000 {
            assert!(quick.take(sender));
        }
        assert!(quick.pages.lock().unwrap_or_else(PoisonError::into_inner).buckets.len() <= 100);
    }
}
