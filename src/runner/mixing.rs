//! Which recipients of one job go out next, so that domains stay mixed: pure.
//!
//! The recipients in hand wait in lanes, one per domain that is a good part of its chunk, and one, the
//! rest, for all small ones together (no domain has more than [`LANE_PART`] of a chunk in it, so that
//! it can't dominate). Lanes take turns by weight. A lane's weight is its part of what is in hand, so
//! that chunks drain evenly, or its share of all that is due where it has less in hand than that; and
//! never more than its share plus [`MARGIN`]: a list sorted by domain has whole chunks of one domain in
//! hand, and those are held back.
//!
//! What is held back must be made up for by other domains. The runway says for how many recipients what
//! is in hand suffices within these bounds, and [`Mixer::want`] which chunk helps most when that is too
//! little. A list in no order needs no more chunks for this than throughput asks for; a sorted one
//! needs at most `1 / MARGIN` of them and one for each domain of its own weight.
//!
//! Bound: while the runway is above zero, in any 1,000 successive transactions no domain exceeds its share
//! of what is due by 5 points ([`MARGIN`], and what turns and small pieces add).

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use rustc_hash::FxHashMap;

use crate::pressure::rate::Moment;
use crate::spool::{DomainKey, Waiting};

/// What a domain may have beyond its share: less than the 5 points that are promised, since weights are
/// kept on average only, and since transactions that are in flight together end in another order.
const MARGIN: f64 = 0.03;
/// Recipients for which what is in hand shall suffice: two of the windows that the bound is for.
const LOOKAHEAD: f64 = 2_000.0;
/// A domain with this share of what is due always has its part in hand.
const MAJOR: f64 = 0.04;
/// A domain with less of a chunk than this shares the lane of the rest.
const LANE_PART: f64 = 0.025;
/// What the weight of a lane is made of beside its recipients.
const HEAD_START: f64 = 500.0;
/// With less than this it is better to wait for the feeder.
const DRY: f64 = 300.0;
/// Weights are made anew after so many recipients.
const REPLAN_RECIPIENTS: u64 = 100;

/// Takes turns among the domains of one job. Chunks are known by their handles.
#[derive(Debug, Default)]
pub(super) struct Mixer {
    lanes: FxHashMap<Option<DomainKey>, Lane>,
    /// Whose turn comes first; each lane that has something is in it once.
    turns: BinaryHeap<Reverse<(u64, Option<DomainKey>)>>,
    /// The turn that was taken last.
    now: u64,
    /// Came back untried: these go first.
    again: VecDeque<(u32, VecDeque<u16>)>,
    queued: u64,
    in_lanes: u64,
    waiting: Waiting,
    by_domain: FxHashMap<DomainKey, u64>,
    /// Recipients for which what is in hand suffices, each domain kept within its bound; 0 when there
    /// are too few domains for that.
    runway: f64,
    /// A major domain has less than half of its part in hand, and more of it waits.
    short: bool,
    /// Recipients until weights are made anew.
    replan_in: u64,
    /// Lanes whose domains wait for a rate, and until when; they have no turn.
    parked: Vec<(Moment, DomainKey)>,
    /// Recipients in them.
    aside: u64,
}

#[derive(Debug, Default)]
struct Lane {
    stock: VecDeque<(u32, VecDeque<u16>)>,
    queued: u64,
    /// Of all that is due.
    share: f64,
    /// Part of the recipients that go out, at most.
    bound: f64,
    /// Part of the recipients that go out.
    weight: f64,
    /// Its next turn, in recipients of a lane of weight 1.
    turn: u64,
    /// Waits for a rate.
    parked: bool,
}

/// Recipients of one chunk by lane; `None` is the rest.
pub(super) type Lanes = Vec<(Option<DomainKey>, Vec<u16>)>;

/// Sorts the recipients of a chunk into lanes; `piece_max` is what one transaction takes at most,
/// `is_elsewhere` says whether other chunks hold a domain too, `is_limited` whether it has a rate of its own.
pub(super) fn lanes_of<'a>(
    recipients: impl Iterator<Item = (u16, &'a str)>,
    piece_max: usize,
    is_elsewhere: impl Fn(DomainKey) -> bool,
    is_limited: impl Fn(DomainKey) -> bool,
) -> Lanes {
    assert!(piece_max > 0, "a transaction of no recipients");
    let mut domains: Vec<(DomainKey, Vec<u16>)> = Vec::new();
    let mut place: FxHashMap<DomainKey, usize> = FxHashMap::default();
    let mut all = 0;
    for (index, domain) in recipients {
        let key = DomainKey::of(domain);
        let at = *place.entry(key).or_insert_with(|| {
            domains.push((key, Vec::new()));
            domains.len() - 1
        });
        domains[at].1.push(index);
        all += 1;
    }
    let lane_min = ((all as f64 * LANE_PART).ceil() as usize).max(piece_max);
    let mut lanes = Lanes::new();
    let mut rest: Vec<Vec<u16>> = Vec::new();
    for (key, mut members) in domains {
        if is_limited(key) {
            // nobody else may wait with it
            lanes.push((Some(key), members));
        } else if members.len() >= lane_min || (piece_max == 1 && is_elsewhere(key)) {
            // left-overs of several domains share a transaction
            let whole = members.len() - members.len() % piece_max;
            rest.push(members.split_off(whole));
            lanes.push((Some(key), members));
        } else {
            rest.push(members);
        }
    }
    rest.retain(|members| !members.is_empty());
    if !rest.is_empty() {
        lanes.push((None, if piece_max == 1 { interleaved(&rest) } else { rest.concat() }));
    }
    lanes
}

/// Each domain spread evenly over the whole.
fn interleaved(domains: &[Vec<u16>]) -> Vec<u16> {
    let mut places: Vec<(f64, u16)> = Vec::new();
    for members in domains {
        let n = members.len() as f64;
        places.extend(members.iter().enumerate().map(|(i, &index)| ((i as f64 + 0.5) / n, index)));
    }
    places.sort_by(|a, b| a.0.total_cmp(&b.0));
    places.into_iter().map(|(_, index)| index).collect()
}

impl Mixer {
    /// Recipients that wait to be taken.
    pub fn queued(&self) -> u64 {
        self.queued
    }

    /// Whether more chunks of this job should be in hand, as long as there are any.
    pub fn is_low(&self) -> bool {
        self.runway < LOOKAHEAD || self.short
    }

    /// Whether recipients of a domain are in hand or wait, as far as that is known.
    pub fn holds(&self, domain: DomainKey) -> bool {
        self.by_domain.contains_key(&domain) || self.lanes.contains_key(&Some(domain))
    }

    /// What is in hand suffices for so little that domains would soon exceed their bounds.
    pub fn is_dry(&self) -> bool {
        self.runway < DRY
    }

    /// Puts the recipients of a chunk into their lanes.
    pub fn add(&mut self, handle: u32, lanes: Lanes) {
        for (key, indices) in lanes.into_iter().filter(|(_, indices)| !indices.is_empty()) {
            let lane = self.lanes.entry(key).or_default();
            if lane.queued == 0 {
                lane.turn = lane.turn.max(self.now);
                self.turns.push(Reverse((lane.turn, key)));
            }
            let n = indices.len() as u64;
            lane.queued += n;
            self.aside += if lane.parked { n } else { 0 };
            lane.stock.push_back((handle, indices.into()));
            self.queued += n;
            self.in_lanes += n;
        }
        self.replan();
    }

    /// What waits in the spool, by domain.
    pub fn set_waiting(&mut self, waiting: Waiting) {
        self.by_domain = waiting.domains.iter().map(|d| (d.domain, d.recipients)).collect();
        self.waiting = waiting;
        self.replan();
    }

    /// The next transaction's recipients, at most `max` of one chunk.
    pub fn take(&mut self, max: usize) -> Option<(u32, Vec<u16>)> {
        self.take_where(max, |_| None).map(|(handle, indices, _)| (handle, indices))
    }

    /// Takes all out that waits, by chunk.
    pub fn drain(&mut self) -> Vec<(u32, Vec<u16>)> {
        let mut all: FxHashMap<u32, Vec<u16>> = FxHashMap::default();
        let lanes = std::mem::take(&mut self.lanes);
        let stocks = lanes.into_values().flat_map(|lane| lane.stock).chain(std::mem::take(&mut self.again));
        for (handle, indices) in stocks {
            all.entry(handle).or_default().extend(indices);
        }
        self.turns.clear();
        self.parked.clear();
        (self.queued, self.in_lanes, self.aside) = (0, 0, 0);
        let mut all: Vec<_> = all.into_iter().collect();
        all.iter_mut().for_each(|(_, indices)| indices.sort_unstable());
        all.sort_unstable();
        all
    }

    fn take_where(
        &mut self,
        max: usize,
        mut until: impl FnMut(DomainKey) -> Option<Moment>,
    ) -> Option<(u32, Vec<u16>, Option<DomainKey>)> {
        if let Some((handle, indices)) = self.again.front_mut() {
            let taken = (*handle, indices.drain(..max.min(indices.len())).collect::<Vec<_>>());
            if indices.is_empty() {
                self.again.pop_front();
            }
            self.queued -= taken.1.len() as u64;
            return Some((taken.0, taken.1, None));
        }
        if self.replan_in == 0 {
            self.replan();
        }
        let (turn, key) = loop {
            let Reverse((turn, key)) = self.turns.pop()?;
            let Some(until) = key.and_then(&mut until) else { break (turn, key) };
            let Some((lane, key)) = self.lanes.get_mut(&key).zip(key) else {
                panic!("a turn without a lane")
            };
            lane.parked = true;
            self.aside += lane.queued;
            self.parked.push((until, key));
        };
        let Some(lane) = self.lanes.get_mut(&key) else { panic!("a turn without a lane") };
        let Some((handle, indices)) = lane.stock.front_mut() else { panic!("a turn of an empty lane") };
        let taken = (*handle, indices.drain(..max.min(indices.len())).collect::<Vec<_>>());
        if indices.is_empty() {
            lane.stock.pop_front();
        }
        let n = taken.1.len() as u64;
        self.now = turn;
        self.replan_in = self.replan_in.saturating_sub(n);
        lane.turn = turn + (n as f64 * TURN / lane.weight) as u64;
        lane.queued -= n;
        self.queued -= n;
        self.in_lanes -= n;
        if lane.queued > 0 {
            self.turns.push(Reverse((lane.turn, key)));
        } else {
            // those that are left share its turns only as far as their bounds allow
            self.replan_in = self.replan_in.min(REPLAN_EMPTIED);
        }
        Some((taken.0, taken.1, key))
    }

    /// Recipients go out again, before all others.
    pub fn put_back(&mut self, handle: u32, indices: &[u16]) {
        self.queued += indices.len() as u64;
        self.again.push_back((handle, indices.iter().copied().collect()));
    }

    /// Forgets what is left of a chunk.
    pub fn remove(&mut self, handle: u32) {
        let len =
            |stock: &VecDeque<(u32, VecDeque<u16>)>| stock.iter().map(|s| s.1.len() as u64).sum::<u64>();
        self.again.retain(|(h, _)| *h != handle);
        for lane in self.lanes.values_mut() {
            lane.stock.retain(|(h, _)| *h != handle);
            lane.queued = len(&lane.stock);
        }
        self.in_lanes = self.lanes.values().map(|l| l.queued).sum();
        self.queued = self.in_lanes + len(&self.again);
        let lanes = &mut self.lanes;
        self.turns.retain(|Reverse((_, key))| lanes.get(key).is_some_and(|l| l.queued > 0));
        self.parked.retain(|(_, key)| match lanes.get_mut(&Some(*key)) {
            Some(lane) if lane.queued > 0 => true,
            Some(lane) => {
                lane.parked = false;
                false
            }
            None => false,
        });
        self.aside = self.lanes.values().filter(|l| l.parked).map(|l| l.queued).sum();
        self.replan();
    }

    /// The class of which a chunk should come next, and whether that is needed for the sake of mixing;
    /// `None` when nothing waits.
    pub fn want(&self) -> Option<(DomainKey, bool)> {
        let shares = self.shares();
        let queued_of = |domain| self.lanes.get(&Some(domain)).map_or(0, |l| l.queued);
        let told_apart: u64 = self.waiting.domains.iter().map(|c| queued_of(c.domain)).sum();
        let mut short = false;
        let mut best: Option<(f64, u64, DomainKey)> = None;
        for class in self.waiting.domains.iter().filter(|c| c.chunks > 0) {
            let queued = match class.domain {
                DomainKey::OTHER => self.in_lanes - told_apart,
                domain => queued_of(domain),
            };
            let share = shares.of(class.recipients, queued);
            // beyond that, more of it would only lie there
            let room = (share + MARGIN) * LOOKAHEAD - queued as f64;
            short |= is_short(share, queued);
            if best.is_none_or(|b| (room, class.recipients) > (b.0, b.1)) {
                best = Some((room, class.recipients, class.domain));
            }
        }
        let (room, _, class) = best?;
        Some((class, short || (self.runway < LOOKAHEAD && (room > 0.0 || (self.queued as f64) < LOOKAHEAD))))
    }

    fn shares(&self) -> Shares {
        let in_hand = self.in_lanes.max(1) as f64;
        let all = (self.waiting.recipients + self.in_lanes).max(1) as f64;
        Shares { all, unknown: self.waiting.unknown as f64 / in_hand }
    }

    /// Weights, and how long they can be kept: the longest `t` with `Σ min(queued, bound · t) = t`.
    fn replan(&mut self) {
        self.replan_in = REPLAN_RECIPIENTS;
        self.short = false;
        self.lanes.retain(|_, lane| lane.queued > 0);
        let shares = self.shares();
        // what waits for a rate is as good as not there, as long as there is something else to claim
        let set_aside = self.aside > 0 && self.others_wait();
        let counts = |lane: &Lane| !(set_aside && lane.parked);
        let mut bounded: Vec<(f64, f64)> = Vec::with_capacity(self.lanes.len());
        for (key, lane) in &mut self.lanes {
            lane.share = match key {
                None => 0.0,
                Some(domain) => {
                    let waiting = self.by_domain.get(domain).copied().unwrap_or(0);
                    shares.of(waiting, lane.queued)
                }
            };
            lane.bound = if key.is_some() { lane.share + MARGIN } else { 1.0 };
            if let Some(domain) = key {
                self.short |= self.by_domain.contains_key(domain) && is_short(lane.share, lane.queued);
                if counts(lane) {
                    bounded.push((lane.bound, lane.queued as f64));
                }
            }
        }
        let at_hand = self.in_lanes - if set_aside { self.aside } else { 0 };
        self.runway = runway(at_hand as f64, &bounded);
        // one that has less in hand than its share goes as if it had that: more of it is to come; and
        // small ones go a little faster, so that chunks end. With nothing to come, all end together
        let head_start = HEAD_START * self.waiting.recipients as f64 / shares.all;
        let in_lanes = self.in_lanes as f64;
        let wish = |lane: &Lane| (lane.queued as f64).max(lane.share * in_lanes) + head_start;
        let all: f64 = self.lanes.values().filter(|l| counts(l)).map(wish).sum();
        bounded.clear();
        let lanes = self.lanes.iter().filter(|l| l.0.is_some() && counts(l.1));
        bounded.extend(lanes.map(|(_, l)| (l.bound, wish(l))));
        let pace = runway(all, &bounded).max(1.0);
        for lane in self.lanes.values_mut() {
            lane.weight = (wish(lane) / pace).min(lane.bound).max(WEIGHT_MIN);
        }
    }
}

/// What shares are of.
struct Shares {
    all: f64,
    /// Recipients of unknown domains for each one in hand.
    unknown: f64,
}

impl Shares {
    /// A domain's share of what is due: in the spool, and in hand; and of what nothing is known of, as
    /// much as of what is in hand.
    fn of(&self, waiting: u64, queued: u64) -> f64 {
        (waiting as f64 + queued as f64 * (1.0 + self.unknown)) / self.all
    }
}

/// Whether a domain that matters has too little in hand.
fn is_short(share: f64, queued: u64) -> bool {
    share >= MAJOR && (queued as f64) < share * LOOKAHEAD / 2.0
}

/// A turn of one recipient at weight 1.
const TURN: f64 = 1_000_000.0;
const WEIGHT_MIN: f64 = 1e-6;
/// Recipients until new weights once a lane is empty.
const REPLAN_EMPTIED: u64 = 8;

/// For how many of `all` recipients lanes of (bound, queued) suffice; the rest lane has no bound.
fn runway(all: f64, bounded: &[(f64, f64)]) -> f64 {
    let mut t = all;
    loop {
        // lanes that would have some left after `t` give only what their bound lets them
        let (mut held, mut bound) = (0.0, 0.0);
        for &(b, queued) in bounded.iter().filter(|(b, queued)| *queued > b * t) {
            held += queued;
            bound += b;
        }
        if bound >= 1.0 {
            return t;
        }
        let next = (all - held) / (1.0 - bound);
        if next >= t - 0.5 {
            return t.max(0.0);
        }
        t = next;
    }
}

mod parked;
#[cfg(test)]
mod tests;
