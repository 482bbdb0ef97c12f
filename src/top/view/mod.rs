//! The screen: of a model and a size, cells. Nothing is asked and nothing changes here.
//!
//! From top to bottom: who drains, what holds everything up, throughput and its chart, backlog, outcomes,
//! MTAs, jobs, the last refusals, space, what was said, keys. On a small screen the least needed goes first
//! (`plan`); on a smaller one still, lines are cut off at its edges.

mod foot;
mod head;
mod jobs;
mod mtas;
mod plan;

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

use super::look::{Look, Tone};
use super::model::Model;
use super::text::shortened;
use crate::clock::Micros;
use plan::{Plan, Wish};

/// Draws the model, as of a time of the wall clock.
pub fn view(model: &Model, look: Look, now_us: Micros, area: Rect, buf: &mut Buffer) {
    if area.is_empty() {
        return;
    }
    let draw = Draw { model, look, now_us, width: usize::from(area.width) };
    let mut bottom = draw.said();
    if model.help {
        let mut lines = draw.help();
        lines.truncate(usize::from(area.height));
        paint(&lines, area, buf);
        return;
    }
    let mut top = draw.head();
    let wish = Wish {
        head: top.len(),
        said: bottom.len(),
        mtas: draw.mta_blocks(),
        jobs: model.rows.len(),
        refusals: draw.refusals_wanted(),
    };
    let plan = Plan::of(&wish, usize::from(area.height));
    top.extend(draw.throughput());
    let above = top.len();
    top.extend((0..plan.chart).map(|_| Line::default()));
    top.extend(draw.backlog(&plan));
    top.extend(draw.mtas(&plan));
    let said = std::mem::replace(&mut bottom, draw.refusals(&plan));
    bottom.extend(draw.space(&plan));
    bottom.extend(said);
    if plan.keys {
        bottom.push(draw.keys());
    }
    let rest = usize::from(area.height).saturating_sub(top.len() + bottom.len());
    top.extend(draw.jobs(&plan, rest));
    // what was said comes before anything else, and stays at the bottom
    bottom.drain(..bottom.len().saturating_sub(usize::from(area.height)));
    let foot_height = u16::try_from(bottom.len()).unwrap_or(area.height);
    let body = Rect { height: area.height - foot_height, ..area };
    paint(&top, body, buf);
    let chart = Rect { y: area.y.saturating_add(u16::try_from(above).unwrap_or(u16::MAX)), ..body };
    let chart = Rect { height: u16::try_from(plan.chart).unwrap_or(0), ..chart }.intersection(body);
    draw.chart(chart, buf);
    paint(&bottom, Rect { y: area.y + body.height, height: foot_height, ..area }, buf);
}

/// Lines from the top of an area; what doesn't fit is cut off.
fn paint(lines: &[Line<'static>], area: Rect, buf: &mut Buffer) {
    for (y, line) in (area.y..area.bottom()).zip(lines) {
        buf.set_line(area.x, y, line, area.width);
    }
}

/// What every part of the screen is drawn from.
struct Draw<'a> {
    model: &'a Model,
    look: Look,
    now_us: Micros,
    width: usize,
}

impl Draw<'_> {
    fn span(&self, text: &str, tone: Tone) -> Span<'static> {
        Span::styled(self.look.text(text), self.look.style(tone))
    }

    fn line(&self, text: &str, tone: Tone) -> Line<'static> {
        Line::from(self.span(text, tone))
    }

    /// A label in a column of its own, then text, cut to the width.
    fn labelled(&self, label: &str, text: &str) -> Line<'static> {
        let label = format!("{label:9}");
        let text = shortened(text, self.width.saturating_sub(label.len()), self.look.ellipsis());
        Line::from(vec![self.span(&label, Tone::Faint), self.span(&text, Tone::Plain)])
    }

    /// Text in exactly so many columns, from the left or from the right.
    fn cell(&self, text: &str, columns: usize, right: bool) -> String {
        let text = shortened(&self.look.text(text), columns, self.look.ellipsis());
        let gap = " ".repeat(columns.saturating_sub(super::text::width(&text)));
        if right { gap + &text } else { text + &gap }
    }

    /// A table's line, marked where it is selected.
    fn row(&self, selected: bool, text: &str, tone: Tone) -> Line<'static> {
        let text = shortened(text, self.width.saturating_sub(1), self.look.ellipsis());
        let (mark, tone) = if selected { (">", Tone::Selected) } else { (" ", tone) };
        Line::from(self.span(&format!("{mark}{text}"), tone))
    }
}

/// The part of a list of `n` that is shown in `rows` lines so that `selected` is in it.
fn shown(n: usize, rows: usize, selected: usize) -> std::ops::Range<usize> {
    let first = (selected + 1).saturating_sub(rows).min(n.saturating_sub(rows));
    first..(first + rows).min(n)
}

#[cfg(test)]
mod tests;
