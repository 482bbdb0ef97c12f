//! `--dry-run`: what a submission would be, printed.

use std::fmt::Write;

use super::exit;
use super::session::{Session, print, print_json};
use super::submit::Watcher;
use crate::intake::submit::{SubmitRequest, Survey, survey};

/// Surveys and prints.
///
/// # Errors
/// [`SubmitError`](crate::intake::submit::SubmitError); output that can't be written.
pub fn run(request: &SubmitRequest, session: &Session) -> anyhow::Result<u8> {
    let mut watcher = Watcher::new(session);
    let survey = survey(request, &mut watcher);
    watcher.clear();
    let survey = survey?;
    if session.json {
        print_json(&survey)?
    } else {
        print(&text(&survey)?)?
    }
    Ok(exit::DONE)
}

fn text(survey: &Survey) -> Result<String, std::fmt::Error> {
    let mut out = String::new();
    for sample in &survey.samples {
        writeln!(out, "---- from <{}> to <{}>", sample.sender, sample.recipient)?;
        out.push_str(&sample.message.replace("\r\n", "\n"));
        writeln!(out, "----")?;
    }
    writeln!(out, "from          <{}>", survey.sender)?;
    writeln!(
        out,
        "recipients    {} ({} duplicates dropped, {} lines rejected)",
        survey.recipients, survey.duplicates_dropped, survey.rejected_lines
    )?;
    if survey.suppressed > 0 {
        writeln!(out, "suppressed    {} of them", survey.suppressed)?;
    }
    writeln!(
        out,
        "size          {} to {} octets, median {}; {} in all",
        survey.size_octets_min, survey.size_octets_max, survey.size_octets_median, survey.size_octets_total
    )?;
    for (i, domain) in survey.top_domains.iter().enumerate() {
        let head = if i == 0 { "domains" } else { "" };
        let percent = domain.recipients as f64 * 100.0 / survey.recipients as f64;
        writeln!(out, "{head:13} {:>10}  {percent:>5.1} %  {}", domain.recipients, domain.domain)?;
    }
    writeln!(out, "A dry run: nothing was submitted.")?;
    Ok(out)
}
