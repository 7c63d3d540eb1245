//! Workers that die and come back.

use rand::RngExt;

use super::State;
use crate::sim::{broker::Question, run::Run};

impl Run {
    /// A worker dies, and what its tasks hold is never reported.
    pub(in crate::sim) fn kill_worker(&mut self, worker: usize) {
        for task in 0..self.tasks.len() {
            if self.tasks[task].worker != worker {
                continue;
            }
            let it = &mut self.tasks[task];
            it.life += 1;
            let was_asking = it.state == State::Asking;
            let wanted = it.request.take().filter(|_| matches!(it.state, State::Asking | State::Idle));
            let (call, broker, pool) = (it.call.take(), it.broker, it.pool);
            it.state = State::Idle;
            it.sending = None;
            if let Some(request) = wanted {
                self.wants(task, pool, request.model, -1);
            }
            // Its connection may be seen to break.
            if let Some(call) = call.filter(|_| was_asking)
                && self.rng.random_bool(0.5)
            {
                self.send(broker, Question::Cancel(call));
            }
        }
        self.say(format_args!("worker {worker} dies"));
    }

    pub(in crate::sim) fn revive_worker(&mut self, worker: usize) {
        for task in 0..self.tasks.len() {
            if self.tasks[task].worker == worker {
                let delay = self.rng.random_range(0..1_000);
                self.act_in(task, delay);
            }
        }
        self.say(format_args!("worker {worker} is back"));
    }
}
