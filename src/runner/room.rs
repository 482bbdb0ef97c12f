//! How many chunks may be in hand, and of which job the next one is claimed: pure.
//!
//! Whatever waits for one target with one priority is a tier. A tier takes at most half of the room that
//! all others leave, in chunks and in bytes: so there is always some left for a job of another priority
//! or for another MTA, which begins at once, and the sum is bounded.

/// Chunks in hand, over all tiers; each tier may have one.
pub const HANDS_MAX: usize = 96;
/// The same, with the first chunks of jobs that have none.
pub const FIRST_HANDS_MAX: usize = 1_024;
/// Their bytes: what a drain's memory is made of.
pub const HANDS_BYTES_MAX: usize = 40 << 20;
/// Chunks of one job.
pub const HANDS_PER_JOB_MAX: usize = 40;
/// Waiting recipients of a tier below which the feeder claims more: a tenth of a second's worth at the
/// fastest.
pub(super) const LOW_WATER: usize = 4_000;
/// The same for a job, however much waits of others.
pub(super) const JOB_LOW_WATER: usize = 500;

const _: () = assert!(HANDS_PER_JOB_MAX <= HANDS_MAX / 2, "a small job finds room beside a huge one");

/// What is in hand, of one tier or of all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct InHand {
    pub hands: usize,
    pub bytes: usize,
}

impl InHand {
    pub fn add(&mut self, bytes: usize) {
        self.hands += 1;
        self.bytes += bytes;
    }

    /// The same for a job that has nothing in hand: chunks are mostly small, and it is to begin at once.
    pub fn has_room_for_first(self, all: InHand) -> bool {
        let others = (all.hands - self.hands, all.bytes - self.bytes);
        let (hands, bytes) =
            (FIRST_HANDS_MAX.saturating_sub(others.0) / 2, HANDS_BYTES_MAX.saturating_sub(others.1) / 2);
        self.hands == 0 || (self.hands < hands && self.bytes < bytes)
    }

    /// Whether a tier that has so much may claim another chunk, beside `all`.
    pub fn has_room(self, all: InHand) -> bool {
        let others = (all.hands - self.hands, all.bytes - self.bytes);
        let (hands, bytes) =
            (HANDS_MAX.saturating_sub(others.0) / 2, HANDS_BYTES_MAX.saturating_sub(others.1) / 2);
        self.hands == 0 || (self.hands < hands && self.bytes < bytes)
    }
}

/// A job, as the choice sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Claimant {
    pub priority: u8,
    /// Its chunks in hand.
    pub hands: usize,
    /// Its recipients that wait in hands.
    pub queued: usize,
    /// Of its tier.
    pub tier: InHand,
    pub tier_queued: usize,
    /// When a chunk of it was claimed last: a count, 0 for never.
    pub claimed_last: u64,
}

impl Claimant {
    /// Whether a chunk of it is to be claimed now; `is_mixed_badly` says whether its domains call for
    /// one, and costs something.
    pub fn wants(&self, all: InHand, is_mixed_badly: impl FnOnce() -> bool) -> bool {
        self.hands < HANDS_PER_JOB_MAX
            && if self.hands == 0 { self.tier.has_room_for_first(all) } else { self.tier.has_room(all) }
            // a job that has nothing in hand starts at once, however much of others waits
            && (self.hands == 0
                || self.tier_queued < LOW_WATER
                || self.queued < JOB_LOW_WATER
                || is_mixed_badly())
    }

    /// Who is first: the highest priority, then who has least in hand, then who has waited longest.
    pub fn rank(&self) -> (std::cmp::Reverse<u8>, usize, u64) {
        (std::cmp::Reverse(self.priority), self.hands, self.claimed_last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_tier_finds_room_and_the_sum_is_bounded(
            claims in proptest::collection::vec((0usize..12, 1usize..(1 << 20)), 0..1_000),
        ) {
            let (mut tiers, mut all) = ([InHand::default(); 12], InHand::default());
            for (tier, bytes) in claims {
                prop_assert!(tiers[tier].hands > 0 || tiers[tier].has_room(all));
                if tiers[tier].has_room(all) {
                    tiers[tier].add(bytes);
                    all.add(bytes);
                }
            }
            prop_assert!(all.hands <= HANDS_MAX + tiers.len());
            prop_assert!(all.bytes <= HANDS_BYTES_MAX + (tiers.len() << 20));
        }
    }

    #[test]
    fn small_chunks_leave_room_for_the_variety_that_mixing_needs_and_so_do_the_largest() {
        for (bytes, least) in [(100 << 10, HANDS_PER_JOB_MAX), (1 << 20, 20)] {
            let mut tier = InHand::default();
            while tier.has_room(tier) {
                tier.add(bytes);
            }
            assert!(tier.hands >= least, "{} chunks of {bytes} bytes", tier.hands);
        }
    }

    #[test]
    fn a_job_begins_beside_a_hundred_others_and_then_the_one_that_has_waited_longest_is_next() {
        let tier = InHand { hands: 100, bytes: 100 * (40 << 10) };
        let claimant = |hands, claimed_last| Claimant {
            priority: 5,
            hands,
            queued: 0,
            tier,
            tier_queued: 0,
            claimed_last,
        };
        let fresh = claimant(0, 0);
        assert!(fresh.wants(tier, || false) && !claimant(1, 7).wants(tier, || false));
        let mut ranks = [claimant(0, 9), claimant(1, 1), claimant(0, 3), fresh];
        ranks.sort_by_key(Claimant::rank);
        assert_eq!(ranks.map(|c| (c.hands, c.claimed_last)), [(0, 0), (0, 3), (0, 9), (1, 1)]);
    }

    #[test]
    fn a_job_with_nothing_in_hand_is_claimed_for_whatever_waits_of_others() {
        let all = InHand { hands: 40, bytes: 4 << 20 };
        let mut job =
            Claimant { priority: 5, hands: 0, queued: 0, tier: all, tier_queued: 40_000, claimed_last: 0 };
        assert!(job.wants(all, || false));
        (job.hands, job.queued) = (1, 1_000);
        assert!(!job.wants(all, || false));
        assert!(job.wants(all, || true));
    }
}
