//! The jobs: active ones with their progress, then those that stand still, with the reason.

use ratatui::text::Line;

use super::plan::Plan;
use super::{Draw, shown};
use crate::clock::SECOND_US;
use crate::control::JobLine;
use crate::top::look::Tone;
use crate::top::model::{JobRow, JobWhat};
use crate::top::text::{count, duration, rate};

/// The columns of the table at a width.
struct Columns {
    name: usize,
    bar: usize,
    /// Rate and end.
    speed: bool,
    refused: bool,
}

impl Draw<'_> {
    fn columns(&self) -> Columns {
        match self.width {
            110.. => Columns { name: 36, bar: 20, speed: true, refused: true },
            // a generated id has 22
            76.. => Columns { name: 23, bar: 12, speed: true, refused: true },
            60.. => Columns { name: 20, bar: 6, speed: true, refused: false },
            _ => Columns { name: 16, bar: 0, speed: false, refused: false },
        }
    }

    /// As many jobs as fit into so many lines, with the heading; the selected one is among them.
    pub fn jobs(&self, plan: &Plan, lines: usize) -> Vec<Line<'static>> {
        let Some(status) = &self.model.status else { return Vec::new() };
        let mut out = Vec::new();
        let heading = usize::from(plan.headings);
        let rows = &self.model.rows;
        let at = self.model.selected_job().map(|(at, _)| at);
        let range = shown(rows.len(), lines.saturating_sub(heading), at.unwrap_or(0));
        if plan.headings {
            let jobs = &status.jobs;
            let all = jobs.active + jobs.paused;
            let there = if (range.len() as u64) < all {
                format!(" ({} of {})", range.len(), count(all))
            } else {
                String::new()
            };
            let heading = self.table_line(
                &format!("JOB{there}"),
                &format!("by {}", self.model.sort.name()),
                ["DONE", "LEFT", "REFUSED", "/S", "END IN"].map(str::to_owned),
            );
            out.push(self.line(&format!(" {heading}"), Tone::Faint));
        }
        if rows.is_empty() && lines > heading {
            out.push(self.line(" no job is active or paused", Tone::Faint));
        }
        out.extend(rows[range.clone()].iter().zip(range).map(|(row, i)| self.job(row, at == Some(i))));
        out
    }

    fn job(&self, row: &JobRow, selected: bool) -> Line<'static> {
        match &row.what {
            JobWhat::Active { line, rate: speed, note } => {
                let text = self.active(line, *speed, note.as_deref());
                self.row(selected, &text, if note.is_some() { Tone::Warn } else { Tone::Plain })
            }
            JobWhat::Still { word, reason, since_us } => {
                let since = since_us.map(|us| self.now_us.saturating_sub(us) / SECOND_US);
                let since = since.map(|s| format!(" since {}", duration(s))).unwrap_or_default();
                let name = self.cell(&row.job, self.columns().name, false);
                let text = format!("{name} {word}{since}: {}", self.look.text(reason));
                self.row(selected, &text, Tone::Warn)
            }
        }
    }

    fn active(&self, line: &JobLine, speed: Option<f64>, note: Option<&str>) -> String {
        let columns = self.columns();
        let left = line.pending + line.deferred;
        let done = line.recipients.saturating_sub(left);
        let part = if line.recipients == 0 { 1.0 } else { done as f64 / line.recipients as f64 };
        // nobody is left at 100 %, and only then
        let percent = format!("{}%", (part * 100.0).floor());
        let shown_speed = speed.map_or("-".to_owned(), rate);
        let limit = line.messages_per_second.map(|limit| {
            let waits = if line.waits_for_rate { ", which it waits for" } else { "" };
            format!("{shown_speed}/s, rate {limit}/s{waits}")
        });
        let cells = [percent, count(left), count(line.refused), shown_speed.clone(), end(line, speed)];
        let bar = self.look.bar(part, columns.bar);
        match note.or(limit.as_deref()) {
            None => self.table_line(&line.job, &bar, cells),
            Some(note) => {
                // what it waits for is worth more than how fast it goes
                let mut text = self.begin_of_line(&line.job, &bar, &cells[0], &cells[1]);
                text.push_str("  ");
                text.push_str(&self.look.text(note));
                text
            }
        }
    }

    /// Done, left, refused, rate, end: of these as many as there are columns for.
    fn table_line(&self, name: &str, bar: &str, [done, left, refused, speed, end]: [String; 5]) -> String {
        let columns = self.columns();
        let mut text = self.begin_of_line(name, bar, &done, &left);
        if columns.refused {
            text.push_str(&self.cell(&refused, 8, true));
        }
        if columns.speed {
            text.push_str(&self.cell(&speed, 8, true));
            text.push_str(&self.cell(&end, 9, true));
        }
        text
    }

    fn begin_of_line(&self, name: &str, bar: &str, done: &str, left: &str) -> String {
        let columns = self.columns();
        let mut text = self.cell(name, columns.name, false);
        if columns.bar > 0 {
            text.push(' ');
            text.push_str(&self.cell(bar, columns.bar, false));
        }
        text.push_str(&self.cell(done, 5, true));
        text.push_str(&self.cell(left, 12, true));
        text
    }
}

/// When what was never tried is gone, at the rate of late.
fn end(line: &JobLine, rate: Option<f64>) -> String {
    match rate {
        Some(rate) if rate > 0.0 && line.pending > 0 => duration((line.pending as f64 / rate).ceil() as u64),
        _ => "-".to_owned(),
    }
}
