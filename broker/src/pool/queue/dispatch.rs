//! The task of a queue: it asks the ledger for those whose turn it is, and rests until the instant
//! that the ledger named, or until something may have freed.

use std::{
    sync::{Arc, atomic::Ordering::SeqCst},
    time::Duration,
};

use futures_util::future::join_all;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::{Queue, Ticket, handed::Handed, known::Known};
use crate::{
    calls::{self, Call},
    pool::{AcquireError, Denied, Grant, Pool, Wish},
};

/// A deadline that falls on the instant of a grant goes to the grant: while the ledger is asked,
/// others are refused this much later.
const GRANTS_FIRST: Duration = Duration::from_millis(1);
/// How long nobody is asked for when too many operations are queued at the ledger.
const BREATHER: Duration = Duration::from_millis(5);

/// What the task does next.
enum Step {
    Ask(Vec<Question>),
    Rest(Option<Instant>),
    End,
}

/// Whom to ask for.
struct Question {
    ticket: Ticket,
    kept: Vec<String>,
    wish: Arc<Wish>,
    arrived: Instant,
    call: Option<Arc<Call>>,
    gone: CancellationToken,
}

/// Runs until nobody waits.
pub(super) async fn dispatch(queue: Arc<Queue>) {
    loop {
        match next_step(&queue) {
            Step::End => return,
            Step::Rest(None) => queue.wake.notified().await,
            Step::Rest(Some(until)) => tokio::select! {
                () = sleep_until(until) => {}
                () = queue.wake.notified() => {}
            },
            Step::Ask(questions) => match queue.ledger_side() {
                Some(pool) => ask(&queue, &pool, questions).await,
                None => queue.end_all(&AcquireError::PoolGone),
            },
        }
    }
}

fn next_step(queue: &Queue) -> Step {
    let now = Instant::now();
    let mut line = queue.line();
    // Those who ask by themselves arrived before all who wait, and join them if they are refused.
    let asks = if queue.direct.load(SeqCst) > 0 { Vec::new() } else { line.scheduler.next(now) };
    let questions: Vec<Question> = asks
        .into_iter()
        .filter_map(|ask| {
            let seat = line.scheduler.load(ask.ticket)?;
            Some(Question {
                ticket: ask.ticket,
                kept: ask.kept,
                wish: seat.wish.clone(),
                arrived: seat.arrived,
                call: seat.call.clone(),
                gone: seat.gone.clone(),
            })
        })
        .collect();
    if !questions.is_empty() {
        return Step::Ask(questions);
    }
    // Whoever could be served at its deadline was.
    let ended = line.scheduler.expire(now);
    queue.refuse(&mut line, ended, now);
    if line.scheduler.is_empty() {
        line.runs = false;
        return Step::End;
    }
    Step::Rest(line.scheduler.rest_until())
}

/// Asks for all of them at once, in their order; deadlines of others are kept meanwhile.
async fn ask(queue: &Queue, pool: &Arc<Pool>, questions: Vec<Question>) {
    let answers = join_all(questions.iter().map(|question| ask_one(pool, question)));
    let mut answers = std::pin::pin!(answers);
    let answers = loop {
        let deadline = queue.line().scheduler.next_deadline().map(|deadline| deadline + GRANTS_FIRST);
        tokio::select! {
            biased;
            answers = &mut answers => break answers,
            () = sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => {
                let now = Instant::now();
                let mut line = queue.line();
                let ended = line.scheduler.expire(now - GRANTS_FIRST);
                queue.refuse(&mut line, ended, now);
            }
        }
    };
    let mut overloaded = false;
    for (question, answer) in questions.iter().zip(answers) {
        match answer {
            Some(Ok(grant)) => granted(queue, pool, question.ticket, grant),
            Some(Err(denied)) => overloaded |= denied_one(queue, pool, question, denied),
            // It left while the ledger was asked; what it was granted is given back.
            None => queue.line().scheduler.freed(),
        }
    }
    if overloaded {
        tokio::time::sleep(BREATHER).await;
    }
}

/// None if the waiter left: then the ledger is not asked, or the lease is given back.
async fn ask_one(pool: &Pool, question: &Question) -> Option<Result<Grant, Denied>> {
    let waited = question.arrived.elapsed();
    let asking = pool.ask(&question.wish, &question.kept, waited);
    tokio::select! {
        biased;
        () = question.gone.cancelled() => None,
        answer = calls::within(question.call.clone(), asking) => Some(answer),
    }
}

fn granted(queue: &Queue, pool: &Arc<Pool>, ticket: Ticket, grant: Grant) {
    let handed = Handed::new(grant, pool.clone());
    let seat = queue.line().scheduler.granted(ticket);
    let Some(seat) = seat else { return };
    queue.left(1);
    queue.count_grant(Instant::now());
    // If it is gone by now, the grant goes back as it is dropped.
    drop(seat.answer.send(Ok(handed)));
}

/// Whether the ledger is too busy to be asked right away.
fn denied_one(queue: &Queue, pool: &Pool, question: &Question, denied: Denied) -> bool {
    let now = Instant::now();
    let ticket = question.ticket;
    match denied {
        Denied::Refused { refusal, account, shared } => {
            let obstacle = pool.obstacle(account, shared);
            let known = Known::new(refusal, now);
            let mut line = queue.line();
            let ended = line.scheduler.refused(ticket, known, obstacle, !question.kept.is_empty(), now);
            queue.refuse(&mut line, ended, now);
        }
        Denied::Failed(AcquireError::Overloaded { .. }) => {
            let mut line = queue.line();
            line.scheduler.unanswered(ticket);
            return true;
        }
        // It would be everybody's answer.
        Denied::Failed(error @ (AcquireError::Ledger(_) | AcquireError::ShuttingDown)) => {
            queue.end_all(&error);
        }
        Denied::Failed(error) => {
            let seat = queue.line().scheduler.leave(ticket);
            if let Some(seat) = seat {
                queue.left(1);
                drop(seat.answer.send(Err(error)));
            }
        }
    }
    false
}
