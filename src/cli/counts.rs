//! A job's numbers as every command prints them: one definition for `send`, `jobs` and `job show`.

use std::fmt::Write;

use serde_json::{Map, Value, json};

use crate::clock;
use crate::control::is_the_breakers;
use crate::pressure::window::Windows;
use crate::spool::{JobState, JobView, Outcome, PRIORITY_DEFAULT};

/// Counts of a job: `recipients`, one a outcome, `possible_repeats`, and what its list came to.
pub fn counts_json(view: &JobView) -> Map<String, Value> {
    let mut map = Map::new();
    map.insert("job".into(), json!(view.job.as_str()));
    map.insert("recipients".into(), json!(view.meta.recipients));
    for outcome in Outcome::ALL {
        map.insert(outcome.as_str().into(), json!(view.counts.of(outcome)));
    }
    map.insert("possible_repeats".into(), json!(view.counts.possible_repeats));
    map.insert("duplicates_dropped".into(), json!(view.meta.duplicates_dropped));
    map.insert("rejected_lines".into(), json!(view.meta.rejected_lines));
    map
}

/// The counts, with what else `jobs` and `job show` tell.
pub fn job_json(view: &JobView) -> Value {
    let mut map = counts_json(view);
    map.insert("id".into(), json!(view.job.as_str()));
    map.insert("state".into(), json!(view.state.as_str()));
    map.insert("submitted".into(), json!(clock::rfc3339(view.meta.submitted_us)));
    map.insert("submitted_by".into(), json!(view.meta.submitted_by));
    map.insert("sender".into(), json!(view.meta.sender));
    map.insert("priority".into(), json!(view.meta.priority));
    map.insert("messages_per_second".into(), json!(view.standing.rate(&view.meta)));
    map.insert("windows".into(), json!(view.standing.windows(&view.meta)));
    map.insert("waits_for_window".into(), json!(why_shut(view)));
    map.insert("rehearsal".into(), json!(view.meta.rehearsal));
    map.insert("test_to".into(), json!(view.meta.test_to));
    map.insert("paused_reason".into(), json!(paused_reason(view)));
    map.insert("members".into(), json!(view.meta.pack));
    map.insert("pack".into(), json!(view.pack.as_ref().map(|pack| pack.as_str())));
    map.insert("deferred_due".into(), json!(view.deferred_due_us().map(clock::rfc3339)));
    map.insert("ended".into(), json!(view.standing.ended_us.map(clock::rfc3339)));
    map.insert("damage".into(), json!(view.damage));
    Value::Object(map)
}

/// Why nothing of an active job goes at this hour.
pub fn why_shut(view: &JobView) -> Option<String> {
    if view.state != JobState::Active {
        return None;
    }
    match Windows::parse(view.standing.windows(&view.meta)) {
        Ok(windows) => windows.why_shut(clock::now_us()),
        Err(e) => Some(format!("its window can't be read: {e}")),
    }
}

/// The job's own rate and window, and whether it waits.
pub fn pacing_text(view: &JobView) -> Option<String> {
    let rate = view.standing.rate(&view.meta).map(|rate| format!("rate {rate}/s"));
    let windows = view.standing.windows(&view.meta);
    let window = match why_shut(view) {
        Some(why) => Some(why),
        None => (!windows.is_empty()).then(|| format!("window {}", windows.join("; "))),
    };
    let parts: Vec<String> = rate.into_iter().chain(window).collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}

/// Why the job is paused, if it is.
pub fn paused_reason(view: &JobView) -> Option<&str> {
    if view.state != JobState::Paused {
        return None;
    }
    Some(view.standing.paused_reason.as_deref().unwrap_or("no reason was noted"))
}

/// What to do about a paused job: whoever paused it knows, and the refusal breaker names the reply.
pub fn remedy(job: &str, reason: &str) -> String {
    if !is_the_breakers(reason) {
        return format!("its recipients are pending: `infeed job resume {job}` sends them");
    }
    format!(
        "its recipients are pending: mend the cause, then `infeed job resume {job}` and drain again \
         (`infeed job resume {job} --accept-refusals` to count them as refused)"
    )
}

/// One line an outcome that occurred, the recipients first.
pub fn counts_text(view: &JobView) -> String {
    let mut out = String::new();
    let mut line = |name: &str, count: u64, remark: &str| {
        let line = format!("{:16} {count:>10}  {remark}", name.replace('_', " "));
        // writing to a String can't fail
        out.push_str(line.trim_end());
        out.push('\n');
    };
    line("recipients", view.meta.recipients, "");
    for outcome in Outcome::ALL {
        let count = view.counts.of(outcome);
        if count > 0 || outcome == Outcome::Accepted {
            line(outcome.as_str(), count, meaning(outcome));
        }
    }
    if view.counts.possible_repeats > 0 {
        line("possible repeats", view.counts.possible_repeats, "of them may have been sent twice");
    }
    out
}

fn meaning(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Pending => "not sent yet",
        Outcome::Deferred => "said 4xx: tried again when due",
        Outcome::Accepted => "taken by the MTA",
        Outcome::Refused => "said 5xx",
        Outcome::Expired => "deferred for too long",
        Outcome::Cancelled => "",
        Outcome::Suppressed => "on the suppression list",
        Outcome::Quarantined => "could not be read or rendered",
        Outcome::InDoubt => "sent, and no reply came",
    }
}

/// A job as `job show` prints it.
pub fn job_text(view: &JobView) -> Result<String, std::fmt::Error> {
    let meta = &view.meta;
    let mut out = String::new();
    writeln!(out, "job {}, {}", view.job, view.state.as_str())?;
    writeln!(out, "submitted {} by {}", clock::rfc3339(meta.submitted_us), meta.submitted_by)?;
    if let Some(ended_us) = view.standing.ended_us {
        writeln!(out, "ended {}", clock::rfc3339(ended_us))?;
    }
    if let Some(members) = meta.pack {
        let id = &view.job;
        writeln!(out, "a pack of {members} jobs: `infeed job show {id}.1` to `{id}.{members}` tell of each")?;
    }
    if let Some(pack) = &view.pack {
        writeln!(out, "in the pack {pack}, which changes state as a whole")?;
    }
    writeln!(out, "from <{}>{}", meta.sender, if meta.merge { ", merged" } else { "" })?;
    if meta.priority != PRIORITY_DEFAULT {
        writeln!(out, "priority {}", meta.priority)?;
    }
    if let Some(pacing) = pacing_text(view) {
        writeln!(out, "{pacing}")?;
    }
    if let Some(verp) = &meta.verp {
        writeln!(out, "VERP {verp}")?;
    }
    if meta.rehearsal {
        writeln!(out, "a rehearsal: it goes to the sink only")?;
    }
    if let Some(address) = &meta.test_to {
        writeln!(out, "a test: every message goes to <{address}>")?;
    }
    if let Some(reason) = paused_reason(view) {
        writeln!(out, "paused: {reason}")?;
        writeln!(out, "{}", remedy(view.pack.as_ref().unwrap_or(&view.job).as_str(), reason))?;
    }
    out.push_str(&counts_text(view));
    if let Some(due_us) = view.deferred_due_us() {
        writeln!(out, "deferred ones are due from {} on", clock::rfc3339(due_us))?;
    }
    if meta.duplicates_dropped + meta.rejected_lines > 0 {
        writeln!(
            out,
            "{} duplicates dropped, {} lines rejected",
            meta.duplicates_dropped, meta.rejected_lines
        )?;
    }
    for damage in &view.damage {
        writeln!(out, "damaged: {damage}")?;
    }
    Ok(out)
}
