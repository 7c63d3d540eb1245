//! What the workers of a run said, and what follows from it.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{BufRead, BufReader, Read},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
};

use super::worker::{Said, What};

/// Everything that was said so far.
#[derive(Debug, Default)]
pub struct Record {
    said: Mutex<Vec<Said>>,
}

impl Record {
    /// Listens to a worker until it has nothing more to say.
    pub fn listen(self: &Arc<Self>, output: impl Read + Send + 'static) -> JoinHandle<()> {
        let record = self.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                // The last line of a worker that was killed may be half a line.
                if let Ok(said) = serde_json::from_str(&line) {
                    record.lock().push(said);
                }
            }
        })
    }

    /// All of it.
    pub fn all(&self) -> Vec<Said> {
        self.lock().clone()
    }

    /// When the first lease was granted from that instant on: for each pool, and by each broker.
    pub fn first_grants(&self, from: i64) -> (BTreeMap<usize, i64>, BTreeMap<usize, i64>) {
        let (mut pools, mut brokers) = (BTreeMap::new(), BTreeMap::new());
        for said in self.lock().iter().filter(|said| said.at >= from) {
            if let What::Granted { pool, broker, .. } = said.what {
                let earliest = |at: &mut i64| *at = said.at.min(*at);
                pools.entry(pool).and_modify(earliest).or_insert(said.at);
                brokers.entry(broker).and_modify(earliest).or_insert(said.at);
            }
        }
        (pools, brokers)
    }

    /// The leases that were granted before an instant.
    pub fn granted_before(&self, at: i64) -> BTreeSet<String> {
        let said = self.lock();
        let granted = said.iter().filter(|said| said.at < at && matches!(said.what, What::Granted { .. }));
        granted.map(|said| said.lease.clone()).collect()
    }

    /// How many leases were granted.
    pub fn granted(&self) -> usize {
        self.lock().iter().filter(|said| matches!(said.what, What::Granted { .. })).count()
    }

    /// Why brokers did not do what they were asked from that instant on, with how often.
    pub fn failures(&self, from: i64) -> BTreeMap<String, usize> {
        let mut failures = BTreeMap::new();
        for said in self.lock().iter().filter(|said| said.at >= from) {
            if let What::Failed { broker, why } = &said.what {
                *failures.entry(format!("broker-{broker}: {why}")).or_default() += 1;
            }
        }
        failures
    }

    /// Leases that were granted more than once, with the keys they were granted under.
    pub fn granted_twice(&self) -> Vec<(String, BTreeSet<String>)> {
        let mut grants: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for said in self.lock().iter() {
            if let What::Granted { key, .. } = &said.what {
                grants.entry(said.lease.clone()).or_default().push(key.clone());
            }
        }
        let twice = grants.into_iter().filter(|(_, keys)| keys.len() > 1);
        twice.map(|(lease, keys)| (lease, keys.into_iter().collect())).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Said>> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(said: &[(i64, &str, usize, usize)]) -> Arc<Record> {
        let record = Arc::<Record>::default();
        for (at, lease, pool, broker) in said {
            let what = What::Granted { key: format!("key-{at}"), pool: *pool, broker: *broker };
            record.lock().push(Said { at: *at, lease: (*lease).to_owned(), what });
        }
        record
    }

    #[test]
    fn a_lease_that_is_granted_twice_is_found_with_both_keys() {
        let record = record(&[(1, "a", 0, 0), (2, "b", 0, 0), (3, "a", 1, 0)]);
        let keys = ["key-1", "key-3"].map(str::to_owned);
        assert_eq!(record.granted_twice(), [("a".to_owned(), BTreeSet::from(keys))]);
    }

    #[test]
    fn recovery_is_the_first_grant_of_each_pool_and_by_each_broker() {
        let record = record(&[(1, "a", 0, 0), (5, "b", 0, 1), (6, "c", 1, 1), (9, "d", 0, 0)]);
        assert_eq!(
            record.first_grants(2),
            (BTreeMap::from([(0, 5), (1, 6)]), BTreeMap::from([(0, 9), (1, 5)]))
        );
    }

    #[test]
    fn half_a_line_of_a_worker_that_died_is_passed_over() {
        let record = Arc::<Record>::default();
        let line = serde_json::to_string(&Said {
            at: 7,
            lease: "a".to_owned(),
            what: What::Acknowledged { ok: true, state: 1, signal: 1 },
        });
        let line = line.expect("it is plain data");
        record.listen(std::io::Cursor::new(format!("{line}\n{}", &line[..20]))).join().expect("it ends");
        assert_eq!(record.all().len(), 1);
    }
}
