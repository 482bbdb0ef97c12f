//! One member of a pack as `job show`, `job report` and `spool check` see it.
//!
//! Its counts come from the report of its recipients, and sum to their number: a recipient that nothing
//! readable tells of counts as quarantined. Errors: [`SpoolError`].

use std::collections::BTreeSet;

use super::check::Checked;
use super::dir::DirSpool;
use super::error::{Result, SpoolError};
use super::id::{Counts, JobId, Outcome};
use super::job::JobMeta;
use super::layout::JobDir;
use super::pack::{Member, PackPlace};
use super::report::ReportLine;
use super::view::JobView;

impl DirSpool {
    /// A member: its own sender, recipients and counts; the rest is its pack's.
    pub(super) fn member_view(&self, job: &JobId) -> Result<JobView> {
        let (place, member) = self.member_at(job)?;
        let standing = self.standing_of(&place.dir)?;
        let (mut counts, mut unreadable) = (Counts::default(), 0);
        self.report_of_member(&place, &member, &mut |line| {
            counts.add(line.outcome, 1);
            counts.possible_repeats += u64::from(line.possible_repeat);
            unreadable += u64::from(line.address.is_empty());
            Ok(())
        })?;
        let meta = JobMeta {
            id: job.to_string(),
            recipients: member.recipients,
            message_bytes: member.octets,
            message_sha1: super::id::hex(&member.sha1),
            sender: member.sender,
            literal: member.literal,
            columns: Vec::new(),
            duplicates_dropped: 0,
            rejected_lines: 0,
            pack: None,
            ..place.meta
        };
        let damage = match unreadable {
            0 => Vec::new(),
            n => vec![format!("{n} recipients can't be read; they count as quarantined")],
        };
        Ok(JobView {
            job: job.clone(),
            state: place.state,
            meta,
            standing,
            counts,
            waiting: Vec::new(),
            damage,
            pack: Some(place.pack),
        })
    }

    /// The report of one member; ordinals are the member's own.
    pub(super) fn member_report(
        &self,
        job: &JobId,
        each: &mut dyn FnMut(ReportLine) -> Result<()>,
    ) -> Result<()> {
        let (place, member) = self.member_at(job)?;
        self.report_of_member(&place, &member, each)
    }

    fn member_at(&self, job: &JobId) -> Result<(PackPlace, Member)> {
        let Some(place) = self.pack_of(job)? else { return Err(SpoolError::NoSuchJob(job.to_string())) };
        let member = match self.members_of(&place.dir, &place.meta) {
            // renamed while we looked
            Err(e) if e.is_not_found() => {
                let (_, dir) = self.find(&place.pack)?;
                self.members_of(&dir, &place.meta)?
            }
            other => other?,
        };
        match member.get(place.number) {
            Some(member) => Ok((place, member.clone())),
            None => Err(SpoolError::NoSuchJob(job.to_string())),
        }
    }

    fn report_of_member(
        &self,
        place: &PackPlace,
        member: &Member,
        each: &mut dyn FnMut(ReportLine) -> Result<()>,
    ) -> Result<()> {
        let mut missing: BTreeSet<u64> = (0..member.recipients).collect();
        self.report(&place.pack, &mut |line| {
            // what can't be read has no address, and no ordinal either
            let Some(own) = member.place(line.ordinal).filter(|_| !line.address.is_empty()) else {
                return Ok(());
            };
            if !missing.remove(&own) {
                return Ok(());
            }
            each(ReportLine { ordinal: own, ..line })
        })?;
        for ordinal in missing {
            each(ReportLine {
                ordinal,
                address: String::new(),
                outcome: Outcome::Quarantined,
                code: 0,
                text: "its record in the pack can't be read".into(),
                queue_id: String::new(),
                attempts: 0,
                at_us: 0,
                possible_repeat: false,
            })?;
        }
        Ok(())
    }

    /// `spool check` of what a pack has and other jobs have not.
    pub(super) fn check_pack(&self, dir: &JobDir, out: &mut Checked) -> Result<()> {
        let content = match self.pack_content(dir) {
            Ok(content) => content,
            Err(SpoolError::Damaged { path, reason }) => {
                out.add(&path, reason, "", true);
                return Ok(());
            }
            Err(e) => return Err(e),
        };
        for (number, _) in content.members.iter() {
            if let Err(reason) = content.message(number) {
                let what = format!("member {number}: {reason}");
                out.add(&dir.message(), what, "its recipients are quarantined", true);
            }
        }
        Ok(())
    }
}
