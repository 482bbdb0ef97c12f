//! The MTAs: a line each, and below it why it is as it is.

use ratatui::text::Line;

use super::plan::Plan;
use super::{Draw, shown};
use crate::control::MtaLine;
use crate::top::look::Tone;
use crate::top::text::{count, ms, rate};

/// The phase that ends with the reply to the content: what an MTA's work shows in.
const FINAL_PHASE: &str = "content";

/// Columns from which on the latency has room.
const LATENCY_WIDTH_MIN: usize = 78;

impl Draw<'_> {
    /// Lines of each MTA, with its reasons.
    pub fn mta_blocks(&self) -> Vec<usize> {
        let mtas = self.model.status.as_ref().map(|status| status.mtas.as_slice()).unwrap_or_default();
        mtas.iter().map(|mta| 1 + reasons(mta).len()).collect()
    }

    /// The MTAs that fit, the selected one among them.
    pub fn mtas(&self, plan: &Plan) -> Vec<Line<'static>> {
        let mtas = self.model.status.as_ref().map(|status| status.mtas.as_slice()).unwrap_or_default();
        if mtas.is_empty() || plan.mtas == 0 {
            return Vec::new();
        }
        let selected = self.model.selected_mta().unwrap_or(0);
        let mut lines = Vec::new();
        let blocks: Vec<Vec<Line<'static>>> =
            mtas.iter().enumerate().map(|(at, mta)| self.mta(mta, at == selected, plan.reasons)).collect();
        // as many as fit, from the selected one backwards and then on
        let sizes: Vec<usize> = blocks.iter().map(Vec::len).collect();
        let range = fitting(&sizes, plan.mtas, selected);
        if plan.headings {
            lines.push(self.mta_heading(mtas.len(), range.len()));
        }
        let all = blocks.into_iter().skip(range.start).take(range.len()).flatten();
        lines.extend(all.take(plan.mtas));
        lines
    }

    fn mta_heading(&self, all: usize, there: usize) -> Line<'static> {
        let name = if there < all { format!("MTA ({there} of {all})") } else { "MTA".to_owned() };
        let queue = if self.width >= 50 { self.cell("QUEUE", 9, true) } else { String::new() };
        let text = format!(
            " {} {} {} {}{queue}{}",
            self.cell(&name, self.mta_name_columns(), false),
            self.cell("STATE", self.mta_state_columns(), false),
            self.cell("N", 9, true),
            self.cell("/S", 8, true),
            self.latency_heading(),
        );
        self.line(&text, Tone::Faint)
    }

    fn mta_name_columns(&self) -> usize {
        match self.width {
            100.. => 28,
            60.. => 18,
            _ => 10,
        }
    }

    fn mta_state_columns(&self) -> usize {
        if self.width >= 50 { 10 } else { 8 }
    }

    fn mta(&self, mta: &MtaLine, selected: bool, with_reasons: bool) -> Vec<Line<'static>> {
        let queue = mta.queue.map_or("-".to_owned(), count);
        let queue = if self.width >= 50 { self.cell(&queue, 9, true) } else { String::new() };
        let text = format!(
            "{} {} {} {}{queue}{}",
            self.cell(&mta.name, self.mta_name_columns(), false),
            self.cell(&mta.state, self.mta_state_columns(), false),
            self.cell(&format!("{}/{}", mta.established, mta.connections), 9, true),
            self.cell(&rate(mta.rate_10_s), 8, true),
            self.latency(mta),
        );
        let tone = match mta.state.as_str() {
            "up" => Tone::Good,
            "idle" => Tone::Plain,
            "connecting" => Tone::Warn,
            _ => Tone::Bad,
        };
        let mut lines = vec![self.row(selected, &text, tone)];
        if with_reasons {
            lines.extend(reasons(mta).into_iter().map(|(text, tone)| self.row_below(&text, tone)));
        }
        lines
    }

    fn latency_heading(&self) -> String {
        if self.width >= LATENCY_WIDTH_MIN {
            self.cell("REPLY P50/90/99 MS", 20, true)
        } else {
            String::new()
        }
    }

    /// What the MTA takes for its reply to a whole message, of late.
    fn latency(&self, mta: &MtaLine) -> String {
        if self.width < LATENCY_WIDTH_MIN {
            return String::new();
        }
        let phases = self.model.status.as_ref().map(|status| status.phases.as_slice()).unwrap_or_default();
        let of_it = phases.iter().filter(|line| line.mta == mta.name && line.phase == FINAL_PHASE);
        // of owners that share an MTA, the busier one's
        let text = match of_it.max_by_key(|line| line.count) {
            Some(line) => format!("{}/{}/{}", ms(line.p50_ms), ms(line.p90_ms), ms(line.p99_ms)),
            None => "-".to_owned(),
        };
        self.cell(&text, 20, true)
    }

    fn row_below(&self, text: &str, tone: Tone) -> Line<'static> {
        let text = format!("   {text}");
        let text = crate::top::text::shortened(&text, self.width, self.look.ellipsis());
        self.line(&text, tone)
    }
}

/// Why an MTA is in its state, and has its number.
fn reasons(mta: &MtaLine) -> Vec<(String, Tone)> {
    let state = mta.why.as_ref().map(|why| (why.clone(), Tone::Bad));
    let number = mta.connections_why.as_ref().map(|why| (format!("N is {why}"), Tone::Plain));
    let asked =
        (mta.target == "fixed").then(|| (format!("N is {}: asked for", mta.connections), Tone::Plain));
    let number = number.or(asked);
    state.into_iter().chain(number).collect()
}

/// The blocks that fit into so many lines, the selected one among them.
fn fitting(sizes: &[usize], lines: usize, selected: usize) -> std::ops::Range<usize> {
    for n in (1..=sizes.len()).rev() {
        let range = shown(sizes.len(), n, selected);
        if sizes[range.clone()].iter().sum::<usize>() <= lines {
            return range;
        }
    }
    selected..(selected + 1).min(sizes.len())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_selected_mta_is_always_among_those_shown(
            sizes in prop::collection::vec(1_usize..4, 1..20), lines in 0_usize..40, at in 0_usize..20,
        ) {
            let selected = at % sizes.len();
            let range = fitting(&sizes, lines, selected);
            prop_assert!(range.contains(&selected));
            prop_assert!(range.len() == 1 || sizes[range].iter().sum::<usize>() <= lines);
        }
    }
}
