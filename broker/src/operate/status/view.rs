//! How a pool stands, as lines.

use std::time::{Duration, Instant};

use keybroker_proto::v1::{Cooldown, InspectPoolResponse, KeyStatus, LimitStatus, Tier};
use prost_types::Timestamp;

use super::line::{Line, Tone, bar};

/// From this width on there is room for bars.
const ROOM_FOR_BARS: usize = 56;
/// A limit of which so much is used, in percent, is nearly spent.
const NEARLY: i64 = 80;

/// How a pool stood, and when that was told.
pub(crate) struct Standing {
    pub(crate) view: InspectPoolResponse,
    pub(crate) told: Instant,
    /// Since when the broker is away.
    pub(crate) away: Option<Instant>,
}

impl Standing {
    pub(crate) fn now(view: InspectPoolResponse) -> Self {
        Self { view, told: Instant::now(), away: None }
    }

    /// From now until then, by the ledger's clock. Its time goes on between what it tells.
    fn until(&self, at: &Timestamp) -> Duration {
        let now =
            millis(self.view.now.as_ref()) + i64::try_from(self.told.elapsed().as_millis()).unwrap_or(0);
        Duration::from_millis(u64::try_from(millis(Some(at)) - now).unwrap_or(0))
    }
}

fn millis(at: Option<&Timestamp>) -> i64 {
    at.map_or(0, |at| at.seconds * 1000 + i64::from(at.nanos) / 1_000_000)
}

/// The pool on a screen of this width.
pub(crate) fn lines(standing: &Standing, width: usize) -> Vec<Line> {
    let view = &standing.view;
    let counters = view.counters.unwrap_or_default();
    let able = view.keys.iter().filter(|key| !key.cooling).count();
    let tone = match able {
        0 => Tone::Bad,
        able if able < view.keys.len() => Tone::Scarce,
        _ => Tone::Good,
    };
    let mut lines = vec![
        Line::of(Tone::Title, format!("pool {}", view.pool))
            .and(Tone::Plain, "   ")
            .and(tone, format!("{able} of {} keys available", view.keys.len())),
        Line::plain(format!(
            "granted {}   refused {}   settled {}   waiting {}",
            counters.granted, counters.refused, counters.settled, counters.waiting
        )),
    ];
    if let Some(since) = standing.away {
        let text =
            format!("the broker does not answer since {} s; this is how it stood", since.elapsed().as_secs());
        lines.push(Line::of(Tone::Bad, text));
    }
    keys(standing, width, &mut lines);
    limits(standing, width, &mut lines);
    cooldowns(standing, width, &mut lines);
    lines.push(Line::default());
    lines
}

fn heading(text: &str, lines: &mut Vec<Line>) {
    lines.push(Line::default());
    lines.push(Line::of(Tone::Faint, text));
}

fn keys(standing: &Standing, width: usize, lines: &mut Vec<Line>) {
    let keys = &standing.view.keys;
    if keys.is_empty() {
        return;
    }
    heading("keys", lines);
    let longest =
        |text: fn(&KeyStatus) -> &str| keys.iter().map(|key| text(key).chars().count()).max().unwrap_or(0);
    let (ids, projects) = (longest(|key| &key.key_id), longest(|key| &key.project));
    for key in keys {
        let mut line = Line::plain(format!("  {:ids$}  ", key.key_id));
        if width >= ROOM_FOR_BARS {
            line = line.and(Tone::Plain, format!("{:projects$}  {:7}  ", key.project, tier(key.tier())));
        }
        let (tone, state) = state_of(key, standing);
        line = line.and(tone, state);
        if key.health < 100 {
            let tone = if key.health < 50 { Tone::Bad } else { Tone::Scarce };
            line = line.and(Tone::Plain, "  health ").and(tone, format!("{} %", key.health));
        }
        lines.push(line);
    }
}

/// Whether a key can be leased, and if not, for how long.
fn state_of(key: &KeyStatus, standing: &Standing) -> (Tone, String) {
    let names = [format!("key {}", key.key_id), format!("project {}", key.project)];
    let cooldown = standing.view.cooldowns.iter().find(|cooldown| names.contains(&cooldown.subject));
    match cooldown {
        Some(cooldown) => of_cooldown(cooldown, standing),
        None if key.cooling => (Tone::Bad, "all models asked for cool down".to_owned()),
        None if key.available => (Tone::Good, "available".to_owned()),
        None => (Tone::Bad, "not available".to_owned()),
    }
}

fn of_cooldown(cooldown: &Cooldown, standing: &Standing) -> (Tone, String) {
    let reason = &cooldown.reason;
    if cooldown.probing {
        return (Tone::Scarce, format!("one lease is out to probe it ({reason})"));
    }
    if let Some(ramp) = &cooldown.ramp_until {
        let left = spoken(standing.until(ramp));
        return (Tone::Scarce, format!("comes back, fully in {left} ({reason})"));
    }
    match &cooldown.until {
        Some(until) => (Tone::Bad, format!("cools down {} ({reason})", spoken(standing.until(until)))),
        None => (Tone::Bad, format!("disabled until it is found well or reset ({reason})")),
    }
}

fn limits(standing: &Standing, width: usize, lines: &mut Vec<Line>) {
    let mut subject = "";
    let names = standing.view.limits.iter().map(|limit| limit.limit_name.chars().count());
    let names = names.max().unwrap_or(0);
    for limit in standing.view.limits.iter().filter(|limit| limit.limit.is_some()) {
        if subject.is_empty() {
            heading("limits", lines);
        }
        if limit.subject != subject {
            subject = &limit.subject;
            lines.push(Line::plain(format!("  {subject}")));
        }
        lines.push(limit_line(limit, names, standing, width));
    }
}

fn limit_line(status: &LimitStatus, names: usize, standing: &Standing, width: usize) -> Line {
    let limit = status.limit.unwrap_or_default();
    let left = limit - status.used;
    let tone = match () {
        () if left <= 0 => Tone::Bad,
        () if status.used.saturating_mul(100) >= limit.saturating_mul(NEARLY) => Tone::Scarce,
        () => Tone::Good,
    };
    let amount = |amount: i64| match status.limit_name.starts_with("US dollars") {
        true => format!("{:.2}", amount as f64 / 1e6),
        false => amount.to_string(),
    };
    let used = format!("{}/{}", amount(status.used), amount(limit));
    let mut line = Line::plain(format!("    {:names$}  ", status.limit_name));
    if width >= ROOM_FOR_BARS {
        let room = width.saturating_sub(names + 40).clamp(8, 24);
        line = line.and(tone, bar(status.used, limit, room)).and(Tone::Plain, " ");
    }
    line = line.and(tone, format!("{used:>11}"));
    match &status.next_free {
        Some(at) if left <= 0 => line.and(Tone::Plain, format!("  free in {}", spoken(standing.until(at)))),
        _ => line,
    }
}

/// What cools down beside keys and projects, which show it themselves.
fn cooldowns(standing: &Standing, width: usize, lines: &mut Vec<Line>) {
    let view = &standing.view;
    let shown = |cooldown: &&Cooldown| {
        view.keys.iter().any(|key| {
            cooldown.subject == format!("key {}", key.key_id)
                || cooldown.subject == format!("project {}", key.project)
        })
    };
    let others: Vec<&Cooldown> = view.cooldowns.iter().filter(|cooldown| !shown(cooldown)).collect();
    if others.is_empty() {
        return;
    }
    heading("cooldowns", lines);
    for cooldown in others {
        let (tone, state) = of_cooldown(cooldown, standing);
        let subject = format!("  {}  ", cooldown.subject);
        if subject.chars().count() + state.chars().count() <= width {
            lines.push(Line::plain(subject).and(tone, state));
        } else {
            lines.push(Line::plain(subject));
            lines.push(Line::plain("    ").and(tone, state));
        }
    }
}

pub(crate) fn tier(tier: Tier) -> &'static str {
    match tier {
        Tier::Free => "free",
        Tier::Paid => "paid",
        Tier::Unspecified => "unknown",
    }
}

/// A span in its two largest units.
fn spoken(span: Duration) -> String {
    // What is left counts up to its end.
    let seconds = span.as_millis().div_ceil(1000);
    match seconds {
        0..=119 => format!("{seconds} s"),
        120..=7199 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use keybroker_proto::v1::BrokerCounters;

    use super::super::line::Ink;
    use super::*;

    fn at(seconds: i64) -> Option<Timestamp> {
        Some(Timestamp { seconds, nanos: 0 })
    }

    fn standing() -> Standing {
        let key = |id: &str, available| KeyStatus {
            key_id: id.to_owned(),
            project: format!("project-of-{id}"),
            tier: Tier::Free.into(),
            available,
            health: if available { 100 } else { 40 },
            cooling: !available,
            ..KeyStatus::default()
        };
        let cooldown = |subject: &str, until| Cooldown {
            subject: subject.to_owned(),
            reason: "minute_quota".to_owned(),
            until,
            probing: false,
            ramp_until: None,
        };
        let limit = |used| LimitStatus {
            subject: "project project-of-a, model gemini-2.5-flash".to_owned(),
            limit_name: "requests per minute".to_owned(),
            used,
            limit: Some(10),
            next_free: at(131),
            ..LimitStatus::default()
        };
        Standing::now(InspectPoolResponse {
            pool: "default".to_owned(),
            now: at(100),
            keys: vec![key("a", true), key("b", false)],
            limits: vec![limit(10), limit(3)],
            cooldowns: vec![
                cooldown("project project-of-b", at(400)),
                cooldown("key c", None),
                cooldown("model gemini-2.5-pro in the whole pool", at(142)),
            ],
            counters: Some(BrokerCounters { granted: 7, refused: 1, settled: 6, waiting: 2 }),
            ..InspectPoolResponse::default()
        })
    }

    fn text(width: usize) -> String {
        let ink = Ink::of_environment(false);
        let lines = lines(&standing(), width);
        lines.iter().map(|line| line.render(ink, width) + "\n").collect()
    }

    #[test]
    fn everything_is_told_with_bars_and_how_long_it_lasts() {
        let text = text(100);
        for part in [
            "pool default   1 of 2 keys available",
            "granted 7   refused 1   settled 6   waiting 2",
            "cools down 5 min 0 s (minute_quota)  health 40 %",
            "10/10  free in 31 s",
            "3/10",
            "[████████████████████████]",
            "model gemini-2.5-pro in the whole pool  cools down 42 s (minute_quota)",
            "key c  disabled until it is found well or reset",
        ] {
            assert!(text.contains(part), "{part:?} is not in\n{text}");
        }
    }

    #[test]
    fn a_narrow_screen_keeps_the_numbers() {
        let text = text(44);
        assert!(text.lines().all(|line| line.chars().count() <= 44), "{text}");
        assert!(text.contains("requests per minute        10/10") && !text.contains('█'), "{text}");
        assert!(text.contains("b  cools down 5 min 0 s"), "{text}");
        assert!(text.contains("    cools down 42 s (minute_quota)\n"), "{text}");
    }
}
