//! Every limit of the catalogue, held against what was sent: over every trailing span, each Pacific day and
//! month, and at every instant for what is in flight. Soft plans are held to be flagged.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    rc::Rc,
};

use keybroker::{
    catalogue::{Limit, PlanMode},
    ledger::{Amounts, Dimension},
};

use crate::{
    demand::Source,
    exact::Exact,
    setting::{PacificDay, Setting, measure},
};

/// One limit and what counts against it.
#[derive(Debug)]
struct Held {
    name: String,
    dimension: Dimension,
    limit: i64,
    soft: bool,
    exact: Exact,
}

/// A lease that is in flight, after when it ends at the latest.
type Flight = (i64, usize);

/// Whose limits they are: a project's for a model, a consumer's, and the like.
#[derive(Debug, Clone)]
struct Owner {
    number: usize,
    limits: Rc<[usize]>,
}

/// Whom a lease concerns.
#[derive(Debug)]
struct Concerned {
    owners: Vec<usize>,
    limits: Vec<usize>,
}

/// All limits.
#[derive(Debug)]
pub(crate) struct Holds<'a> {
    setting: &'a Setting,
    day: &'a PacificDay,
    held: Vec<Held>,
    owners: BTreeMap<String, Owner>,
    /// What every owner has in flight, limited or not.
    in_flight: Vec<i64>,
    by_lease: HashMap<(usize, usize), Rc<Concerned>>,
    flights: BTreeSet<Flight>,
    flying: HashMap<usize, (i64, i64, Rc<Concerned>)>,
    /// Requests over a soft plan that were not flagged.
    pub(crate) not_flagged: Vec<String>,
    /// How many were.
    pub(crate) flagged: usize,
}

impl<'a> Holds<'a> {
    pub(crate) fn new(setting: &'a Setting, day: &'a PacificDay) -> Self {
        Self {
            setting,
            day,
            held: Vec::new(),
            owners: BTreeMap::new(),
            in_flight: Vec::new(),
            by_lease: HashMap::new(),
            flights: BTreeSet::new(),
            flying: HashMap::new(),
            not_flagged: Vec::new(),
            flagged: 0,
        }
    }

    /// The limits that concern a source's requests with a key.
    fn of(&mut self, lane: usize, source: &Source, key: usize) -> Rc<Concerned> {
        if let Some(known) = self.by_lease.get(&(lane, key)) {
            return known.clone();
        }
        let (setting, place) = (self.setting, &self.setting.keys[key]);
        let model = setting.catalogue.quota_model(source.model);
        let pool = setting.pool(&place.pool);
        let project = pool.projects.iter().find(|project| project.id == place.project);
        let project = project.expect("the key is in this project");
        let of_key = project.keys.iter().find(|other| other.id == place.id).expect("so it is");
        let plan = setting.catalogue.plan_of(source.consumer);
        let soft = plan.is_some_and(|plan| plan.mode == PlanMode::Soft);
        let owners: [(String, Vec<Limit>, bool); 8] = [
            (format!("{}/{model}", project.id), pool.limits_for(project, model), false),
            (format!("key {}/{model}", place.id), pool.key_limits_for(project, of_key, model), false),
            (format!("key {}", place.id), pool.key_totals(project, of_key), false),
            (format!("project {}", project.id), pool.project_totals(project), false),
            (
                format!("account {}", place.account.as_deref().unwrap_or("none")),
                place.account.as_ref().map_or(Vec::new(), |account| pool.account_totals(account)),
                false,
            ),
            (format!("pool {}/{model}", pool.name), pool.model_totals_for(model), false),
            (format!("pool {}", pool.name), pool.pool_totals(), false),
            (
                format!("{} in {}", source.consumer, pool.name),
                plan.map_or(Vec::new(), |plan| plan.limits.clone()),
                soft,
            ),
        ];
        let mut concerned = Concerned { owners: Vec::new(), limits: Vec::new() };
        for (name, limits, soft) in owners {
            let owner = self.owner(name, &limits, soft);
            concerned.owners.push(owner.number);
            concerned.limits.extend(owner.limits.iter());
        }
        let concerned = Rc::new(concerned);
        self.by_lease.insert((lane, key), concerned.clone());
        concerned
    }

    fn owner(&mut self, name: String, limits: &[Limit], soft: bool) -> Owner {
        if let Some(known) = self.owners.get(&name) {
            return known.clone();
        }
        let first = self.held.len();
        for limit in limits {
            let (dimension, span) = measure(limit);
            let amount = i64::try_from(limit.amount).expect("limits are bounded");
            let (name, exact) = (format!("{name}: {limit}"), Exact::new(span));
            self.held.push(Held { name, dimension, limit: amount, soft, exact });
        }
        self.in_flight.push(0);
        let owner = Owner { number: self.in_flight.len() - 1, limits: (first..self.held.len()).collect() };
        self.owners.insert(name, owner.clone());
        owner
    }

    fn count_in_flight(&mut self, concerned: &Concerned, at: i64, permits: i64) {
        for &owner in &concerned.owners {
            self.in_flight[owner] += permits;
        }
        for &number in &concerned.limits {
            let held = &mut self.held[number];
            if held.dimension == Dimension::InFlight {
                held.exact.add(at, permits, self.day);
            }
        }
    }

    /// A lease is granted; `flagged` if it says that it exceeds a soft plan.
    pub(crate) fn granted(&mut self, lease: usize, at: i64, granted: &Granted<'_>) {
        let concerned = self.of(granted.lane, granted.source, granted.key);
        self.land_due(at);
        let over = concerned.limits.iter().any(|number| {
            let held = &mut self.held[*number];
            held.soft && held.exact.sum(at, self.day) + granted.bound.of(held.dimension) > held.limit
        });
        self.count_in_flight(&concerned, at, granted.bound.permits);
        if over && !granted.flagged {
            self.not_flagged.push(format!("{at}: {}", granted.source.consumer));
        }
        self.flagged += usize::from(granted.flagged);
        self.flights.insert((granted.expires_at, lease));
        self.flying.insert(lease, (granted.expires_at, granted.bound.permits, concerned));
    }

    /// Its request reaches Google.
    pub(crate) fn arrived(&mut self, at: i64, lane: usize, source: &Source, key: usize, actual: Amounts) {
        for &number in &self.of(lane, source, key).limits {
            let held = &mut self.held[number];
            if held.dimension != Dimension::InFlight {
                held.exact.add(at, actual.of(held.dimension), self.day);
            }
        }
    }

    /// It is held for longer.
    pub(crate) fn renewed(&mut self, lease: usize, until: i64) {
        if let Some(flying) = self.flying.get_mut(&lease) {
            self.flights.remove(&(flying.0, lease));
            flying.0 = until;
            self.flights.insert((until, lease));
        }
    }

    /// It is reported, or given up for lost.
    pub(crate) fn ended(&mut self, lease: usize, at: i64) {
        self.land_due(at);
        self.land(lease, at);
    }

    fn land(&mut self, lease: usize, at: i64) {
        let Some((until, permits, concerned)) = self.flying.remove(&lease) else { return };
        self.flights.remove(&(until, lease));
        self.count_in_flight(&concerned, at, -permits);
    }

    /// Lands what nobody reported in time.
    fn land_due(&mut self, at: i64) {
        while let Some((until, lease)) = self.flights.first().copied().filter(|first| first.0 <= at) {
            self.land(lease, until);
        }
    }

    /// How many requests an owner has in flight.
    pub(crate) fn in_flight(&mut self, owner: &str, at: i64) -> i64 {
        self.land_due(at);
        self.owners.get(owner).map_or(0, |owner| self.in_flight[owner.number])
    }

    /// The limits that were exceeded.
    pub(crate) fn over(&self) -> Vec<String> {
        let over = self.held.iter().filter(|held| !held.soft && held.exact.worst > held.limit);
        over.map(|held| format!("{} held {}", held.name, held.exact.worst)).collect()
    }

    /// How many limits were reached exactly, and how many there are.
    pub(crate) fn reached(&self) -> (usize, usize) {
        let reached = self.held.iter().filter(|held| held.exact.worst == held.limit).count();
        (reached, self.held.len())
    }
}

/// A lease as it is granted.
pub(crate) struct Granted<'a> {
    pub(crate) lane: usize,
    pub(crate) source: &'a Source,
    pub(crate) key: usize,
    pub(crate) bound: Amounts,
    pub(crate) expires_at: i64,
    pub(crate) flagged: bool,
}
