use crate::ledger::calendar::{Calendar, date_of, day_end_of};

const HOUR: i64 = 3_600_000;
/// 2026-03-08 00:00 PST.
const SPRING: i64 = 1_772_956_800_000;
/// 2026-11-01 00:00 PDT.
const AUTUMN: i64 = 1_793_516_400_000;

#[test]
fn the_day_on_which_daylight_time_begins_has_23_hours() {
    let end = SPRING + 23 * HOUR;
    for at in [SPRING, SPRING + 2 * HOUR - 1, SPRING + 2 * HOUR, end - 1] {
        assert_eq!(Calendar::around(at).day_end(at), end, "{at}");
    }
    assert_eq!(Calendar::around(end).day_end(end), end + 24 * HOUR);
    assert_eq!(Calendar::around(SPRING - 1).day_end(SPRING - 1), SPRING);
}

#[test]
fn the_day_on_which_daylight_time_ends_has_25_hours() {
    let end = AUTUMN + 25 * HOUR;
    for at in [AUTUMN, AUTUMN + HOUR, AUTUMN + 2 * HOUR, AUTUMN + 3 * HOUR, end - 1] {
        assert_eq!(Calendar::around(at).day_end(at), end, "{at}");
    }
    assert_eq!(Calendar::around(end).day_end(end), end + 24 * HOUR);
}

#[test]
fn a_calendar_of_the_day_before_knows_the_changed_day_too() {
    let calendar = Calendar::around(SPRING - HOUR);
    assert_eq!(calendar.day_end(SPRING + HOUR), SPRING + 23 * HOUR);
    let calendar = Calendar::around(AUTUMN - HOUR);
    assert_eq!(calendar.day_end(AUTUMN + HOUR), AUTUMN + 25 * HOUR);
}

#[test]
fn a_month_ends_at_pacific_midnight_of_its_last_day() {
    assert_eq!(Calendar::around(AUTUMN - 1).month_end(AUTUMN - 1), AUTUMN);
    // November begins in daylight time and ends in standard time.
    assert_eq!(Calendar::around(AUTUMN).month_end(AUTUMN), AUTUMN + (30 * 24 + 1) * HOUR);
    // 2026-12-31 23:59:59.999 PST, and the year's end.
    let year_end = 1_798_790_400_000;
    assert_eq!(Calendar::around(year_end - 1).month_end(year_end - 1), year_end);
    assert_eq!(Calendar::around(year_end).month_end(year_end), year_end + 31 * 24 * HOUR);
    // 2028 has a 29th of February.
    let leap_day_end = 1_835_510_400_000;
    assert_eq!(Calendar::around(leap_day_end - 1).month_end(leap_day_end - 1), leap_day_end);
    assert_eq!(Calendar::around(leap_day_end - 1).day_end(leap_day_end - 24 * HOUR), leap_day_end);
}

#[test]
fn a_calendar_covers_its_own_day_and_the_ones_before_and_after_it() {
    for now in [SPRING - 1, SPRING, SPRING + 23 * HOUR, AUTUMN - 1, AUTUMN, AUTUMN + 25 * HOUR] {
        let calendar = Calendar::around(now);
        // The shortest day after it has 23 hours.
        for away in [0, 23 * HOUR, -24 * HOUR] {
            assert!(calendar.covers(now + away), "{now} {away}");
        }
        for away in [4 * 24 * HOUR, -4 * 24 * HOUR] {
            assert!(!calendar.covers(now + away), "{now} {away}");
        }
    }
}

#[test]
fn a_calendar_without_ends_covers_nothing() {
    assert!(!Calendar { day_ends: vec![], month_ends: vec![] }.covers(SPRING));
    assert!(!Calendar { day_ends: vec![SPRING], month_ends: vec![SPRING + HOUR] }.covers(SPRING));
}

#[test]
fn a_date_and_the_instants_of_its_day_find_each_other_over_both_changes_of_the_clock() {
    for (first, days) in [(SPRING - 48 * HOUR, [24, 24, 23, 24]), (AUTUMN - 48 * HOUR, [24, 24, 25, 24])] {
        let mut start = first;
        let mut date = date_of(start);
        for hours in days {
            let end = start + hours * HOUR;
            assert_eq!((date_of(start), date_of(end - 1)), (date, date));
            assert_eq!(day_end_of(date), end, "{date}");
            // The name under which the ledger records what is settled on that day.
            assert_eq!(Calendar::around(end - 1).day_end(end - 1), end);
            (start, date) = (end, date.tomorrow().unwrap());
        }
    }
    assert_eq!(date_of(SPRING).to_string(), "2026-03-08");
    assert_eq!(date_of(AUTUMN - 1).to_string(), "2026-10-31");
}

#[test]
fn a_host_without_files_of_time_zones_knows_when_pacific_days_end() {
    let within =
        jiff::tz::TimeZoneDatabase::bundled().get("America/Los_Angeles").expect("it is in the binary");
    let midnight = jiff::civil::date(2026, 7, 1).to_zoned(within).expect("there is one").timestamp();
    assert_eq!(super::super::calendar::day_end_of(jiff::civil::date(2026, 6, 30)), midnight.as_millisecond());
}
