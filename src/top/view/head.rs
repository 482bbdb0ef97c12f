//! Who drains, what holds everything up, throughput, backlog, outcomes.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::symbols::bar;
use ratatui::text::Line;
use ratatui::widgets::{Sparkline, Widget};

use super::Draw;
use super::plan::Plan;
use crate::clock;
use crate::control::{OwnerLine, Status};
use crate::top::history::CHART_S;
use crate::top::look::Tone;
use crate::top::plain;
use crate::top::text::{count, duration, per_hour, rate, shortened, width, wrapped};

/// Lines that one note takes, at most.
const NOTE_LINES_MAX: usize = 2;

/// The heights of a chart's column in ASCII.
const ASCII_BARS: bar::Set<'static> = bar::Set {
    full: "#",
    seven_eighths: "#",
    three_quarters: "+",
    five_eighths: "+",
    half: "=",
    three_eighths: "-",
    one_quarter: "-",
    one_eighth: ".",
    empty: " ",
};

impl Draw<'_> {
    /// The title, and a line for whatever holds everything up.
    pub fn head(&self) -> Vec<Line<'static>> {
        let mut lines = vec![self.title()];
        let mut notes: Vec<(String, Tone)> = Vec::new();
        if let Some(trouble) = &self.model.trouble {
            notes.push((format!("NO STATUS: {trouble}"), Tone::Bad));
        }
        if self.model.no_spool {
            notes.push((plain::nothing(&self.model.spool), Tone::Warn));
        }
        if let Some(status) = &self.model.status {
            notes.extend(notes_of(status));
        }
        for (note, tone) in notes {
            let lines_of_it = wrapped(&note, self.width).into_iter().take(NOTE_LINES_MAX);
            lines.extend(lines_of_it.map(|line| self.line(&line, tone)));
        }
        lines
    }

    fn title(&self) -> Line<'static> {
        let right = match self.model.stale_s() {
            Some(s) => format!("NO ANSWER for {}", duration(s)),
            None => clock::rfc3339(self.now_us).get(11..19).unwrap_or_default().to_owned() + "Z",
        };
        let mut left = format!("infeed top  {}", self.model.spool);
        if let Some(status) = &self.model.status {
            left.push_str("  ");
            left.push_str(&owners(&status.owners));
        }
        let room = self.width.saturating_sub(width(&right) + 2);
        let left = shortened(&left, room, self.look.ellipsis());
        let gap = " ".repeat(self.width.saturating_sub(width(&left) + width(&right)));
        let tone = if self.model.stale_s().is_some() { Tone::Bad } else { Tone::Plain };
        Line::from(vec![
            self.span(&left, Tone::Strong),
            self.span(&gap, Tone::Plain),
            self.span(&right, tone),
        ])
    }

    /// How fast it goes, and what is in hand.
    pub fn throughput(&self) -> Option<Line<'static>> {
        let status = self.model.status.as_ref()?;
        let mut line = self.labelled(
            "rate",
            &format!(
                "{}/s (10 s)  {}/s (1 min)  {}/h  {} in flight",
                rate(status.rate_10_s),
                rate(status.rate_60_s),
                per_hour(status.rate_60_s),
                count(status.in_flight)
            ),
        );
        if let Some(text) = line.spans.get_mut(1) {
            text.style = self.look.style(Tone::Strong);
        }
        Some(line)
    }

    /// Throughput over the last minutes.
    pub fn chart(&self, area: Rect, buf: &mut Buffer) {
        if area.is_empty() {
            return;
        }
        let columns = self.model.history.columns(usize::from(area.width));
        let top = columns.iter().copied().fold(0.0, f64::max);
        // tenths, so that a slow rate has a shape too
        let data: Vec<u64> = columns.iter().map(|rate| (rate * 10.0).round() as u64).collect();
        let mut chart = Sparkline::default()
            .data(data)
            .max(((top * 10.0) as u64).max(1))
            .style(self.look.style(Tone::Good));
        if self.look.ascii {
            chart = chart.bar_set(ASCII_BARS);
        }
        chart.render(area, buf);
        let legend = format!("last {} min, at most {}/s", CHART_S / 60, rate(top));
        if top > 0.0 && width(&legend) + 2 < usize::from(area.width) {
            buf.set_line(area.x, area.y, &self.line(&legend, Tone::Faint), area.width);
        }
    }

    /// What waits, and what became of the rest.
    pub fn backlog(&self, plan: &Plan) -> Vec<Line<'static>> {
        let Some(status) = &self.model.status else { return Vec::new() };
        let backlog = plain::backlog(status, self.now_us);
        let mut lines = vec![self.labelled("backlog", backlog.trim_start_matches("backlog "))];
        if plan.outcomes {
            let outcomes = plain::outcomes(status);
            let outcomes = if outcomes.is_empty() { "none yet".to_owned() } else { outcomes };
            lines.push(self.labelled("outcomes", &outcomes));
        }
        lines
    }
}

/// `serve, process 4711, up 1 h 1 min`; of several, each with its slices.
fn owners(owners: &[OwnerLine]) -> String {
    let several = owners.len() > 1;
    let of = |owner: &OwnerLine| {
        // since when, the uptime says
        let who = owner.who.split(" since ").next().unwrap_or_default();
        let mut text = owner.command.as_deref().unwrap_or("silent").to_owned() + ", " + who;
        if several || owner.slices != "00-ff" {
            text.push_str(&format!(", slices {}", owner.slices));
        }
        if let Some(s) = owner.uptime_s {
            text.push_str(&format!(", up {}", duration(s)));
        }
        text
    };
    match owners.len() {
        0 => String::new(),
        1 => owners.iter().map(of).collect(),
        n => format!("{n} owners: {}", owners.iter().map(of).collect::<Vec<_>>().join("; ")),
    }
}

fn notes_of(status: &Status) -> Vec<(String, Tone)> {
    let mut notes = Vec::new();
    if status.owners.is_empty() {
        let text = "nobody drains this spool now: start `infeed serve`; the figures are the spool's own";
        notes.push((text.to_owned(), Tone::Bad));
    }
    for owner in status.owners.iter().filter(|owner| owner.command.is_none()) {
        let text =
            format!("{} owns it and doesn't answer (yet: it may read what a dead one left)", owner.who);
        notes.push((text, Tone::Warn));
    }
    if let Some(standstill) = &status.standstill {
        let since =
            standstill.since_us.map(|us| format!(" since {}", clock::rfc3339(us))).unwrap_or_default();
        notes.push((format!("EVERYTHING IS PAUSED{since}: {} (R resumes)", standstill.reason), Tone::Bad));
    }
    if let Some(note) = &status.note {
        notes.push((format!("NOTE {note}"), Tone::Warn));
    }
    if plain::is_full(status) {
        notes.push(("THE SPOOL IS FULL: nothing can be submitted".to_owned(), Tone::Bad));
    }
    if let Some(first) = status.damaged.first() {
        let n = status.damaged.len();
        notes.push((format!("{n} jobs can't be read: `infeed spool check`; the first: {first}"), Tone::Bad));
    }
    notes
}
