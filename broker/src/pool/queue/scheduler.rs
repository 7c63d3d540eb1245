//! Who is asked for next: deficit round robin between consumers, first in, first out within one.
//!
//! Pure: it reads no clock and asks nobody.
//!
//! A round gives each consumer that waits a quantum of one permit; a consumer is served when its
//! deficit, the quanta it has not spent, covers the permits of its first waiter. Rounds are not walked:
//! each consumer stands in the order at the round in which its deficit will suffice. A consumer whose
//! last waiter is gone loses its deficit; one that stands still earns none.
//!
//! Whom the ledger refuses keeps its turn as a [`Hold`] and is the first to be asked for at its
//! instant. Until then others may go on, but only with what it could not use: those that need no less
//! stand back, and the keys that the ledger named for it are kept from the rest. So whoever is passed
//! over is served at the instant that the ledger named, whatever the others ask for.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use tokio::time::Instant;

use super::{
    Ticket,
    hold::{Hold, Holds, Obstacle},
    known::Known,
    lane::{Lane, Lengths},
    need::Need,
};

/// The most that are asked for at once.
pub(super) const LARGEST_WINDOW: usize = 256;
/// After so many grants in a row there is plenty: then whoever comes next is asked for together with
/// those before it. Before that, only who could not be served without them is, so that nobody overtakes.
const PLENTY: usize = 64;
/// How many consumers that stand back are passed over in search of one that does not.
const FARTHEST_LOOK: usize = 256;
/// How often those who hold a turn are asked for again before their instant: another broker may have
/// taken a report that freed something.
pub(super) const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// A waiter as it joins.
pub(super) struct Waiter<T> {
    pub(super) ticket: Ticket,
    pub(super) consumer: Arc<str>,
    pub(super) need: Arc<Need>,
    pub(super) deadline: Instant,
    /// What it was told when it asked by itself a moment ago, and by what.
    pub(super) told: Option<(Known, Obstacle)>,
    pub(super) load: T,
}

/// Whom to ask the ledger for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ask {
    pub(super) ticket: Ticket,
    /// The keys that are kept for those who have waited longer.
    pub(super) kept: Vec<String>,
}

/// A waiter that is refused.
#[derive(Debug)]
pub(super) struct Ended<T> {
    pub(super) load: T,
    pub(super) known: Option<Known>,
    /// How many would have gone before it.
    pub(super) ahead: usize,
}

struct Seat<T> {
    lane: u64,
    need: Arc<Need>,
    deadline: Instant,
    known: Option<Known>,
    // What refused it when it asked by itself, and how often something had been freed by then.
    told: Option<(Obstacle, u64)>,
    load: T,
    place: Place,
    // What its turn cost its lane, the round before, and the turn's number.
    charge: i64,
    round_before: i64,
    turn: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Waiting,
    Asked,
    Held,
}

/// All waiters of one queue.
pub(super) struct Scheduler<T> {
    seats: HashMap<Ticket, Seat<T>>,
    lanes: HashMap<u64, Lane>,
    names: HashMap<Arc<str>, u64>,
    lengths: Lengths,
    // Lanes by the round in which their first waiter is due; among equals, who waits for longest.
    order: BTreeSet<(i64, u64)>,
    round: i64,
    lanes_made: u64,
    turns: u64,
    holds: Holds,
    deadlines: BTreeSet<(Instant, Ticket)>,
    last: Option<Known>,
    // Grants in a row.
    streak: usize,
    freed: bool,
    releases: u64,
    looked: Option<Instant>,
}

impl<T> Default for Scheduler<T> {
    fn default() -> Self {
        Self {
            seats: HashMap::new(),
            lanes: HashMap::new(),
            names: HashMap::new(),
            lengths: Lengths::default(),
            order: BTreeSet::new(),
            round: 0,
            lanes_made: 0,
            turns: 0,
            holds: Holds::default(),
            deadlines: BTreeSet::new(),
            last: None,
            streak: 0,
            freed: false,
            releases: 0,
            looked: None,
        }
    }
}

impl<T> Scheduler<T> {
    pub(super) fn len(&self) -> usize {
        self.seats.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.seats.is_empty()
    }

    pub(super) fn load(&self, ticket: Ticket) -> Option<&T> {
        self.seats.get(&ticket).map(|seat| &seat.load)
    }

    /// Adds a waiter.
    pub(super) fn join(&mut self, waiter: Waiter<T>) {
        let Waiter { ticket, consumer, need, deadline, told, load } = waiter;
        let (known, obstacle) = told.unzip();
        let told = obstacle.map(|obstacle| (obstacle, self.releases));
        let id = self.names.get(&consumer).copied().unwrap_or_else(|| {
            self.lanes_made += 1;
            self.names.insert(consumer.clone(), self.lanes_made);
            self.lanes.insert(self.lanes_made, Lane::new(consumer, self.round));
            self.lanes_made
        });
        let place = Place::Waiting;
        let seat =
            Seat { lane: id, need, deadline, known, told, load, place, charge: 0, round_before: 0, turn: 0 };
        self.seats.insert(ticket, seat);
        self.deadlines.insert((deadline, ticket));
        self.lane_mut(id).members += 1;
        self.wait(id, ticket);
    }

    /// A refusal that is certain to be the answer to such a need now.
    pub(super) fn refusal_of(&self, need: &Need, now: Instant) -> Option<&Known> {
        if self.freed { None } else { self.holds.refusal_of(need, now) }
    }

    /// Capacity may have come back: whoever holds a turn is asked for again.
    pub(super) fn freed(&mut self) {
        self.freed = true;
        self.releases += 1;
    }

    /// Whom to ask the ledger for now, in that order; nobody if all have to wait.
    pub(super) fn next(&mut self, now: Instant) -> Vec<Ask> {
        let look_again = self.look_again_at().is_some_and(|at| at <= now);
        if std::mem::take(&mut self.freed) || look_again {
            self.holds.recheck();
            self.looked = Some(now);
        }
        let due = self.holds.take_due(now, LARGEST_WINDOW);
        if !due.is_empty() {
            return due.into_iter().map(|ticket| self.ask(ticket)).collect();
        }
        let mut asks: Vec<Ask> = Vec::new();
        let mut last: Option<Arc<Need>> = None;
        // While leases are granted more are asked for at once, and never many more than were granted.
        while asks.len() < (1 + self.streak / 4).min(LARGEST_WINDOW) {
            let Some((lane, need)) = self.pick() else { break };
            if asks.is_empty() && self.is_told(lane, now) {
                continue;
            }
            if self.streak < PLENTY && last.as_ref().is_some_and(|last| !last.rules_out(&need)) {
                break;
            }
            last = Some(need);
            let ticket = self.take(lane);
            asks.push(self.ask(ticket));
        }
        asks
    }

    /// Until when there is nothing to do, if nothing happens.
    pub(super) fn rest_until(&self) -> Option<Instant> {
        [self.holds.next_due(), self.next_deadline(), self.look_again_at()].into_iter().flatten().min()
    }

    /// The earliest deadline.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    /// The ledger granted what was asked; none if the waiter left meanwhile.
    pub(super) fn granted(&mut self, ticket: Ticket) -> Option<T> {
        self.streak += 1;
        self.holds_end(ticket);
        self.forget(ticket).map(|seat| seat.load)
    }

    /// The ledger refused what was asked. Returns all who cannot be served before their deadlines.
    pub(super) fn refused(
        &mut self,
        ticket: Ticket,
        known: Known,
        obstacle: Obstacle,
        kept: bool,
        now: Instant,
    ) -> Vec<Ended<T>> {
        self.streak = 0;
        if self.holds.is_empty() {
            self.looked = Some(now);
        }
        let Some(seat) = self.seats.get_mut(&ticket) else { return Vec::new() };
        // With keys kept from it, a refusal says nothing of those.
        let by_kept = kept && !matches!(obstacle, Obstacle::Shared(_));
        if by_kept {
            let known = (!known.is_for_good()).then_some(known);
            let obstacle = Obstacle::Keys(Vec::new());
            self.stand_by(ticket, obstacle, known, true);
            return Vec::new();
        }
        seat.known = Some(known.clone());
        self.last = Some(known.clone());
        let mut ended = self.beyond(ticket, &known, &obstacle);
        if known.is_beyond(self.seats[&ticket].deadline) {
            ended.insert(0, ticket);
        } else {
            self.stand_by(ticket, obstacle, Some(known), false);
        }
        self.end(&ended)
    }

    /// The ledger had no time for what was asked: it will be asked again.
    pub(super) fn unanswered(&mut self, ticket: Ticket) {
        if self.holds.get(ticket).is_some() {
            self.holds.ask_again(ticket);
            let seat = self.seats.get_mut(&ticket).expect("who holds a turn has a seat");
            seat.place = Place::Held;
            self.deadlines.insert((seat.deadline, ticket));
        } else if self.seats.contains_key(&ticket) {
            self.put_back(ticket);
        }
    }

    /// Takes a waiter out: it left, or its request cannot be made at all.
    pub(super) fn leave(&mut self, ticket: Ticket) -> Option<T> {
        self.holds_end(ticket);
        let seat = self.seats.get(&ticket)?;
        let (lane, charge) = (seat.lane, seat.charge);
        // Its turn goes to the next of its consumer.
        self.lane_mut(lane).spent -= charge;
        self.forget(ticket).map(|seat| seat.load)
    }

    /// Takes out all whose deadline was at that instant or before, but for those that the ledger is
    /// being asked for.
    pub(super) fn expire(&mut self, by: Instant) -> Vec<Ended<T>> {
        let due = self.deadlines.iter().take_while(|(at, _)| *at <= by).map(|(_, ticket)| *ticket);
        let due: Vec<Ticket> = due.filter(|ticket| self.seats[ticket].place != Place::Asked).collect();
        self.end(&due)
    }

    /// Takes everybody out.
    pub(super) fn clear(&mut self) -> Vec<T> {
        let seats = std::mem::take(self).seats;
        seats.into_values().map(|seat| seat.load).collect()
    }

    /// How many would go before a newcomer of that consumer.
    pub(super) fn ahead_of_newcomer(&self, consumer: &str) -> usize {
        let lane = self.names.get(consumer).map(|id| &self.lanes[id]);
        let own = lane.map_or(0, |lane| lane.waiting.len());
        self.holds.before(u64::MAX) + self.lengths.ahead(own, own)
    }

    /// The last refusal of the ledger.
    pub(super) fn last_known(&self) -> Option<&Known> {
        self.last.as_ref()
    }

    fn ahead(&self, ticket: Ticket) -> usize {
        let seat = &self.seats[&ticket];
        if seat.place != Place::Waiting {
            return self.holds.before(seat.turn);
        }
        let lane = &self.lanes[&seat.lane];
        self.holds.before(u64::MAX) + self.lengths.ahead(lane.before(ticket), lane.waiting.len())
    }

    fn look_again_at(&self) -> Option<Instant> {
        if self.holds.is_empty() { None } else { self.looked.map(|at| at + LOOK_AGAIN) }
    }

    /// The lane whose turn it is, and what its first waiter needs.
    fn pick(&self) -> Option<(u64, Arc<Need>)> {
        if !self.holds.has_room() {
            return None;
        }
        let first = |(_, id): &(i64, u64)| {
            let ticket = self.lanes[id].waiting.front().expect("a lane in the order has waiters");
            (*id, &self.seats[ticket].need)
        };
        let looked_at = self.order.iter().take(FARTHEST_LOOK).map(first);
        looked_at.filter(|(_, need)| !self.holds.bars(need)).map(|(id, need)| (id, need.clone())).next()
    }

    /// Whether the lane's first waiter need not be asked for: it was refused a moment ago, when it asked
    /// by itself. Then it holds its turn.
    fn is_told(&mut self, id: u64, now: Instant) -> bool {
        let ticket = *self.lanes[&id].waiting.front().expect("a lane in the order has waiters");
        let seat = self.seats.get_mut(&ticket).expect("a lane's waiters have seats");
        let (Some((obstacle, releases)), Some(known)) = (seat.told.take(), seat.known.clone()) else {
            return false;
        };
        if releases != self.releases || known.at <= now {
            return false;
        }
        self.take(id);
        if self.holds.is_empty() {
            self.looked = Some(now);
        }
        self.last = Some(known.clone());
        self.hold(ticket, obstacle, Some(known), false);
        true
    }

    /// Gives the lane its turn: its first waiter, who is paid for now.
    fn take(&mut self, id: u64) -> Ticket {
        let round = self.round;
        self.turns += 1;
        let turn = self.turns;
        let due = self.due_round(id).expect("who is picked has a waiter");
        let lane = self.lane_mut(id);
        let before = lane.waiting.len();
        let ticket = lane.waiting.pop_front().expect("who is picked has a waiter");
        // A lane that was passed over does not make up for the rounds in which it could not be served.
        let reached = due.max(round);
        let charge = reached - lane.spent;
        lane.spent = reached;
        self.lengths.change(before, before - 1);
        self.round = reached;
        let seat = self.seats.get_mut(&ticket).expect("a lane's waiters have seats");
        (seat.charge, seat.round_before, seat.turn) = (charge, round, turn);
        self.place(id);
        ticket
    }

    fn ask(&mut self, ticket: Ticket) -> Ask {
        let seat = self.seats.get_mut(&ticket).expect("who holds a turn has a seat");
        seat.place = Place::Asked;
        let turn = seat.turn;
        self.deadlines.remove(&(seat.deadline, ticket));
        Ask { ticket, kept: self.holds.kept_from(turn) }
    }

    /// Who was refused keeps its turn, unless others that stand in its way keep theirs.
    fn stand_by(&mut self, ticket: Ticket, obstacle: Obstacle, known: Option<Known>, behind: bool) {
        let had_one = self.holds_end(ticket);
        let seat = &self.seats[&ticket];
        let by_keys = matches!(obstacle, Obstacle::Keys(_));
        if !had_one && (self.holds.bars(&seat.need) || (by_keys && !self.holds.has_room())) {
            self.put_back(ticket);
        } else {
            self.hold(ticket, obstacle, known, behind);
        }
    }

    /// Takes a turn back as if it had never come.
    fn put_back(&mut self, ticket: Ticket) {
        let seat = self.seats.get_mut(&ticket).expect("who was asked for has a seat");
        let (lane, charge, round) = (seat.lane, seat.charge, seat.round_before);
        (seat.place, seat.charge) = (Place::Waiting, 0);
        self.deadlines.insert((seat.deadline, ticket));
        self.lane_mut(lane).spent -= charge;
        self.round = self.round.min(round);
        self.wait(lane, ticket);
    }

    fn hold(&mut self, ticket: Ticket, obstacle: Obstacle, known: Option<Known>, behind: bool) {
        let seat = self.seats.get_mut(&ticket).expect("who is refused has a seat");
        seat.place = Place::Held;
        self.deadlines.insert((seat.deadline, ticket));
        let (id, turn, need) = (seat.lane, seat.turn, seat.need.clone());
        let hold = Hold { ticket, turn, need, obstacle, known, behind, asking: false, asked_as: 0 };
        if hold.stops_lane() {
            self.lane_mut(id).stopped += 1;
            self.place(id);
        }
        self.holds.insert(hold);
    }

    /// Ends a hold; whether there was one.
    fn holds_end(&mut self, ticket: Ticket) -> bool {
        let Some(hold) = self.holds.remove(ticket) else { return false };
        let round = self.round;
        let id = self.seats[&ticket].lane;
        if hold.stops_lane() {
            let lane = self.lane_mut(id);
            lane.stopped -= 1;
            // What passed while it stood still earned it nothing.
            lane.spent = lane.spent.max(round);
            self.place(id);
        }
        true
    }

    /// Those in the queue for whom this refusal holds beyond their deadlines.
    fn beyond(&self, refused: Ticket, known: &Known, obstacle: &Obstacle) -> Vec<Ticket> {
        let need = &self.seats[&refused].need;
        let earlier = self.deadlines.iter().take_while(|(at, _)| known.is_beyond(*at));
        let earlier = earlier.map(|(_, ticket)| *ticket);
        let ends = |ticket: &Ticket| {
            let seat = &self.seats[ticket];
            *ticket != refused && seat.place == Place::Waiting && obstacle.refuses(need, &seat.need)
        };
        earlier.filter(ends).collect()
    }

    fn end(&mut self, tickets: &[Ticket]) -> Vec<Ended<T>> {
        let ahead: Vec<usize> = tickets.iter().map(|ticket| self.ahead(*ticket)).collect();
        let mut ended = Vec::with_capacity(tickets.len());
        for (&ticket, ahead) in tickets.iter().zip(ahead) {
            let known = self.known_to(ticket);
            ended.extend(self.leave(ticket).map(|load| Ended { load, known, ahead }));
        }
        ended
    }

    /// What is known of when it can be served: its own refusal, one that holds for it as well, or else
    /// the last one.
    fn known_to(&self, ticket: Ticket) -> Option<Known> {
        let seat = &self.seats[&ticket];
        let own = self.holds.get(ticket).and_then(|hold| hold.known.as_ref()).or(seat.known.as_ref());
        own.or_else(|| self.last.as_ref().filter(|last| !last.is_for_good())).cloned()
    }

    /// Puts a waiter into its lane.
    fn wait(&mut self, id: u64, ticket: Ticket) {
        let lane = self.lane_mut(id);
        let before = lane.waiting.len();
        lane.insert(ticket);
        self.lengths.change(before, before + 1);
        self.place(id);
    }

    fn forget(&mut self, ticket: Ticket) -> Option<Seat<T>> {
        let seat = self.seats.remove(&ticket)?;
        self.deadlines.remove(&(seat.deadline, ticket));
        let lane = self.lane_mut(seat.lane);
        lane.members -= 1;
        let (before, members) = (lane.waiting.len(), lane.members);
        if lane.remove(ticket) {
            self.lengths.change(before, before - 1);
        }
        self.place(seat.lane);
        if members == 0
            && let Some(lane) = self.lanes.remove(&seat.lane)
        {
            self.names.remove(&lane.name);
        }
        if self.seats.is_empty() {
            (self.looked, self.last, self.streak, self.freed) = (None, None, 0, false);
        }
        Some(seat)
    }

    /// The round in which the lane's deficit covers its first waiter.
    fn due_round(&self, id: u64) -> Option<i64> {
        let lane = &self.lanes[&id];
        Some(lane.spent + self.seats[lane.waiting.front()?].need.amounts.permits.max(1))
    }

    /// Puts the lane where it now belongs in the order.
    fn place(&mut self, id: u64) {
        let due = self.due_round(id).filter(|_| self.lanes[&id].stopped == 0);
        let lane = self.lane_mut(id);
        let placed = std::mem::replace(&mut lane.placed, due);
        if placed != due {
            if let Some(round) = placed {
                self.order.remove(&(round, id));
            }
            self.order.extend(due.map(|round| (round, id)));
        }
    }

    fn lane_mut(&mut self, id: u64) -> &mut Lane {
        self.lanes.get_mut(&id).expect("a lane stays while it has members")
    }
}
