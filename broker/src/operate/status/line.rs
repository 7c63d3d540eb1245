//! Lines of text with colours, cut where a terminal ends.

/// What a piece of text means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tone {
    Plain,
    Title,
    Faint,
    Good,
    Scarce,
    Bad,
}

/// A line of a screen.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Line(Vec<(Tone, String)>);

/// What output can show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ink {
    colours: bool,
}

impl Ink {
    /// Colours on a terminal, unless the environment says otherwise.
    pub(crate) fn of_environment(terminal: bool) -> Self {
        let variable = |name: &str| std::env::var(name).unwrap_or_default();
        Self { colours: terminal && variable("NO_COLOR").is_empty() && variable("TERM") != "dumb" }
    }
}

impl Line {
    pub(crate) fn of(tone: Tone, text: impl Into<String>) -> Self {
        Self(vec![(tone, text.into())])
    }

    pub(crate) fn plain(text: impl Into<String>) -> Self {
        Self::of(Tone::Plain, text)
    }

    #[must_use]
    pub(crate) fn and(mut self, tone: Tone, text: impl Into<String>) -> Self {
        self.0.push((tone, text.into()));
        self
    }

    /// Its text, of which no more than so many characters are shown.
    pub(crate) fn render(&self, ink: Ink, width: usize) -> String {
        let mut text = String::new();
        let mut left = width;
        for (tone, piece) in &self.0 {
            let shown: String = piece.chars().filter(|c| !c.is_control()).take(left).collect();
            left -= shown.chars().count();
            let code = match tone {
                _ if !ink.colours => "",
                Tone::Plain => "",
                Tone::Title => "1",
                Tone::Faint => "2",
                Tone::Good => "32",
                Tone::Scarce => "33",
                Tone::Bad => "31",
            };
            if code.is_empty() || shown.is_empty() {
                text.push_str(&shown);
            } else {
                text.push_str(&format!("\x1b[{code}m{shown}\x1b[0m"));
            }
        }
        text
    }
}

/// How wide the output is: that of the terminal, else enough for all.
pub(crate) fn width_here(terminal: bool) -> usize {
    const WIDE: usize = 100;
    if !terminal {
        return WIDE;
    }
    crossterm::terminal::size().map_or(WIDE, |(columns, _)| usize::from(columns))
}

/// A bar that can be read without colours: how much of it is used.
pub(crate) fn bar(used: i64, limit: i64, width: usize) -> String {
    let share = if limit > 0 { (used.max(0) as f64 / limit as f64).min(1.0) } else { 1.0 };
    // What is used at all shows, and what is not full does not look so.
    let full = match (share * width as f64).round() as usize {
        0 if used > 0 => 1,
        full if full >= width && share < 1.0 => width.saturating_sub(1),
        full => full.min(width),
    };
    format!("[{}{}]", "█".repeat(full), "░".repeat(width - full))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_cut_where_the_terminal_ends_and_colours_do_not_count() {
        let line = Line::of(Tone::Bad, "abc").and(Tone::Plain, "def\u{7}");
        assert_eq!(line.render(Ink { colours: false }, 4), "abcd");
        assert_eq!(line.render(Ink { colours: true }, 4), "\x1b[31mabc\x1b[0md");
        assert_eq!(line.render(Ink { colours: true }, 9), "\x1b[31mabc\x1b[0mdef");
    }

    #[test]
    fn a_bar_shows_what_is_used_and_is_full_only_at_the_limit() {
        assert_eq!(bar(0, 10, 4), "[░░░░]");
        assert_eq!(bar(1, 1000, 4), "[█░░░]");
        assert_eq!(bar(999, 1000, 4), "[███░]");
        assert_eq!(bar(12, 10, 4), "[████]");
    }
}
