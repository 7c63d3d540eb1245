//! The table and the bar on a terminal, redrawn in place.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::{
    super::{options::Options, snapshot::Snapshot},
    paint::Paint,
    table::table,
};

/// One progress bar whose message is the table: so both are drawn in one piece.
pub(super) struct Live {
    bar: ProgressBar,
    paint: Paint,
    seconds: u64,
}

impl Live {
    pub(super) fn new(options: &Options, paint: Paint) -> Self {
        let target = ProgressDrawTarget::stdout_with_hz(10);
        let bar = ProgressBar::with_draw_target(Some(options.seconds * 1000), target);
        let template = if paint.is_on() {
            "{msg}\n\n  {wide_bar:.cyan/8}  {prefix}  "
        } else {
            "{msg}\n\n  {wide_bar}  {prefix}  "
        };
        // The template is a constant that is well-formed; without it the bar would be a plain one.
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("━╸─"));
        }
        Self { bar, paint, seconds: options.seconds }
    }

    /// Shows the bar, before there is anything else to show.
    pub(super) fn begin(&mut self) {
        self.bar.set_prefix(self.time(0.0));
        self.bar.set_message("  starting the fake Gemini, the brokers and the workers ...");
        self.bar.tick();
    }

    pub(super) fn show(&mut self, snapshot: &Snapshot) {
        // Only the last of these draws, since the others come faster than drawing is allowed.
        self.bar.set_prefix(self.time(snapshot.seconds));
        self.bar.set_position((snapshot.seconds * 1000.0) as u64);
        self.bar.set_message(table(snapshot, self.paint));
        self.bar.tick();
    }

    pub(super) fn ending(&mut self) {
        self.bar.set_position(self.seconds * 1000);
        self.bar.set_prefix("the last reports come in");
        self.bar.tick();
    }

    /// Leaves the last picture where it is, and the cursor at its end.
    pub(super) fn finish(&mut self) {
        self.bar.set_prefix(self.time(self.bar.position() as f64 / 1000.0));
        self.bar.abandon();
    }

    /// Leaves the picture without drawing it again: a Ctrl-C that the terminal echoed has moved the cursor.
    pub(super) fn leave(&mut self) {
        self.bar.set_draw_target(ProgressDrawTarget::hidden());
    }

    fn time(&self, seconds: f64) -> String {
        format!("{:.0} of {} s", seconds.floor(), self.seconds)
    }
}
