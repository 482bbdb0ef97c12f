//! The plot: goodput with its spread, latency percentiles and CPU, each against the number of connections.
//!
//! Three panels, one above the other, a colour for each number of recipients a transaction. Connections are
//! spaced by their logarithm. Deterministic; needs no fonts here, whoever shows it has them.

use std::ops::Range;

use plotters::coord::Shift;
use plotters::coord::ranged1d::{DefaultFormatting, KeyPointHint, Ranged};
use plotters::prelude::*;

use super::error::TuneError;
use super::report::Report;
use super::row::Row;

const CHART: u32 = 820;
/// Beside each chart, so that it covers nothing.
const LEGEND: u32 = 260;
const HEAD: u32 = 64;
const PANEL: u32 = 320;
const COLOURS: [RGBColor; 6] = [
    RGBColor(31, 95, 180),
    RGBColor(200, 80, 20),
    RGBColor(30, 130, 70),
    RGBColor(130, 60, 160),
    RGBColor(160, 120, 0),
    RGBColor(90, 90, 90),
];
const INK: RGBColor = RGBColor(40, 40, 40);
const GRID: RGBColor = RGBColor(225, 225, 225);

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Error<'a> = DrawingAreaErrorKind<<SVGBackend<'a> as DrawingBackend>::ErrorType>;

/// The plot as SVG.
///
/// # Errors
/// [`TuneError::Plot`], when nothing was measured.
pub fn svg(report: &Report) -> Result<String, TuneError> {
    let rows: Vec<&Row> = report.rows.iter().filter(|row| row.rate() > 0.0).collect();
    if rows.is_empty() {
        return Err(TuneError::Plot("nothing was measured".to_owned()));
    }
    let mut out = String::new();
    {
        let root = SVGBackend::with_string(&mut out, (CHART + LEGEND, HEAD + 3 * PANEL)).into_drawing_area();
        draw(report, &rows, &root).map_err(|error| TuneError::Plot(error.to_string()))?;
    }
    Ok(out)
}

/// Connections, and the value with its bounds where it has some.
type At = (f64, f64, Option<(f64, f64)>);
/// Of which curve of a row, how strong that one is drawn, the value, and its bounds where it has some.
type Value = (&'static str, f64, f64, Option<(f64, f64)>);

/// A curve of a panel.
struct Curve {
    name: String,
    colour: RGBColor,
    /// Of 1: the higher percentiles are lighter.
    strength: f64,
    points: Vec<At>,
}

fn draw<'a>(report: &Report, rows: &[&Row], root: &Area<'a>) -> Result<(), Error<'a>> {
    root.fill(&WHITE)?;
    let title = format!("infeed tune: {} at {}", report.mta.name(), report.address);
    let knee = report.knee();
    let under = knee.map_or_else(String::new, |knee| {
        let interval = knee.interval.map_or_else(
            || "too few rounds for an interval".to_owned(),
            |(low, high)| format!("95 % interval {low} to {high}"),
        );
        format!(
            "knee: {} connections, {:.0} recipients/s; {interval}",
            knee.connections, knee.recipients_per_second
        )
    });
    root.draw_text(&title, &("sans-serif", 22).into_font().color(&INK), (24, 12))?;
    root.draw_text(&under, &("sans-serif", 16).into_font().color(&INK), (24, 40))?;
    let (_, body) = root.split_vertically(HEAD);
    let panels = body.split_evenly((3, 1));
    let curves = |value: &dyn Fn(&Row) -> Vec<Value>| curves(rows, value);
    let goodput = curves(&|row| {
        let spread = row.recipients_per_second.as_ref();
        spread.map_or_else(Vec::new, |rate| vec![("", 1.0, rate.median, Some((rate.min, rate.max)))])
    });
    let latency = curves(&|row| {
        row.final_reply_ms.map_or_else(Vec::new, |ms| {
            vec![("p50", 1.0, ms.p50, None), ("p95", 0.65, ms.p95, None), ("p99", 0.35, ms.p99, None)]
        })
    });
    let cpu = curves(&|row| {
        row.cpu_percent.map_or_else(Vec::new, |cpu| {
            vec![("machine", 1.0, cpu.machine, None), ("infeed", 0.5, cpu.infeed, None)]
        })
    });
    let knee = knee.map(|knee| knee.connections as f64);
    panel(&panels[0], "goodput (median, spread of the rounds)", "recipients/s", &goodput, knee, None)?;
    panel(&panels[1], "final reply", "ms", &latency, knee, None)?;
    panel(&panels[2], "CPU", "% of all processors", &cpu, knee, Some(100.0))?;
    root.present()
}

fn curves(rows: &[&Row], value: &dyn Fn(&Row) -> Vec<Value>) -> Vec<Curve> {
    let of_one = rows.chunk_by(|a, b| a.recipients_per_transaction == b.recipients_per_transaction);
    let mut curves: Vec<Curve> = Vec::new();
    for (i, rows) in of_one.enumerate() {
        let first = curves.len();
        for row in rows {
            for (what, strength, value, bounds) in value(row) {
                let name = match row.recipients_per_transaction {
                    1 => format!("1 recipient/transaction {what}"),
                    n => format!("{n} recipients/transaction {what}"),
                };
                let name = name.trim_end().to_owned();
                let point = (row.connections as f64, value, bounds);
                match curves[first..].iter_mut().find(|curve| curve.name == name) {
                    Some(curve) => curve.points.push(point),
                    None => curves.push(Curve {
                        name,
                        colour: COLOURS[i % COLOURS.len()],
                        strength,
                        points: vec![point],
                    }),
                }
            }
        }
    }
    curves
}

fn panel<'a>(
    area: &Area<'a>,
    title: &str,
    unit: &str,
    curves: &[Curve],
    knee: Option<f64>,
    top: Option<f64>,
) -> Result<(), Error<'a>> {
    let (area, legend) = area.split_horizontally(CHART);
    let numbers = Connections::of(curves);
    let highest = curves
        .iter()
        .flat_map(|curve| &curve.points)
        .map(|&(_, value, bounds)| bounds.map_or(value, |(_, high)| high.max(value)))
        .fold(0.0, f64::max);
    let top = top.unwrap_or(highest * 1.1).max(1e-3);
    let mut chart = ChartBuilder::on(&area)
        .caption(title, ("sans-serif", 17).into_font().color(&INK))
        .margin_left(16)
        .margin_right(24)
        .margin_top(4)
        .x_label_area_size(44)
        .y_label_area_size(76)
        .build_cartesian_2d(numbers, 0.0..top)?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(GRID)
        .axis_style(INK)
        .label_style(("sans-serif", 14).into_font().color(&INK))
        .x_desc("connections (N)")
        .y_desc(unit)
        .x_label_formatter(&|n| format!("{n:.0}"))
        .y_labels(6)
        .y_label_formatter(&|y| if top < 10.0 { format!("{y:.1}") } else { format!("{y:.0}") })
        .draw()?;
    if let Some(knee) = knee {
        chart.draw_series(std::iter::once(PathElement::new(vec![(knee, 0.0), (knee, top)], GREY_700)))?;
    }
    for curve in curves {
        let colour = curve.colour.mix(curve.strength);
        let line = curve.points.iter().map(|&(n, value, _)| (n, value));
        chart.draw_series(LineSeries::new(line.clone(), colour.stroke_width(2)))?;
        chart.draw_series(line.map(|at| Circle::new(at, 4, colour.filled())))?;
        let bars = curve.points.iter().filter_map(|&(n, _, bounds)| Some((n, bounds?)));
        chart.draw_series(
            bars.map(|(n, (low, high))| PathElement::new(vec![(n, low), (n, high)], colour.stroke_width(1))),
        )?;
    }
    for (curve, y) in curves.iter().zip((36..).step_by(22)) {
        let style = curve.colour.mix(curve.strength).stroke_width(3);
        legend.draw(&PathElement::new(vec![(4, y), (28, y)], style))?;
        legend.draw_text(&curve.name, &("sans-serif", 16).into_font().color(&INK), (36, y - 6))?;
    }
    Ok(())
}

const GREY_700: RGBColor = RGBColor(150, 150, 150);

/// The axis of connections: by their logarithm, a line and a number at each that was tried.
#[derive(Clone)]
struct Connections(Vec<f64>);

impl Connections {
    fn of(curves: &[Curve]) -> Self {
        let mut numbers: Vec<f64> = curves.iter().flat_map(|curve| &curve.points).map(|&(n, ..)| n).collect();
        numbers.sort_by(f64::total_cmp);
        numbers.dedup();
        Self(numbers)
    }
}

impl Ranged for Connections {
    type FormatOption = DefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        // room on both sides; one number alone stands in the middle
        let range = self.range();
        let (low, high) = (range.start.ln() - 0.2, range.end.ln() + 0.2);
        let part = (value.max(1.0).ln() - low) / (high - low);
        limit.0 + (part * f64::from(limit.1 - limit.0)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, _: Hint) -> Vec<f64> {
        self.0.clone()
    }

    fn range(&self) -> Range<f64> {
        let first = self.0.first().copied().unwrap_or(1.0);
        first..self.0.last().copied().unwrap_or(first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tune::judge::{judge, tests::row};
    use crate::tune::{Ended, Mta};

    fn report(rows: Vec<Row>) -> Report {
        Report {
            is_unanswered: false,
            address: "127.0.0.1:25 <&>".to_owned(),
            mta: Mta::Postfix,
            banner: String::new(),
            processors: 2,
            size_octets: 4096,
            seconds: 5.0,
            rounds: 3,
            rounds_done: 3,
            seed: 1,
            messages_max: 1000,
            accepted: 1000,
            ended: Ended::Done,
            trouble: None,
            trouble_remedy: None,
            knees: judge(&rows, 1).into_iter().collect(),
            rows,
            recipients_per_transaction: Some(1),
            toml: None,
            bottlenecks: Vec::new(),
            remarks: Vec::new(),
        }
    }

    #[test]
    fn the_plot_is_xml_with_a_point_for_each_number_on_each_curve_and_the_same_each_time() {
        let rows: Vec<Row> = [1usize, 2, 4, 64]
            .into_iter()
            .map(|n| row(n, &[100.0 * n as f64, 90.0 * n as f64, 110.0 * n as f64], 1.5, 40.0))
            .collect();
        let plot = svg(&report(rows.clone())).expect("a plot");
        assert_eq!(plot, svg(&report(rows)).expect("a plot"));
        let tree = roxmltree::Document::parse(&plot).expect("XML");
        let circles: Vec<i32> = tree
            .descendants()
            .filter(|node| node.has_tag_name("circle"))
            .map(|node| node.attribute("cx").and_then(|x| x.parse().ok()).expect("a number"))
            .collect();
        // goodput; p50, p95, p99; machine, infeed
        assert_eq!(circles.len(), 4 * 6);
        for curve in circles.chunks(4) {
            assert_eq!(curve, &circles[..4]);
            assert!(curve.is_sorted() && curve.iter().all(|x| (0..CHART as i32).contains(x)), "{curve:?}");
        }
        let texts: Vec<&str> = tree.descendants().filter_map(|node| node.text()).map(str::trim).collect();
        for words in ["connections (N)", "recipients/s", "ms", "% of all processors", "64"] {
            assert!(texts.contains(&words), "{words}: {texts:?}");
        }
    }

    #[test]
    fn one_number_alone_has_a_plot_and_none_has_not() {
        let one = svg(&report(vec![row(8, &[100.0], 1.5, 40.0)])).expect("a plot");
        assert!(one.contains("<circle"));
        let nothing = Row { recipients_per_second: None, ..row(8, &[], 1.5, 40.0) };
        assert!(svg(&report(vec![nothing])).is_err());
    }
}
