//! Instruments with their labels: what is counted thousands of times a second finds its number by one look.

use std::{collections::HashMap, sync::RwLock};

/// How many are remembered; OpenTelemetry keeps no more combinations of labels apart either.
const MOST: usize = 2000;
/// Stands in no label.
const BETWEEN: char = '\0';

/// What was bound, by the values of its labels.
#[derive(Debug)]
pub(super) struct Bound<B>(RwLock<HashMap<String, B>>);

impl<B> Default for Bound<B> {
    fn default() -> Self {
        Self(RwLock::default())
    }
}

impl<B> Bound<B> {
    /// Counts by what is bound to these values, once it is.
    pub(super) fn count(&self, values: &[&str], bind: impl FnOnce() -> B, count: impl FnOnce(&B)) {
        let length = values.iter().map(|value| value.len() + 1).sum();
        let mut key = String::with_capacity(length);
        for value in values {
            key.push_str(value);
            key.push(BETWEEN);
        }
        if let Some(known) = self.0.read().expect("no holder of this lock panics").get(&key) {
            count(known);
            return;
        }
        let bound = bind();
        count(&bound);
        let mut known = self.0.write().expect("no holder of this lock panics");
        if known.len() < MOST {
            known.entry(key).or_insert(bound);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn what_is_known_is_bound_once_and_values_are_told_apart() {
        let (bound, binds) = (Bound::default(), Cell::new(0));
        let count = |values: &[&str]| {
            let bind = || binds.replace(binds.get() + 1);
            let found = Cell::new(0);
            bound.count(values, bind, |number| found.set(*number));
            found.get()
        };
        assert_eq!(
            [count(&["a", "b"]), count(&["ab", ""]), count(&["a", "b"]), count(&["", "ab"])],
            [0, 1, 0, 2]
        );
        (0..2 * MOST).for_each(|n| _ = count(&[&n.to_string()]));
        assert_eq!(count(&["a", "b"]), 0);
        assert_eq!(bound.0.read().unwrap().len(), MOST);
    }
}
