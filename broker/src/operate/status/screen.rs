//! The terminal: a screen of its own that is drawn in place and always given back.

use std::{
    io::{self, Write},
    process::ExitCode,
    time::{Duration, Instant},
};

use crossterm::{
    cursor::{Hide, MoveTo, Show},
    event::{Event, EventStream, KeyCode, KeyEventKind, KeyModifiers},
    execute, queue,
    style::Print,
    terminal::{
        BeginSynchronizedUpdate, Clear, ClearType, EndSynchronizedUpdate, EnterAlternateScreen,
        LeaveAlternateScreen, disable_raw_mode, enable_raw_mode, size,
    },
};
use futures_util::StreamExt;
use tokio::{
    signal::unix::{SignalKind, signal},
    time::{MissedTickBehavior, interval},
};

use super::{
    super::{BrokerArgs, Failure},
    feed::{self, News},
    line::{Ink, Line, Tone},
    view::{self, Standing},
};

/// How often what is left of a cooldown is counted down.
const TICK: Duration = Duration::from_secs(1);

/// The terminal while it is taken; whoever drops this gives it back.
struct Screen;

impl Screen {
    fn take() -> io::Result<Self> {
        // Without raw mode keys are not heard, and Ctrl-C comes as a signal.
        let _ = enable_raw_mode();
        let screen = Self;
        execute!(io::stdout(), EnterAlternateScreen, Hide)?;
        Ok(screen)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // There is nobody left to tell if it fails.
        let _ = execute!(io::stdout(), Show, LeaveAlternateScreen);
        let _ = disable_raw_mode();
    }
}

/// Shows how pools stand until somebody wants no more.
pub(super) async fn watch(
    broker: &BrokerArgs,
    pools: &[String],
    mut standing: Vec<Standing>,
) -> Result<ExitCode, Failure> {
    let failed = |error: io::Error| Failure::Failed(format!("the terminal cannot be used: {error}"));
    let (_tasks, mut news) = feed::follow(broker, pools);
    let mut interrupted = signal(SignalKind::interrupt()).map_err(failed)?;
    let mut terminated = signal(SignalKind::terminate()).map_err(failed)?;
    let mut hung_up = signal(SignalKind::hangup()).map_err(failed)?;
    let mut tick = interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let ink = Ink::of_environment(true);
    let _screen = Screen::take().map_err(failed)?;
    let mut keys = EventStream::new();
    let mut heard = true;
    let mut first = 0;
    loop {
        first = draw(&standing, &broker.broker, first, ink).map_err(failed)?;
        tokio::select! {
            told = news.recv() => match told {
                Some((place, News::Stands(view))) => standing[place] = Standing::now(*view),
                Some((place, News::Away)) => {
                    standing[place].away.get_or_insert_with(Instant::now);
                }
                Some((_, News::Over(failure))) => return Err(failure),
                None => return Ok(ExitCode::SUCCESS),
            },
            key = keys.next(), if heard => match key {
                Some(Ok(event)) => match meant(&event, first) {
                    Meant::Go(line) => first = line,
                    Meant::End => return Ok(ExitCode::SUCCESS),
                },
                Some(Err(_)) | None => heard = false,
            },
            _ = tick.tick() => {}
            _ = interrupted.recv() => return Ok(ExitCode::SUCCESS),
            _ = terminated.recv() => return Ok(ExitCode::SUCCESS),
            _ = hung_up.recv() => return Ok(ExitCode::SUCCESS),
        }
    }
}

/// What a key means.
enum Meant {
    /// Let this line be the first.
    Go(usize),
    End,
}

fn meant(event: &Event, first: usize) -> Meant {
    const PAGE: usize = 10;
    let Event::Key(key) = event else { return Meant::Go(first) };
    if key.kind == KeyEventKind::Release {
        return Meant::Go(first);
    }
    match key.code {
        KeyCode::Char('c' | 'd') if key.modifiers.contains(KeyModifiers::CONTROL) => Meant::End,
        KeyCode::Char('q') | KeyCode::Esc => Meant::End,
        KeyCode::Down | KeyCode::Char('j') => Meant::Go(first + 1),
        KeyCode::Up | KeyCode::Char('k') => Meant::Go(first.saturating_sub(1)),
        KeyCode::PageDown | KeyCode::Char(' ') => Meant::Go(first + PAGE),
        KeyCode::PageUp => Meant::Go(first.saturating_sub(PAGE)),
        KeyCode::Home | KeyCode::Char('g') => Meant::Go(0),
        _ => Meant::Go(first),
    }
}

/// Draws it from a line on, and tells which line that was: the last ones stay in sight.
fn draw(standing: &[Standing], broker: &str, first: usize, ink: Ink) -> io::Result<usize> {
    let (columns, rows) = size()?;
    let (width, height) = (usize::from(columns.max(1)), usize::from(rows.max(2)));
    let lines: Vec<Line> = standing.iter().flat_map(|standing| view::lines(standing, width)).collect();
    let room = height - 1;
    let first = first.min(lines.len().saturating_sub(room));
    let shown = &lines[first..lines.len().min(first + room)];
    let below = lines.len() - first - shown.len();
    let more = if below > 0 { format!(", {below} lines below") } else { String::new() };
    let foot = Line::of(Tone::Faint, format!("q ends, arrows scroll{more}   broker {broker}"));
    let mut output = io::stdout().lock();
    queue!(output, BeginSynchronizedUpdate)?;
    queue!(output, Clear(ClearType::All))?;
    for (row, line) in (0_u16..).zip(shown.iter().chain([&foot])) {
        queue!(output, MoveTo(0, row), Print(line.render(ink, width)))?;
    }
    queue!(output, EndSynchronizedUpdate)?;
    output.flush()?;
    Ok(first)
}
