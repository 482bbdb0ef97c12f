//! The report for a terminal.

use std::fmt::Write;

use super::judge::{KNEE_SHARE, Knee, Sureness};
use super::report::{Ended, Report};
use super::row::{Percentiles, Row};

const HEADS: [&str; 12] = [
    "N",
    "rcpts/tx",
    "recipients/s",
    "(spread)",
    "reply p50/p95/p99 ms",
    "MAIL-RCPT",
    "connect",
    "greeting",
    "CPU infeed",
    "machine",
    "s",
    "errors",
];

/// The table, the knee, what to configure, and what the next bottleneck is.
pub fn text(report: &Report) -> String {
    let mut out = String::new();
    let banner = if report.banner.is_empty() { "no greeting" } else { &report.banner };
    let name = if report.is_unanswered { "the MTA" } else { report.mta.name() };
    line(&mut out, format_args!("{name} at {} ({banner})", report.address));
    line(
        &mut out,
        format_args!(
            "{} of {} rounds, steps of {} s, {} octets a message, {} processors, {} recipients accepted, seed {}",
            report.rounds_done,
            report.rounds,
            report.seconds,
            report.size_octets,
            report.processors,
            report.accepted,
            report.seed
        ),
    );
    out.push('\n');
    table(report, &mut out);
    out.push('\n');
    for knee in &report.knees {
        let is_whole = report.ended == Ended::Done;
        wrapped(&mut out, &knee_line(knee, report.knees.len() > 1, is_whole), "");
    }
    if let Some(stopped) = report.stopped() {
        let remedy = report.trouble_remedy.as_deref().unwrap_or_default();
        wrapped(&mut out, &stopped, "");
        wrapped(&mut out, remedy, "  ");
    }
    if let Some(toml) = &report.toml {
        line(&mut out, format_args!("\nfor the configuration file:\n"));
        for toml in toml.lines() {
            line(&mut out, format_args!("    {toml}"));
        }
        line(
            &mut out,
            format_args!(
                "\n`connections = \"auto\"` finds this by itself, and follows the MTA when it changes; a fixed number \
                 is for an\nMTA whose limit others have a share in, and for comparing one run with another."
            ),
        );
    }
    for (i, found) in report.bottlenecks.iter().enumerate() {
        let head = if i == 0 { "the next bottleneck: " } else { "and: " };
        if i == 0 {
            out.push('\n');
        }
        wrapped(&mut out, &format!("{head}{}", found.evidence), "");
        wrapped(&mut out, found.remedy, "  ");
    }
    if !report.remarks.is_empty() {
        out.push('\n');
    }
    for remark in &report.remarks {
        wrapped(&mut out, &format!("note: {remark}"), "");
    }
    out
}

fn knee_line(knee: &Knee, with_recipients: bool, is_whole: bool) -> String {
    let of = if with_recipients {
        format!(" with {} recipients a transaction", knee.recipients_per_transaction)
    } else {
        String::new()
    };
    let until = if is_whole { "" } else { " of what was measured until then" };
    let sure = match (knee.sureness, knee.interval, knee.share_of_draws) {
        (Sureness::TooFewRounds, ..) | (_, None, _) | (.., None) => {
            format!("too few rounds ({}) to say how sure that is", knee.rounds)
        }
        (_, Some((low, high)), Some(share)) => format!(
            "95 % interval {low} to {high}; with the rounds drawn anew, {} in {:.0} % of the draws",
            knee.connections,
            100.0 * share
        ),
    };
    let mut text = format!(
        "the knee{until}{of}: {} connections, {:.0}/s, {:.0} % of the best ({:.0}/s at {}); {sure}",
        knee.connections,
        knee.recipients_per_second,
        100.0 * knee.recipients_per_second / knee.best_recipients_per_second,
        knee.best_recipients_per_second,
        knee.best_connections
    );
    if !knee.finer.is_empty() {
        let finer: Vec<String> = knee.finer.iter().map(usize::to_string).collect();
        // the interval is of the numbers that were tried
        text.push_str(&format!(
            "\n  it may lie between the numbers that were tried: --connections {}",
            finer.join(",")
        ));
    }
    if knee.connections < knee.best_connections {
        text.push_str(&format!(
            "\n  (the knee is the smallest number with {:.0} % of the best rate)",
            100.0 * KNEE_SHARE
        ));
    }
    text
}

fn table(report: &Report, out: &mut String) {
    let rows: Vec<[String; HEADS.len()]> = report.rows.iter().map(cells).collect();
    let widths: Vec<usize> = HEADS
        .iter()
        .enumerate()
        .map(|(i, head)| rows.iter().map(|row| row[i].len()).max().unwrap_or(0).max(head.len()))
        .collect();
    let mut put = |cells: &[String]| {
        let padded: Vec<String> =
            cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:>width$}")).collect();
        line(out, format_args!("{}", padded.join("  ").trim_end()));
    };
    put(&HEADS.map(str::to_owned));
    for row in &rows {
        put(row);
    }
}

fn cells(row: &Row) -> [String; HEADS.len()] {
    let none = || "-".to_owned();
    let p95 = |of: &Option<Percentiles>| of.map_or_else(none, |ms| in_ms(ms.p95));
    let cpu = row.cpu_percent;
    [
        row.connections.to_string(),
        row.recipients_per_transaction.to_string(),
        row.recipients_per_second.as_ref().map_or_else(none, |rate| format!("{:.0}", rate.median)),
        row.recipients_per_second
            .as_ref()
            .map_or_else(String::new, |rate| format!("({:.0}-{:.0})", rate.min, rate.max)),
        row.final_reply_ms
            .map_or_else(none, |ms| format!("{}/{}/{}", in_ms(ms.p50), in_ms(ms.p95), in_ms(ms.p99))),
        p95(&row.mail_rcpt_ms),
        p95(&row.connect_ms),
        p95(&row.greeting_ms),
        cpu.map_or_else(none, |cpu| format!("{:.0} %", cpu.infeed)),
        cpu.map_or_else(none, |cpu| format!("{:.0} %", cpu.machine)),
        format!("{:.1}", row.seconds),
        row.errors.count().to_string(),
    ]
}

/// Three digits, as far as they mean something.
fn in_ms(ms: f64) -> String {
    if ms < 10.0 { format!("{ms:.2}") } else { format!("{ms:.0}") }
}

/// Lines of so many characters at most, where words allow it; each behind `indent`.
const WIDTH: usize = 110;

fn wrapped(out: &mut String, text: &str, indent: &str) {
    for paragraph in text.lines() {
        // what is indented already stays so
        let indent = format!("{indent}{}", &paragraph[..paragraph.len() - paragraph.trim_start().len()]);
        let mut now = String::new();
        for word in paragraph.split_whitespace() {
            if !now.is_empty() && indent.len() + now.len() + 1 + word.len() > WIDTH {
                line(out, format_args!("{indent}{now}"));
                now.clear();
            }
            if !now.is_empty() {
                now.push(' ');
            }
            now.push_str(word);
        }
        line(out, format_args!("{indent}{now}"));
    }
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    if writeln!(out, "{text}").is_err() {
        unreachable!("a string takes all that is written to it");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lines_are_wrapped_at_words_and_keep_their_indent() {
        let mut out = String::new();
        let text = format!("{}\n  short", "word ".repeat(60));
        wrapped(&mut out, &text, "  ");
        let lines: Vec<&str> = out.lines().collect();
        assert_eq!(lines.len(), 4, "{out}");
        assert!(
            lines
                .iter()
                .all(|line| line.len() <= WIDTH && line.starts_with("  word ") || *line == "    short")
        );
        assert_eq!(out.matches("word").count(), 60);
    }
}
