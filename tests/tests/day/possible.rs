//! How much of each limit was not used in a time; see [`crate::supply`] for the definition.

use std::collections::BTreeMap;

use keybroker::{
    catalogue::{Limit, Pool, Project},
    ledger::{Dimension, Span},
};

use crate::{
    series::{Owner, Series, Shelf},
    setting::{HOUR, MINUTE, PacificDay, Setting, measure},
    supply::{Line, Outages},
};

/// From one instant to another, which is no part of it.
pub(crate) type Time = (i64, i64);

/// What more could have been sent in a time, by the limit that left the least room.
#[derive(Debug, Clone)]
struct Room {
    name: String,
    more: f64,
    allowed: f64,
    sent: f64,
    time: i64,
    /// Of a calendar window: its number; then what was sent is all that was sent in it so far.
    calendar: Option<usize>,
}

impl Room {
    fn line(&self) -> (String, Line) {
        let Self { more, allowed, sent, .. } = *self;
        let (minutes, so_far) = (self.time as f64 / MINUTE as f64, self.calendar.is_some());
        let line = Line { minutes, allowed, possible: sent + more, sent, so_far };
        let name = &self.name;
        (self.calendar.map_or_else(|| name.clone(), |number| format!("{name}, window {number}")), line)
    }
}

fn least(rooms: impl Iterator<Item = Room>) -> Option<Room> {
    rooms.min_by(|one, other| one.more.total_cmp(&other.more))
}

/// What was written down, and what it is about.
pub(crate) struct Books<'a> {
    pub(crate) setting: &'a Setting,
    pub(crate) day: &'a PacificDay,
    pub(crate) shelf: &'a Shelf,
    pub(crate) outages: &'a Outages,
}

impl Books<'_> {
    /// How much more of a limit could have been used in a time, and how much in all Google would let pass.
    fn unused(&self, limit: &Limit, send_within: i64, time: Time, all: &Series) -> (f64, f64) {
        let (dimension, span) = measure(limit);
        let (from, to) = time;
        let amount = i64::try_from(limit.amount).expect("limits are bounded");
        // Of a calendar window, whose end is too small for the largest request's upper bound.
        let left = |since: i64, at: i64| {
            let (sent, lost) = all.sums((since, at), dimension);
            (amount - sent - lost - (all.largest(dimension) - 1)).max(0) as f64
        };
        let of_calendar = |since: i64| (left(since, to), amount as f64);
        match span {
            Span::Trailing(span) => {
                let again = span + (span + 59) / 60 + send_within;
                let charged =
                    all.between((from - again, to)).map(|leased| leased.charge(dimension, again, time));
                let free = (amount * (to - from) - charged.sum::<i64>()).max(0);
                (free as f64 / again as f64, amount as f64 * (to - from) as f64 / span as f64)
            }
            Span::Day | Span::Month => of_calendar(self.begin_of(span, from)),
            Span::Held => unreachable!("what is in flight is not used up"),
        }
    }

    /// When the Pacific day or month began in which an instant lies, as far as anything was sent in it.
    fn begin_of(&self, span: Span, at: i64) -> i64 {
        match span {
            Span::Month => [0, self.day.dawn][self.day.month_of(at)],
            _ => [0, self.day.dawn, self.day.dusk][self.day.day_of(at)],
        }
    }

    /// The same in requests of `ours`, which are a part of `all` that the limit counts.
    fn room(
        &self,
        (name, limit): (&str, &Limit),
        pool: &Pool,
        time: Time,
        (all, ours): (Owner<'_>, Owner<'_>),
    ) -> Room {
        let (dimension, span) = measure(limit);
        let (all, ours) = (self.shelf.of(all), self.shelf.of(ours));
        let (unused, allowed) = self.unused(limit, millis(pool), time, all);
        let each = |time| {
            let each = ours.sums(time, dimension).0 as f64 / ours.sums(time, Dimension::Requests).0 as f64;
            Some(each).filter(|each| *each > 0.0)
        };
        // Where nothing was sent, it would have been as large as at other times.
        let each = each(time).or_else(|| each((0, i64::MAX))).unwrap_or(1.0);
        let (since, calendar) = match span {
            Span::Day => (self.begin_of(span, time.0), Some(self.day.day_of(time.0))),
            Span::Month => (self.begin_of(span, time.0), Some(self.day.month_of(time.0))),
            Span::Trailing(_) | Span::Held => (time.0, None),
        };
        let counted = (since, time.1);
        let others = all.sums(counted, dimension).0 - ours.sums(counted, dimension).0;
        Room {
            name: format!("{name}: {limit}"),
            more: unused / each,
            allowed: (allowed - others as f64).max(0.0) / each,
            sent: ours.sums(counted, Dimension::Requests).0 as f64,
            time: time.1 - time.0,
            calendar,
        }
    }

    fn slots(&self, (name, limit): (&str, &Limit), time: Time, ours: Owner<'_>) -> Room {
        let ours = self.shelf.of(ours);
        let (from, to) = time;
        let flights = ours.between((from - HOUR, to));
        let flown: i64 =
            flights.map(|leased| (leased.flown_until.min(to) - leased.granted_at.max(from)).max(0)).sum();
        let (mut each, mut leases) = (0, 0);
        for leased in ours.between((0, i64::MAX)) {
            each += leased.flown_until - leased.granted_at;
            leases += 1;
        }
        let each = each as f64 / f64::from(leases.max(1));
        let all = limit.amount as f64 * (to - from) as f64;
        Room {
            name: format!("{name}: {limit}"),
            more: (all - flown as f64).max(0.0) / each,
            allowed: all / each,
            sent: ours.sums(time, Dimension::Requests).0 as f64,
            time: to - from,
            calendar: None,
        }
    }

    /// What a project could send in one part of a time.
    fn of_project(&self, pool: &Pool, project: &Project, model: &str, time: Time) -> Option<Room> {
        let ours = Owner::ProjectModel(&project.id, model);
        let name = format!("project {}, {model}", project.id);
        let limits = pool.limits_for(project, model);
        let by_model = limits.iter().map(|limit| match measure(limit) {
            (_, Span::Held) => self.slots((&name, limit), time, ours),
            _ => self.room((&name, limit), pool, time, (ours, ours)),
        });
        let name = format!("project {}", project.id);
        let (all, totals) = (Owner::Project(&project.id), pool.project_totals(project));
        let of_all = totals.iter().map(|limit| self.room((&name, limit), pool, time, (all, ours)));
        least(by_model.chain(of_all))
    }

    /// Who binds when a pool's model is wanted.
    pub(crate) fn of_model(&self, pool: &Pool, model: &str, time: Time) -> Vec<(String, Line)> {
        let mut accounts: BTreeMap<&str, Vec<Room>> = BTreeMap::new();
        for project in &pool.projects {
            let parts = self.outages.without(&project.id, model, time);
            let rooms = parts.into_iter().filter_map(|part| self.of_project(pool, project, model, part));
            accounts.entry(project.billing_account.as_deref().unwrap_or_default()).or_default().extend(rooms);
        }
        let more = |rooms: &[Room]| rooms.iter().map(|room| room.more).sum::<f64>();
        let mut rooms = Vec::new();
        for (account, of_projects) in accounts {
            let owners = (Owner::Account(account), Owner::AccountModel(account, model));
            let name = format!("billing account {account}");
            let totals = pool.account_totals(account);
            let of_account = totals.iter().map(|limit| self.room((&name, limit), pool, time, owners));
            match least(of_account).filter(|of_account| of_account.more < more(&of_projects)) {
                Some(of_account) => rooms.push(of_account),
                None => rooms.extend(of_projects),
            }
        }
        let ours = Owner::PoolModel(&pool.name, model);
        let names = [format!("pool {}, {model}", pool.name), format!("pool {}", pool.name)];
        let (of_model, of_pool) = (pool.model_totals_for(model), pool.pool_totals());
        let by_model = of_model.iter().map(|limit| self.room((&names[0], limit), pool, time, (ours, ours)));
        let owners = (Owner::Pool(&pool.name), ours);
        let by_pool = of_pool.iter().map(|limit| self.room((&names[1], limit), pool, time, owners));
        match least(by_model.chain(by_pool)).filter(|least| least.more < more(&rooms)) {
            Some(least) => vec![least.line()],
            None => rooms.iter().map(Room::line).collect(),
        }
    }

    /// Which limit of its plan binds a consumer.
    pub(crate) fn of_consumer(&self, pool: &Pool, consumer: &str, time: Time) -> Vec<(String, Line)> {
        let limits = self.setting.catalogue.plan_of(consumer).map_or(&[][..], |plan| &plan.limits);
        let (name, ours) =
            (format!("consumer {consumer} in {}", pool.name), Owner::Consumer(&pool.name, consumer));
        let rooms = limits
            .iter()
            .filter(|limit| measure(limit).1 != Span::Held)
            .map(|limit| self.room((&name, limit), pool, time, (ours, ours)));
        least(rooms).map(|least| least.line()).into_iter().collect()
    }
}

fn millis(pool: &Pool) -> i64 {
    i64::try_from(pool.send_within.as_millis()).expect("it is at most half a minute")
}
