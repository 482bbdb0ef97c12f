use super::*;
use crate::clock::SECOND_US;
use proptest::prelude::*;

const MINUTE_US: Micros = 60 * SECOND_US;

fn at(text: &str) -> Micros {
    text.parse::<Timestamp>().unwrap().as_microsecond() as Micros
}

fn window(text: &str) -> Window {
    text.parse().unwrap()
}

#[test]
fn a_window_is_open_by_the_clock_on_the_wall_of_its_zone() {
    let w = window("08:00-20:00 Europe/Berlin");
    for (moment, open) in [
        ("2026-11-22T06:59:59Z", false),
        ("2026-11-22T07:00:00Z", true),
        ("2026-11-22T18:59:59Z", true),
        ("2026-11-22T19:00:00Z", false),
        // summer time
        ("2026-07-01T06:00:00Z", true),
        ("2026-07-01T18:00:00Z", false),
    ] {
        assert_eq!(w.contains(at(moment)), open, "{moment}");
    }
    assert_eq!(w.opens(at("2026-11-22T19:00:00Z")), Some(at("2026-11-23T07:00:00Z")));
    assert_eq!(w.closes(at("2026-11-22T12:00:00Z")), Some(at("2026-11-22T19:00:00Z")));
}

#[test]
fn over_midnight_it_belongs_to_the_day_on_which_it_begins() {
    let w = window("Fri 22:00-06:00 UTC");
    for (moment, open) in [
        ("2026-11-20T21:59:00Z", false),
        ("2026-11-20T22:00:00Z", true),
        ("2026-11-21T05:59:00Z", true),
        ("2026-11-21T06:00:00Z", false),
        ("2026-11-21T23:00:00Z", false),
        ("2026-11-20T01:00:00Z", false),
    ] {
        assert_eq!(w.contains(at(moment)), open, "{moment}");
    }
}

#[test]
fn where_the_clock_is_put_forward_what_is_skipped_does_not_happen() {
    // 2026-03-29, 02:00 is 03:00
    let w = window("02:00-03:00 Europe/Berlin");
    assert_eq!(w.opens(at("2026-03-28T02:00:00Z")), Some(at("2026-03-30T00:00:00Z")));
    let w = window("02:30-04:00 Europe/Berlin");
    assert_eq!(w.opens(at("2026-03-29T00:00:00Z")), Some(at("2026-03-29T01:00:00Z")));
    assert_eq!(w.closes(at("2026-03-29T01:00:00Z")), Some(at("2026-03-29T02:00:00Z")));
}

#[test]
fn where_the_clock_is_put_back_what_comes_twice_is_open_twice() {
    // 2026-10-25, 03:00 is 02:00
    let w = window("02:00-02:30 Europe/Berlin");
    let mut moments = Vec::new();
    let mut now = at("2026-10-24T22:00:00Z");
    for _ in 0..2 {
        now = w.opens(now).unwrap();
        moments.push(now);
        now = w.closes(now).unwrap();
        moments.push(now);
    }
    let want =
        ["2026-10-25T00:00:00Z", "2026-10-25T00:30:00Z", "2026-10-25T01:00:00Z", "2026-10-25T01:30:00Z"];
    assert_eq!(moments, want.map(at));
}

proptest! {
    #[test]
    fn it_opens_and_closes_in_the_minute_in_which_it_changes(
        from in 0u16..1440,
        until in 0u16..1440,
        days in prop::sample::select(vec!["", "Mon-Fri ", "Sun ", "Sat-Mon "]),
        zone in prop::sample::select(vec!["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "UTC"]),
        day in prop::sample::select(vec![
            "2026-03-08T05:00:00Z", "2026-03-28T23:00:00Z", "2026-10-24T21:00:00Z", "2026-11-01T04:00:00Z",
            "2026-04-04T13:00:00Z", "2026-10-03T14:00:00Z", "2026-06-15T00:00:00Z",
        ]),
        minute in 0u64..600,
    ) {
        prop_assume!(from != until);
        let text = |m: u16| format!("{:02}:{:02}", m / 60, m % 60);
        let w = window(&format!("{days}{}-{} {zone}", text(from), text(until)));
        let begin = at(day) + minute * MINUTE_US;
        let state = w.contains(begin);
        let want = (1..9 * 1440).map(|m| begin + m * MINUTE_US).find(|m| w.contains(*m) != state);
        prop_assert_eq!(if state { w.closes(begin) } else { w.opens(begin) }, want);
    }

    #[test]
    fn a_window_is_read_as_it_is_written(from in 0u16..1440, until in 1u16..1440, first in 0usize..7, last in 0usize..7) {
        prop_assume!(from != until);
        let text = |m: u16| format!("{:02}:{:02}", m / 60, m % 60);
        let w = window(&format!("{}-{} {}-{} Asia/Tokyo", DAYS[first], DAYS[last], text(from), text(until)));
        prop_assert_eq!(window(&w.to_string()), w);
    }
}

#[test]
fn what_is_no_window_is_refused_with_the_remedy() {
    for (bad, said) in [
        ("", "is no window"),
        ("always", "is no window"),
        ("08:00 Europe/Berlin", "is no window"),
        ("8-20 UTC", "is no time of day"),
        ("08:00-25:00 UTC", "is no time of day"),
        ("24:00-08:00 UTC", "is no time of day"),
        ("08:60-09:00 UTC", "is no time of day"),
        ("+8:00-09:00 UTC", "is no window"),
        ("08:00-08:00 UTC", "00:00-24:00"),
        ("Mo-Fri 08:00-20:00 UTC", "is no weekday"),
        ("08:00-20:00 Europe/Berln", "no time zone `Europe/Berln`"),
        ("08:00-20:00 Europe/Berlin, 21:00-22:00 UTC UTC", "is no"),
    ] {
        let error = bad.parse::<Window>().unwrap_err().to_string();
        assert!(error.contains(said), "{bad}: {error}");
    }
}

#[test]
fn several_spans_and_several_windows_are_open_where_one_of_them_is() {
    let texts = ["Mon-Fri 08:00-12:00, 13:00-24:00 UTC".to_owned(), "Sun 00:00-24:00 Asia/Tokyo".to_owned()];
    let windows = Windows::parse(&texts).unwrap();
    assert_eq!(windows.to_string(), "Mon-Fri 08:00-12:00, 13:00-24:00 UTC; Sun 00:00-24:00 Asia/Tokyo");
    assert!(windows.is_open(at("2026-11-23T09:00:00Z")));
    assert!(windows.is_open(at("2026-11-21T15:00:00Z")));
    assert!(!windows.is_open(at("2026-11-23T12:30:00Z")));
    let why = windows.why_shut(at("2026-11-23T12:30:00Z")).unwrap();
    assert!(why.ends_with("until Mon 2026-11-23 13:00 UTC (2026-11-23T13:00:00.000Z)"), "{why}");
    assert!(Windows::default().is_open(0));
}
