//! The last refusals, space, what was said, keys; and the help.

use ratatui::text::Line;

use super::Draw;
use super::plan::Plan;
use crate::clock;
use crate::top::keys::KEYS;
use crate::top::look::Tone;
use crate::top::model::Ask;
use crate::top::plain;
use crate::top::text::{bytes, count, shortened, wrapped};

/// Lines that an answer takes, at most: an error is shown in full, and none is longer.
const SAID_LINES_MAX: usize = 8;

impl Draw<'_> {
    /// The question, or else the last answer, in full.
    pub fn said(&self) -> Vec<Line<'static>> {
        let (text, tone) = match (self.model.question.as_ref().and_then(Ask::question), &self.model.said) {
            (Some(question), _) => (question, Tone::Warn),
            (None, Some(said)) => (said.text.clone(), if said.is_error { Tone::Bad } else { Tone::Strong }),
            // its line is there at all times, so that nothing jumps
            (None, None) => (String::new(), Tone::Plain),
        };
        let lines = wrapped(&text, self.width);
        if lines.is_empty() {
            return vec![Line::default()];
        }
        lines.iter().take(SAID_LINES_MAX).map(|line| self.line(line, tone)).collect()
    }

    /// Refusals that there are to show.
    pub fn refusals_wanted(&self) -> usize {
        self.model.status.as_ref().map_or(0, |status| status.refusals.len())
    }

    /// The last of them, the newest first.
    pub fn refusals(&self, plan: &Plan) -> Vec<Line<'static>> {
        let Some(status) = self.model.status.as_ref().filter(|_| plan.refusals > 0) else {
            return Vec::new();
        };
        let mut lines = Vec::new();
        if plan.headings {
            lines.push(self.line(" LAST REFUSED OR DEFERRED", Tone::Faint));
        }
        for refusal in status.refusals.iter().take(plan.refusals) {
            let time = clock::rfc3339(refusal.at_us);
            let time = time.get(11..19).unwrap_or_default();
            let (outcome, who, job) = (&refusal.outcome, &refusal.recipient, &refusal.job);
            let text = format!(" {time} {outcome:8} {who}: {} ({job}, {})", refusal.said(), refusal.mta);
            let text = shortened(&text, self.width, self.look.ellipsis());
            let tone = if refusal.outcome == "deferred" { Tone::Plain } else { Tone::Warn };
            lines.push(self.line(&text, tone));
        }
        lines
    }

    /// How much can be submitted still.
    pub fn space(&self, plan: &Plan) -> Option<Line<'static>> {
        let status = self.model.status.as_ref().filter(|_| plan.space)?;
        let inodes = status.space.inodes_free.map(|n| format!(", {} inodes", count(n))).unwrap_or_default();
        let full = if plain::is_full(status) { ": FULL, nothing can be submitted" } else { "" };
        let jobs = &status.jobs;
        let text = format!(
            "{} free{inodes}{full}; {} jobs done, {} cancelled",
            bytes(status.space.bytes_free),
            count(jobs.done),
            count(jobs.cancelled)
        );
        Some(self.labelled("space", &text))
    }

    /// The most needed keys.
    pub fn keys(&self) -> Line<'static> {
        let long = "q end  ? help  p r job  P R all  c cancel  + - N  a auto  Tab MTA  s sort";
        let text = if self.width >= long.len() { long } else { "q end  ? help  p r job  P R all" };
        self.line(text, Tone::Faint)
    }

    /// Every key.
    pub fn help(&self) -> Vec<Line<'static>> {
        let mut lines = vec![self.line("infeed top: keys", Tone::Strong), Line::default()];
        for (keys, what) in KEYS {
            let room = self.width.saturating_sub(19);
            for (i, part) in wrapped(what, room.max(12)).iter().enumerate() {
                let keys = if i == 0 { *keys } else { "" };
                lines.push(self.line(&format!("  {keys:16} {part}"), Tone::Plain));
            }
        }
        lines.push(Line::default());
        let more = "A job that the MTA's refusals have paused: `infeed job resume JOB --accept-refusals` where they \
                    were meant. What each line means: docs/top.md";
        lines.extend(wrapped(more, self.width).iter().map(|line| self.line(line, Tone::Faint)));
        lines
    }
}
