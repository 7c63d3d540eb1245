//! How the demo is shown: live on a terminal, as lines elsewhere, or as JSON.

use std::{
    collections::VecDeque,
    io::{self, IsTerminal, Write},
    time::Duration,
};

use crossterm::{
    cursor::{Hide, MoveToColumn, MoveUp, Show as ShowCursor},
    execute, queue,
    style::Print,
    terminal::{BeginSynchronizedUpdate, Clear, ClearType, EndSynchronizedUpdate, size},
};
use keybroker_proto::v1::Event;
use serde_json::{Value, json};

use super::{DemoArgs, stage::Stage, summary::Summary, watch::Standing};
use crate::operate::status::{
    line::{Ink, Line, Tone},
    view::{self, Standing as PoolStanding},
};

/// How many of the last events a live picture shows.
const EVENTS: usize = 6;

/// Where the demo is shown.
pub(super) struct Show {
    form: Form,
    ink: Ink,
    events: VecDeque<Event>,
}

enum Form {
    /// With the number of lines that the last picture had.
    Live(u16),
    Lines,
    Json,
}

impl Show {
    /// The form that fits the options and the place where standard output goes.
    pub(super) fn of(args: &DemoArgs) -> Self {
        let terminal = io::stdout().is_terminal() && std::env::var("TERM").as_deref() != Ok("dumb");
        let form = match () {
            () if args.json => Form::Json,
            () if terminal && !args.plain => Form::Live(0),
            () => Form::Lines,
        };
        Self { form, ink: Ink::of_environment(terminal), events: VecDeque::new() }
    }

    /// How often it shows how everything stands.
    pub(super) fn period(&self) -> Duration {
        match self.form {
            Form::Live(_) => Duration::from_millis(500),
            Form::Lines => Duration::from_secs(2),
            Form::Json => Duration::from_secs(1),
        }
    }

    /// Says what there is.
    pub(super) fn begin(&mut self, args: &DemoArgs, stage: &Stage) -> io::Result<()> {
        let brokers = stage.brokers.iter();
        if matches!(self.form, Form::Json) {
            let brokers: Vec<Value> = brokers
                .map(|broker| json!({ "grpc": broker.grpc.to_string(), "http": broker.http.to_string() }))
                .collect();
            return print_json(
                &json!({ "type": "begin", "brokers": brokers, "gemini": stage.gemini.base_url }),
            );
        }
        let DemoArgs { projects, rpm, workers, demand, .. } = args;
        let title = Line::of(Tone::Title, "keybroker demo").render(self.ink, usize::MAX);
        let mut text = format!(
            "{title}\n  {projects} projects x {rpm} requests a minute = {}; {workers} workers want {demand} times as \
             much.\n  All keys are fake, and \"Gemini\" is a stand-in at {}.\n\n",
            args.capacity(),
            stage.gemini.base_url,
        );
        for broker in brokers {
            text.push_str(&format!("  broker: gRPC {}, HTTP http://{}/\n", broker.grpc, broker.http));
        }
        let address = stage.brokers.first().map(|broker| broker.grpc.to_string()).unwrap_or_default();
        let of_default = address == "127.0.0.1:50051";
        let option = if of_default { String::new() } else { format!(" --broker {address}") };
        text.push_str(&format!("  try in another terminal: keybroker status --watch{option}\n\n"));
        print(&text)?;
        if matches!(self.form, Form::Live(_)) {
            execute!(io::stdout(), Hide)?;
        }
        Ok(())
    }

    /// Shows what happened.
    pub(super) fn event(&mut self, event: &Event) -> io::Result<()> {
        match self.form {
            Form::Json => print_json(&json!({
                "type": "event",
                "kind": event.kind,
                "message": event.message,
                "subject": event.subject,
            })),
            Form::Lines => print(&format!("         {:23}  {}\n", event.kind, event.message)),
            Form::Live(_) => {
                self.events.push_back(event.clone());
                if self.events.len() > EVENTS {
                    self.events.pop_front();
                }
                Ok(())
            }
        }
    }

    /// Shows how everything stands.
    pub(super) fn tick(&mut self, standing: &Standing) -> io::Result<()> {
        let counters = standing.pool.counters.unwrap_or_default();
        let able = standing.pool.keys.iter().filter(|key| !key.cooling).count();
        let (seconds, sent, refused) =
            (standing.after.as_secs(), standing.verdict.calls, standing.refused_by_gemini());
        match self.form {
            Form::Json => print_json(&json!({
                "type": "tick",
                "seconds": standing.after.as_secs_f64(),
                "keys_available": able,
                "granted": counters.granted,
                "refused_by_broker": counters.refused,
                "waiting": counters.waiting,
                "sent": sent,
                "answered": standing.answered,
                "refused_by_gemini": refused,
                "over_quota": standing.verdict.quota_refusals,
            })),
            Form::Lines => print(&format!(
                "{seconds:>5} s  granted {:<5} refused {:<5} waiting {:<4} sent {sent:<5} answered {:<5} refused by \
                 Gemini {refused}\n",
                counters.granted, counters.refused, counters.waiting, standing.answered
            )),
            Form::Live(drawn) => {
                self.form = Form::Live(self.draw(standing, drawn)?);
                Ok(())
            }
        }
    }

    /// Draws over the last picture; returns how many lines this one has.
    fn draw(&self, standing: &Standing, drawn: u16) -> io::Result<u16> {
        let (columns, rows) = size().unwrap_or((80, 24));
        let width = usize::from(columns.max(2)) - 1;
        let refused = standing.refused_by_gemini();
        let over = standing.verdict.quota_refusals;
        let mut lines = view::lines(&PoolStanding::now(standing.pool.clone()), width);
        lines.push(
            Line::plain(format!(
                "{} s   sent {}   answered {}   refused by Gemini {refused}   ",
                standing.after.as_secs(),
                standing.verdict.calls,
                standing.answered
            ))
            .and(if over == 0 { Tone::Good } else { Tone::Bad }, format!("over the quota {over}")),
        );
        lines.push(Line::default());
        lines.extend(self.events.iter().map(|event| Line::of(Tone::Faint, event.message.clone())));
        let room = usize::from(rows.max(3)) - 2;
        if lines.len() > room {
            // The last lines are those that change most.
            let beyond = lines.len() - room;
            lines.drain(1..=beyond);
        }
        let mut output = io::stdout().lock();
        queue!(output, BeginSynchronizedUpdate)?;
        if drawn > 0 {
            queue!(output, MoveUp(drawn))?;
        }
        queue!(output, MoveToColumn(0), Clear(ClearType::FromCursorDown))?;
        for line in &lines {
            queue!(output, Print(line.render(self.ink, width)), Print("\r\n"))?;
        }
        queue!(output, EndSynchronizedUpdate)?;
        output.flush()?;
        Ok(u16::try_from(lines.len()).unwrap_or(u16::MAX))
    }

    /// Leaves the terminal in order.
    pub(super) fn leave(&self) {
        if matches!(self.form, Form::Live(_)) {
            // There is nobody left to tell if it fails.
            let _ = execute!(io::stdout(), ShowCursor);
        }
    }

    /// Shows the summary.
    pub(super) fn end(&mut self, summary: &Summary) -> io::Result<()> {
        self.leave();
        if matches!(self.form, Form::Json) {
            let mut line = serde_json::to_value(summary)?;
            line["type"] = "summary".into();
            return print_json(&line);
        }
        print(&format!("\n{}\n", summary.in_words()))
    }
}

impl Drop for Show {
    fn drop(&mut self) {
        self.leave();
    }
}

fn print_json(line: &Value) -> io::Result<()> {
    print(&format!("{line}\n"))
}

/// Prints at once, and without a panic if nobody reads it.
fn print(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}
