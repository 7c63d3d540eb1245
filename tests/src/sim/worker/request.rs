//! A request's way: from the grant to Google, and what is heard of it.

use keybroker::gemini::TransportKind;
use rand::RngExt;

use super::{PATIENCE, Sending, State};
use crate::sim::{
    broker::Question,
    events::{Event, Grant},
    google::{Told, trouble},
    rules::Rule,
    run::Run,
    setting::{MINUTE, MODELS},
};

impl Run {
    pub(in crate::sim) fn granted(&mut self, task: usize, grant: Grant) {
        let now = self.now;
        let weather = self.weather;
        let it = &mut self.tasks[task];
        let request = it.request.as_mut().expect("who asks has a request");
        request.tries += 1;
        request.exclude.clear();
        let (pool, model) = (it.pool, request.model);
        self.longest_wait = self.longest_wait.max(now - request.since);
        let sending = self.sendings.len();
        it.sending = Some(sending);
        it.state = State::Holding;
        // Its timer ran from when it sent its question, and may run slow.
        let allowed = grant.send_within * (1_000_000 + it.drift) / 1_000_000;
        let deadline = it.asked_at + allowed;
        let renew_every = (grant.expires_in * it.renews_at / 200).max(500);
        let (life, actual, permits) = (it.life, request.actual, request.permits);
        self.sendings.push(Sending {
            task,
            life,
            pool,
            model,
            shard: grant.shard,
            unique: grant.unique,
            key: grant.key,
            input: actual,
            permits,
            told: None,
            expires_at: now + grant.expires_in,
            renew_every,
            memo: None,
        });
        self.granted_leases += 1;
        self.wants(task, pool, model, -1);
        let dice = self.rng.random_range(0..1_000);
        let told = if now > deadline {
            Some((Told::NotSent, 1))
        } else if dice < weather.not_sent {
            Some((Told::NotSent, deadline - now + 5))
        } else if weather.trouble && dice >= 995 {
            Some((Told::Transport(TransportKind::Connect), 100))
        } else {
            None
        };
        if let Some((told, delay)) = told {
            self.events.plan(now + delay, Event::Hears { task, life, sending, told });
            return;
        }
        let room = deadline - now;
        let on_the_way = if self.rng.random_range(0..1_000) < weather.last_moment {
            room - self.rng.random_range(0..3).min(room)
        } else {
            self.rng.random_range(1..60).min(room)
        };
        self.events.plan(now + on_the_way, Event::Arrives(sending));
        self.events.plan(now + renew_every, Event::Renews { task, life, sending });
    }

    /// A request reaches Google.
    pub(in crate::sim) fn arrives(&mut self, sending: usize) {
        let now = self.now;
        let start = self.setting.start;
        let Sending { task, life, pool, model, input, permits, .. } = self.sendings[sending];
        let unique = self.sendings[sending].unique.clone();
        let project = &self.keys[&self.sendings[sending].key].0;
        let quota =
            self.quotas.iter().position(|quota| quota.project == *project && quota.model == MODELS[model]);
        let quota = &mut self.quotas[quota.expect("every project is offered every model")];
        let refusal = quota.arrive(start, now, permits, input);
        let found = self.seam.pools[pool].book.arrived(&unique, input, now);
        self.seam.found.extend(found);
        let told = match refusal {
            Some(_) if !self.setting.weather.outside => {
                let what = format!("Google refuses {unique}, and nobody else uses {project}");
                self.seam.found.push((Rule::NoOverSpend, what));
                Told::Transport(TransportKind::Timeout)
            }
            Some(body) => Told::Http(body),
            None => {
                let quota = self.quotas.iter_mut().find(|quota| {
                    quota.project == self.keys[&self.sendings[sending].key].0 && quota.model == MODELS[model]
                });
                let quota = quota.expect("every project is offered every model");
                // What is served in the time that is looked at for utilisation.
                quota.served += if now < self.setting.traffic_until { permits.unsigned_abs() } else { 0 };
                self.fate_at_google(sending)
            }
        };
        let latency = match told {
            Told::Http(_) => self.rng.random_range(30..400),
            _ if !self.setting.calm && self.rng.random_bool(0.05) => self.rng.random_range(5_000..90_000),
            _ => self.rng.random_range(200..5_000),
        };
        let key = self.sendings[sending].key.clone();
        self.say(format_args!("{unique} reaches {key} at Google: {}", told.name()));
        self.events.plan(now + latency, Event::Hears { task, life, sending, told });
    }

    pub(in crate::sim) fn fate_at_google(&mut self, sending: usize) -> Told {
        if !self.weather.trouble {
            return Told::Success;
        }
        let (key, text) = {
            let key = &self.sendings[sending].key;
            (key.clone(), self.keys[key].1.clone())
        };
        let dice = self.rng.random_range(0..1_000);
        // The first key of a project is always well, so that there is one to be had in the end.
        let dice = if key.ends_with("-0") && (12..14).contains(&dice) { 999 } else { dice };
        trouble(dice, &text).unwrap_or(Told::Success)
    }

    /// Google's answer, or the lack of it, reaches a task.
    pub(in crate::sim) fn hears(&mut self, task: usize, life: u32, sending: usize, told: Told) {
        let it = &mut self.tasks[task];
        if it.life != life || it.sending != Some(sending) || it.state != State::Holding {
            return;
        }
        it.state = State::Reporting { tries: 0 };
        it.call = None;
        self.sendings[sending].told = Some(told);
        if self.rng.random_range(0..1_000) < self.weather.late {
            let expires_in = (self.sendings[sending].expires_at - self.now).max(0);
            let late = expires_in + self.rng.random_range(0..12 * MINUTE);
            self.act_in(task, late);
        } else {
            self.report(task);
        }
        if self.rng.random_range(0..1_000) < self.weather.repeated {
            let later = self.rng.random_range(100..30_000);
            self.events.plan(self.now + later, Event::Repeats { sending });
        }
    }

    /// A lease is to be renewed, unless its request is over.
    pub(in crate::sim) fn renews(&mut self, task: usize, life: u32, sending: usize) {
        let it = &self.tasks[task];
        if it.life != life || it.sending != Some(sending) || it.state != State::Holding {
            return;
        }
        let caller = self.new_call(task, PATIENCE);
        let broker = self.tasks[task].broker;
        let it = &self.sendings[sending];
        let (pool, shard, unique) = (it.pool, it.shard.clone(), it.unique.clone());
        let again = self.now + it.renew_every;
        self.say(format_args!("{unique} is to be renewed by broker {broker}"));
        self.send(broker, Question::Renew { caller, pool, shard, unique });
        self.events.plan(again, Event::Renews { task, life, sending });
    }

    pub(in crate::sim) fn renewed(&mut self, task: usize, until: Option<i64>) {
        let Some(sending) = self.tasks[task].sending else { return };
        if let Some(left) = until {
            self.sendings[sending].expires_at = self.now + left;
        }
    }
}
