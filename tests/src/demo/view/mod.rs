//! How the demo is shown: live on a terminal, as plain lines elsewhere, or as JSON for machines.

mod live;
mod paint;
mod report;
mod table;

use std::{
    io::{self, IsTerminal, Write},
    time::Duration,
};

use serde::Serialize;

use self::{live::Live, paint::Paint};
use super::{options::Options, snapshot::Snapshot, summary::Summary};

/// Where the demo is shown.
pub struct View {
    form: Form,
    paint: Paint,
}

enum Form {
    Live(Live),
    Lines,
    Json,
}

/// A line of `--json`.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Line<'a> {
    Tick(&'a Snapshot),
    Summary(&'a Summary),
}

impl View {
    /// The view that fits the options and the place where standard output goes.
    pub fn new(options: &Options) -> Self {
        let variable = |name: &str| std::env::var(name).unwrap_or_default();
        let terminal = io::stdout().is_terminal() && variable("TERM") != "dumb";
        let paint = Paint::new(terminal && !options.no_color && variable("NO_COLOR").is_empty());
        let form = match () {
            () if options.json => Form::Json,
            () if terminal && !options.plain => Form::Live(Live::new(options, paint)),
            () => Form::Lines,
        };
        Self { form, paint }
    }

    /// How often [`View::tick`] is wanted.
    pub fn period(&self) -> Duration {
        match self.form {
            Form::Live(_) => Duration::from_millis(250),
            Form::Lines => Duration::from_secs(5),
            Form::Json => Duration::from_secs(1),
        }
    }

    /// Says what is about to happen.
    ///
    /// # Errors
    /// If standard output is closed; so it is for all of these.
    pub fn begin(&mut self, options: &Options) -> io::Result<()> {
        if matches!(self.form, Form::Json) {
            return Ok(());
        }
        let [quota, fleet] = options.introduction();
        let title = self.paint.bold(&format!("keybroker demo, {} seconds", options.seconds));
        print(&format!("{title}\n  {quota}\n  {fleet}\n\n"))?;
        if let Form::Live(live) = &mut self.form {
            live.begin();
        }
        Ok(())
    }

    /// Shows how everything stands.
    ///
    /// # Errors
    /// As [`View::begin`].
    pub fn tick(&mut self, snapshot: &Snapshot) -> io::Result<()> {
        match &mut self.form {
            Form::Live(live) => {
                live.show(snapshot);
                Ok(())
            }
            Form::Lines => print(&report::line(snapshot)),
            Form::Json => print_json(&Line::Tick(snapshot)),
        }
    }

    /// The time is over; the workers are finishing.
    pub fn ending(&mut self) {
        if let Form::Live(live) = &mut self.form {
            live.ending();
        }
    }

    /// Leaves the terminal in order, when there will be no summary.
    pub fn leave(&mut self) {
        if let Form::Live(live) = &mut self.form {
            live.leave();
            // If it cannot be written, nobody looks at it.
            let _ = print("\n");
        }
    }

    /// Shows the summary. `failure` is what a worker said of a request that failed.
    ///
    /// # Errors
    /// As [`View::begin`].
    pub fn end(&mut self, summary: &Summary, failure: Option<&str>) -> io::Result<()> {
        let text = || report::summary(summary, failure, self.paint);
        match &mut self.form {
            Form::Json => print_json(&Line::Summary(summary)),
            Form::Lines => print(&format!("\n{}", text())),
            Form::Live(live) => {
                live.finish();
                print(&format!("\n\n{}", text()))
            }
        }
    }
}

fn print_json(line: &Line<'_>) -> io::Result<()> {
    print(&format!("{}\n", serde_json::to_string(line)?))
}

/// Prints at once, and without a panic if nobody reads it.
fn print(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}
