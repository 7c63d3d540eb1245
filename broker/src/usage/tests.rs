//! What of the recorded usage comes out of a query.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Mutex,
};

use jiff::civil::{Date, date};

use super::{Dimension, Place, Query, Row, Sums};
use crate::ledger::{
    Batch, Inspection, Ledger, LedgerError, LedgerFuture, Millis, Opened, Reply, ShardSpec, UsageRow, Used,
    calendar::day_end_of,
};

/// A ledger that only ever recorded usage, and notes which days are read.
#[derive(Default)]
struct Recorded {
    rows: BTreeMap<(String, Millis), Vec<UsageRow>>,
    read: Mutex<Vec<Millis>>,
}

impl Recorded {
    fn with(mut self, day: Date, pool: &str, parts: [&str; 5], used: Used) -> Self {
        let day_end = day_end_of(day);
        let row = UsageRow { day_end, name: parts.join("\u{1f}"), used };
        self.rows.entry((pool.to_owned(), day_end)).or_default().push(row);
        self
    }

    fn days_read(&self) -> usize {
        self.read.lock().unwrap().drain(..).collect::<BTreeSet<_>>().len()
    }
}

fn nothing<'a, T: 'a>() -> LedgerFuture<'a, T> {
    Box::pin(async { Err(LedgerError::Unusable("it only recorded usage".to_owned())) })
}

impl Ledger for Recorded {
    fn open<'a>(&'a self, _: &'a str, _: &'a str) -> LedgerFuture<'a, Opened> {
        nothing()
    }

    fn apply<'a>(&'a self, _: &'a str, _: &'a str, _: &'a ShardSpec) -> LedgerFuture<'a, ()> {
        nothing()
    }

    fn execute<'a>(&'a self, _: &'a str, _: &'a Batch) -> LedgerFuture<'a, Reply> {
        nothing()
    }

    fn inspect<'a>(&'a self, _: &'a str, _: &'a [String]) -> LedgerFuture<'a, Inspection> {
        nothing()
    }

    fn usage<'a>(&'a self, pool: &'a str, day_ends: &'a [Millis]) -> LedgerFuture<'a, Vec<UsageRow>> {
        Box::pin(async move {
            self.read.lock().unwrap().extend_from_slice(day_ends);
            let rows = day_ends.iter().filter_map(|day_end| self.rows.get(&(pool.to_owned(), *day_end)));
            Ok(rows.flatten().cloned().collect())
        })
    }

    fn held<'a>(&'a self, _: &'a str, _: &'a str, _: Millis) -> LedgerFuture<'a, usize> {
        nothing()
    }

    fn ping(&self) -> LedgerFuture<'_, ()> {
        nothing()
    }
}

const FIRST: Date = date(2026, 3, 7);
const LAST: Date = date(2026, 3, 9);

/// Three days over a change of the clock, two pools, two consumers and some who do not say.
fn recorded() -> Recorded {
    let change = date(2026, 3, 8);
    Recorded::default()
        .with(FIRST, "batch", ["ann", "m1", "p1", "k1", "ok"], Used(1, 2, 30, 40, 5, 0))
        .with(FIRST, "default", ["ann", "m1", "p2", "k2", "ok"], Used(10, 10, 100, 150, 7, 3))
        .with(change, "default", ["ann", "m2", "p2", "k2", "ok"], Used(4, 4, 8, 8, 0, 0))
        .with(change, "default", ["ben", "m1", "p2", "k2", "not_sent"], Used(5, 0, 0, 0, 0, 0))
        .with(LAST, "default", ["", "m1", "p2", "k3", "ok"], Used(6, 6, 60, 66, 1, 0))
        .with(date(2026, 3, 10), "default", ["ann", "m1", "p2", "k2", "ok"], Used(99, 99, 99, 99, 99, 99))
}

fn query(by: &[Dimension]) -> Query {
    let pools = vec!["batch".to_owned(), "default".to_owned()];
    Query { pools, from: FIRST, to: LAST, only: BTreeMap::new(), by: by.to_vec() }
}

async fn rows(ledger: &Recorded, query: &Query) -> Vec<Row> {
    let page = query.page(ledger, None, 100).await.unwrap();
    assert!(!page.more);
    page.rows
}

/// Rows as texts: what they are about, then leases, requests and total tokens.
fn spoken(rows: &[Row]) -> Vec<String> {
    let of = |place: &Place| Dimension::ALL.map(|dimension| place.get(dimension).to_owned());
    let row = |Row { place, sums }: &Row| {
        let parts: Vec<String> = of(place).into_iter().filter(|part| !part.is_empty()).collect();
        format!("{}: {} {} {}", parts.join(" "), sums.leases, sums.requests, sums.total_tokens)
    };
    rows.iter().map(row).collect()
}

#[tokio::test]
async fn every_row_of_the_days_stands_in_order() {
    let ledger = recorded();
    assert_eq!(
        spoken(&rows(&ledger, &query(&Dimension::ALL)).await),
        [
            "2026-03-07 batch ann p1 k1 m1 ok: 1 2 40",
            "2026-03-07 default ann p2 k2 m1 ok: 10 10 150",
            "2026-03-08 default ann p2 k2 m2 ok: 4 4 8",
            "2026-03-08 default ben p2 k2 m1 not_sent: 5 0 0",
            "2026-03-09 default p2 k3 m1 ok: 6 6 66",
        ]
    );
}

#[tokio::test]
async fn what_rows_are_not_told_apart_by_is_summed_over() {
    let ledger = recorded();
    assert_eq!(
        spoken(&rows(&ledger, &query(&[Dimension::Consumer])).await),
        [": 6 6 66", "ann: 15 16 198", "ben: 5 0 0"]
    );
    assert_eq!(
        spoken(&rows(&ledger, &query(&[Dimension::Date])).await),
        ["2026-03-07: 11 12 190", "2026-03-08: 9 4 8", "2026-03-09: 6 6 66"]
    );
    let all = rows(&ledger, &query(&[Dimension::Pool])).await;
    let default =
        Sums { leases: 25, requests: 20, input_tokens: 168, total_tokens: 224, spend: 8, over_plan: 3 };
    assert_eq!(all[1].sums, default);
    assert_eq!(all[1].sums.output_tokens(), 56);
}

#[tokio::test]
async fn filters_hold_for_what_is_not_shown_too() {
    let ledger = recorded();
    let only = |only: &[(Dimension, &str)]| {
        let only = only.iter().map(|(dimension, value)| (*dimension, (*value).to_owned())).collect();
        Query { only, ..query(&[Dimension::Date]) }
    };
    let both = only(&[(Dimension::Consumer, "ann"), (Dimension::QuotaModel, "m1")]);
    assert_eq!(spoken(&rows(&ledger, &both).await), ["2026-03-07: 11 12 190"]);
    let nobody = only(&[(Dimension::Consumer, "")]);
    assert_eq!(spoken(&rows(&ledger, &nobody).await), ["2026-03-09: 6 6 66"]);
    assert_eq!(rows(&ledger, &only(&[(Dimension::Outcome, "capacity")])).await, []);
}

#[tokio::test]
async fn pages_of_every_size_hold_every_row_once() {
    let ledger = recorded();
    for by in [&Dimension::ALL[..], &[Dimension::Consumer, Dimension::Outcome], &[Dimension::Date]] {
        let query = query(by);
        let all = rows(&ledger, &query).await;
        for size in 1..=all.len() + 1 {
            let (mut seen, mut after) = (Vec::new(), None);
            loop {
                let page = query.page(&ledger, after.as_ref(), size).await.unwrap();
                assert!(page.rows.len() == size || !page.more);
                seen.extend(page.rows);
                if !page.more {
                    break;
                }
                after = seen.last().map(|row| row.place.clone());
            }
            assert_eq!(seen, all, "{by:?} {size}");
        }
    }
}

#[tokio::test]
async fn a_page_reads_no_more_days_than_it_needs() {
    let ledger = recorded();
    let query = query(&Dimension::ALL);
    let first = query.page(&ledger, None, 1).await.unwrap();
    assert_eq!(ledger.days_read(), 1);
    let after = rows(&ledger, &query).await[3].place.clone();
    assert_eq!((first.more, ledger.days_read()), (true, 3));
    query.page(&ledger, Some(&after), 1).await.unwrap();
    assert_eq!(ledger.days_read(), 2);
}

#[tokio::test]
async fn sums_beyond_all_measure_are_cut_and_never_wrap() {
    let huge = Used(1, 1, 0, i64::MAX, i64::MAX - 1, 0);
    let ledger = Recorded::default().with(FIRST, "default", ["ann", "m1", "p", "k", "ok"], huge).with(
        FIRST,
        "default",
        ["ann", "m2", "p", "k", "ok"],
        Used(1, 1, 7, 7, 1, 0),
    );
    let sums = rows(&ledger, &query(&[Dimension::Consumer])).await[0].sums;
    assert_eq!((sums.leases, sums.total_tokens, sums.spend), (2, i64::MAX, i64::MAX));
    assert_eq!(Sums { input_tokens: 9, total_tokens: 3, ..sums }.output_tokens(), 0);
}

#[test]
fn a_consumer_whose_name_holds_the_mark_stays_whole() {
    let place = Place::of(FIRST, "default", "a\u{1f}b\u{1f}m\u{1f}p\u{1f}k\u{1f}ok");
    assert_eq!((place.get(Dimension::Consumer), place.get(Dimension::QuotaModel)), ("a\u{1f}b", "m"));
}
