//! The same for every target: what once failed first, then examples, then hurt ones; each within its time.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, Once,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use proptest::test_runner::{Config, TestCaseError, TestError, TestRunner};

use super::{corpus, mutation::hurt};

/// The variable that says how many cases there are in all.
const CASES: &str = "HOSTILE_CASES";
/// How many there are in a short run.
const FEW: u32 = 30_000;
/// How long one case may take: long enough for a machine that does something else, far shorter than a hang.
const WITHIN: Duration = Duration::from_secs(10);
/// A case that takes this long never ends: the whole run is given up.
const NEVER: Duration = Duration::from_secs(60);
/// How much more memory a target may hold at its end than at its beginning, in bytes.
const MOST_MEMORY: u64 = 512 * 1024 * 1024;
/// Panics that a control plants are no faults.
pub(crate) const PLANTED: &str = "planted";

static PANICS: AtomicUsize = AtomicUsize::new(0);

/// Counts panics from now on, wherever they happen: a task that panics tells nobody else.
fn count_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            let payload = panic.payload();
            let text = payload.downcast_ref::<&str>().copied();
            let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
            if !text.is_some_and(|text| text.contains(PLANTED)) && PANICS.fetch_add(1, SeqCst) < 3 {
                usual(panic);
            }
        }));
    });
}

/// So many panics there were, in this whole process.
pub(crate) fn panics() -> usize {
    PANICS.load(SeqCst)
}

/// A part of the program that reads what others wrote.
#[derive(Clone, Copy)]
pub(crate) struct Target {
    pub(crate) name: &'static str,
    /// How many of a thousand cases are for it.
    pub(crate) share: u32,
    /// Good examples beside those in files.
    pub(crate) examples: fn() -> Vec<Vec<u8>>,
}

/// Every target.
pub(crate) fn all() -> Vec<Target> {
    vec![
        super::answers::ANSWERS,
        super::answers::QUOTA_IDS,
        super::answers::LEASE_IDS,
        super::settings::CONFIGURATION,
        super::settings::ENVIRONMENT,
        super::settings::KEY_FILES,
        super::calls::CALLS,
        super::sockets::SOCKETS,
        super::sockets::HTTP,
        super::client::CLIENT,
    ]
}

/// What was found: the input, and what it did.
#[derive(Debug)]
pub(crate) struct Finding {
    pub(crate) input: Vec<u8>,
    pub(crate) why: String,
}

impl Target {
    /// Tries all there is. `check` says what is wrong with how the input was borne.
    ///
    /// # Panics
    /// If something was found. It is kept, to be tried first from now on.
    pub(crate) fn run(&self, check: impl Fn(&[u8]) -> Result<(), String>) {
        let (cases, began, memory) = (self.cases(), Instant::now(), resident());
        let found = self.search(cases, &check);
        if let Err(Finding { input, why }) = found {
            let kept = corpus::keep(self.name, &input);
            panic!("{}: {why}\n{:?}\nkept in {kept:?}", self.name, String::from_utf8_lossy(&input));
        }
        let grown = resident().saturating_sub(memory);
        println!("hostile {}: {cases} cases in {:.1?}, {} MB more", self.name, began.elapsed(), grown >> 20);
        assert!(grown < MOST_MEMORY, "{}: {grown} bytes more than before", self.name);
    }

    /// How many cases there are for it.
    pub(crate) fn cases(&self) -> u32 {
        let all = std::env::var(CASES).ok().map_or(FEW, |text| text.parse().expect("a number of cases"));
        (u64::from(all) * u64::from(self.share)).div_ceil(1000).try_into().unwrap()
    }

    /// The first input that is not borne well, made as small as can be.
    pub(crate) fn search(
        &self,
        cases: u32,
        check: &impl Fn(&[u8]) -> Result<(), String>,
    ) -> Result<(), Finding> {
        count_panics();
        let watch = Watch::start(self.name);
        let examples = [corpus::examples(self.name), (self.examples)()].concat();
        assert!(!examples.is_empty(), "{} has no example", self.name);
        for input in corpus::regressions(self.name).into_iter().chain(examples.clone()) {
            attempt(&watch, check, &input).map_err(|why| Finding { input, why })?;
        }
        let config = Config { cases, failure_persistence: None, max_shrink_iters: 2000, ..Config::default() };
        let outcome = TestRunner::new(config)
            .run(&hurt(examples), |input| attempt(&watch, check, &input).map_err(TestCaseError::fail));
        match outcome {
            Ok(()) => Ok(()),
            Err(TestError::Fail(why, input)) => Err(Finding { input, why: why.message().to_owned() }),
            Err(TestError::Abort(why)) => Err(Finding { input: Vec::new(), why: why.message().to_owned() }),
        }
    }
}

fn attempt(watch: &Watch, check: &impl Fn(&[u8]) -> Result<(), String>, input: &[u8]) -> Result<(), String> {
    let (before, began) = (panics(), Instant::now());
    watch.begin(input);
    let outcome = catch_unwind(AssertUnwindSafe(|| check(input)));
    watch.end();
    match outcome {
        Err(_) => return Err("it panics".to_owned()),
        Ok(Err(why)) => return Err(why),
        Ok(Ok(())) => {}
    }
    if panics() > before {
        return Err("something panicked meanwhile".to_owned());
    }
    let took = began.elapsed();
    if took > WITHIN { Err(format!("it takes {took:?}")) } else { Ok(()) }
}

/// A case that is tried, and since when.
type Case = (Instant, Vec<u8>);

/// Ends the process when a case never ends, and says which.
struct Watch(Arc<Mutex<Option<Case>>>);

impl Watch {
    fn start(name: &'static str) -> Self {
        let current = Arc::new(Mutex::new(None::<Case>));
        let watched = Arc::downgrade(&current);
        std::thread::spawn(move || {
            while let Some(current) = watched.upgrade() {
                if let Some((since, input)) = &*current.lock().unwrap()
                    && since.elapsed() > NEVER
                {
                    let kept = corpus::keep(name, input);
                    println!("hostile {name}: a case never ends; kept in {kept:?}");
                    std::process::abort();
                }
                drop(current);
                std::thread::sleep(Duration::from_millis(500));
            }
        });
        Self(current)
    }

    fn begin(&self, input: &[u8]) {
        *self.0.lock().unwrap() = Some((Instant::now(), input.to_vec()));
    }

    fn end(&self) {
        *self.0.lock().unwrap() = None;
    }
}

/// The memory of this process, in bytes.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap_or_default() * 1024
}
