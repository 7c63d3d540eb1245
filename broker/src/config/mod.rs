//! Configuration: a TOML file and the environment, made into one validated [`Catalogue`].
//!
//! Nothing is half accepted: either there is a catalogue, with warnings about what was passed
//! over, or an error that lists every fault at once. No message of either holds a key's text.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::access::Rules;
use crate::catalogue::{Catalogue, DEFAULT_POOL, Pool};
use crate::log::LogSettings;
use crate::registry::seal::MASTER_KEY;
use crate::secret_sources::{self, Fetched, LastValues, Reference};

mod assemble;
mod cleaner;
mod consumers;
mod effective;
mod environment;
mod fault;
mod file;
mod hooks;
mod identities;
mod key_text;
mod limits;
mod log;
mod models;
mod nearest;
mod probing;
pub mod reference;
mod section;
mod sources;
mod summary;
mod values;
mod whole;

pub use effective::Effective;
pub use fault::{ConfigError, Fault, Warning};
pub use key_text::FailedSource;
pub use sources::SecretSources;
pub use summary::summary;

// The same rules hold for what is given at run time.
pub(crate) use key_text::malformed;
pub(crate) use limits::{FIELDS as LIMIT_FIELDS, PoolRule, with_tier_defaults};
pub(crate) use nearest::nearest;
pub(crate) use section::{ID_RULE, is_id};
pub(crate) use values::is_this_host;

use assemble::Assembly;
use fault::Findings;
use key_text::{Lookup, read_file};
use section::Document;

/// Looks a variable up by name.
pub type Env<'a> = &'a dyn Fn(&str) -> Option<String>;

/// The variable that names the configuration file.
pub const FILE_VARIABLE: &str = "KEYBROKER_CONFIG";

/// Where configuration comes from.
#[derive(Clone)]
pub struct Sources<'a> {
    /// The TOML file; if there is none, [`FILE_VARIABLE`] may name it.
    pub file: Option<PathBuf>,
    /// The environment.
    pub env: Env<'a>,
    /// What secrets were when they could last be had; they stand where a source fails.
    pub last: Option<&'a LastValues>,
    /// Whether secrets that lie elsewhere are fetched; where not, what they were last stands.
    pub fetches: bool,
}

impl Sources<'static> {
    /// The process's own environment, and the file that the command line named, if it did.
    pub fn of_process(file: Option<PathBuf>) -> Self {
        // A value that is not Unicode is kept, lossily, so that it is named instead of ignored.
        Self {
            file,
            env: &|name| std::env::var_os(name).map(|value| OsStr::to_string_lossy(&value).into_owned()),
            last: None,
            fetches: true,
        }
    }
}

impl<'a> Sources<'a> {
    /// A file and an environment.
    pub fn new(file: Option<PathBuf>, env: Env<'a>) -> Self {
        Self { file, env, last: None, fetches: true }
    }

    /// The same with what secrets were when they could last be had.
    pub fn keeping(self, last: &'a LastValues) -> Self {
        Self { last: Some(last), ..self }
    }
}

/// A catalogue and how it came about.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// What may be leased.
    pub catalogue: Catalogue,
    /// Who may call.
    pub access: Rules,
    /// What is logged.
    pub log: LogSettings,
    /// How secrets that lie elsewhere are fetched.
    pub sources: SecretSources,
    /// What was passed over or should be known.
    pub warnings: Vec<Warning>,
    /// The files that were read, the configuration file first, for whoever watches for changes.
    pub files: Vec<PathBuf>,
    /// Whether all secrets that lie elsewhere were fetched.
    pub fetched: bool,
    /// The sources of secrets that failed: what they gave before stands.
    pub failed_sources: Vec<FailedSource>,
    /// How often to read again because of secrets that lie where no change is seen; none if there are no such.
    pub refresh_every: Option<Duration>,
    /// Where each key stands, by its id: a variable, or a file with line and path.
    pub key_places: HashMap<String, String>,
    /// The variables that keys were read from.
    pub variables: Vec<String>,
}

/// Reads everything that the sources name and makes a catalogue of it.
///
/// # Errors
///
/// Lists every fault of the file and the environment, or says that no usable key was found and
/// where it was looked for.
pub fn load(sources: &Sources<'_>) -> Result<Loaded, ConfigError> {
    let mut found = Findings::default();
    let named = (sources.env)(FILE_VARIABLE).filter(|path| !path.trim().is_empty());
    let file = sources.file.clone().or_else(|| named.map(PathBuf::from));
    let folder = file.as_deref().and_then(Path::parent).unwrap_or(Path::new("")).to_owned();
    let mut lookup = Lookup::new(sources.env, folder, sources.last);
    let mut refresh_every = None;

    let mut assembly = Assembly::default();
    if let Some(path) = &file {
        match read_file(path) {
            Ok(text) => {
                lookup.files.push(path.clone());
                let document = Document::new(path.display(), &text);
                if let Some((fetched, every)) =
                    fetch_what_lies_elsewhere(&document, &text, &lookup, sources.fetches)
                {
                    (lookup.fetched, refresh_every) = (fetched, Some(every));
                }
                let written = file::read(&document, &text, &mut lookup, &mut found);
                assembly.add_file(written, &mut found);
            }
            Err(error) => {
                // A key that was put in the wrong place is no name of a file.
                let name = path.to_string_lossy();
                if !name.contains('/') && !name.ends_with(".toml") {
                    found.keep_secret(&name);
                }
                let fix = format!("name a readable TOML file by --config or {FILE_VARIABLE}");
                found.fault(path.display(), format!("cannot be read: {error}"), fix);
            }
        }
    }
    let environment = environment::read(&mut lookup, &mut found);
    assembly.add_environment(environment.entries, &lookup.variables, &mut found);
    let rate = environment::consumer_rate(lookup.env, &mut found);
    assembly.settle(rate, &mut found);
    // What is said of the whole is only true of a whole, and would distract from faults.
    if found.faultless() {
        assembly.warn_of_the_whole(&mut found);
        if assembly.catalogue.keys().next().is_none() {
            if (sources.env)(MASTER_KEY).is_some_and(|text| !text.trim().is_empty()) {
                let pools = &mut assembly.catalogue.pools;
                pools.entry(DEFAULT_POOL.to_owned()).or_insert_with(|| Pool::new(DEFAULT_POOL));
                let text = "none is configured; as there is a master key, keys can be created at run time";
                found.warn("keys", text);
            } else {
                report_no_keys(file.as_deref(), environment.looked_at, &mut found);
            }
        }
    }
    let warnings = found.finish()?;
    if let Some(last) = sources.last {
        last.keep_only(&lookup.met);
    }
    let mut variables = lookup.variables;
    variables.extend(environment.variables);
    variables.dedup();
    Ok(Loaded {
        catalogue: assembly.catalogue,
        access: assembly.access,
        log: assembly.log,
        sources: assembly.sources,
        warnings,
        fetched: sources.fetches || refresh_every.is_none(),
        files: lookup.files,
        failed_sources: lookup.failed,
        refresh_every,
        key_places: assembly.key_ids,
        variables,
    })
}

/// What the file refers to and lies in neither a variable nor a file, and how often it is to be fetched anew; nothing if
/// there is no such. A first reading finds out what it is.
fn fetch_what_lies_elsewhere(
    document: &Document,
    text: &str,
    lookup: &Lookup<'_>,
    fetches: bool,
) -> Option<(Fetched, Duration)> {
    if !Reference::may_be_in(text) {
        return None;
    }
    let mut first = Lookup::new(lookup.env, lookup.folder.clone(), lookup.last);
    let written = file::read(document, text, &mut first, &mut Findings::default());
    if first.to_fetch.is_empty() {
        return None;
    }
    let every = written.sources.refresh_every;
    if !fetches {
        let unasked = |written| (written, Err("is not fetched yet".to_owned()));
        return Some((first.to_fetch.into_keys().map(unasked).collect(), every));
    }
    Some((secret_sources::fetch(first.to_fetch, &written.sources.settings), every))
}

fn report_no_keys(file: Option<&Path>, mut looked_at: Vec<String>, found: &mut Findings) {
    looked_at.insert(
        0,
        match file {
            Some(path) => format!("{} (no usable keys)", path.display()),
            None => format!("{FILE_VARIABLE} and --config (not set)"),
        },
    );
    let problem = format!("no usable key was found; looked at {}", looked_at.join(", "));
    let fix =
        format!("set GEMINI_KEYS to one or more keys separated by commas, or {FILE_VARIABLE} to a file");
    found.fault("keys", problem, fix);
}
