//! What secrets were when they could last be had.

use std::{
    collections::{HashMap, HashSet},
    sync::Mutex,
};

use crate::secret::Secret;

/// The last values, by the text of the reference: they stand where a source fails later.
#[derive(Debug, Default)]
pub struct LastValues(Mutex<HashMap<String, Secret>>);

impl LastValues {
    pub(crate) fn get(&self, written: &str) -> Option<Secret> {
        self.values().get(written).cloned()
    }

    pub(crate) fn put(&self, written: &str, text: &str) {
        self.values().insert(written.to_owned(), Secret::from(text));
    }

    /// Forgets what is referred to no more.
    pub(crate) fn keep_only(&self, written: &HashSet<String>) {
        self.values().retain(|known, _| written.contains(known));
    }

    fn values(&self) -> std::sync::MutexGuard<'_, HashMap<String, Secret>> {
        self.0.lock().expect("no holder of this lock panics")
    }
}
