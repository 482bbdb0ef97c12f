//! VERP in transactions of many: where an MTA offers XVERP, it makes each recipient's own sender of one
//! for all.
//!
//! Guarantee: a recipient has the sender that it would have alone. Whoever's the MTA would make otherwise
//! (see [`Xverp::suits`](crate::message::Xverp::suits)) is alone in its transaction, with its own sender.
//! Which MTA takes a recipient is known only when it is picked, and so is what that MTA offers.

use super::hand::Hand;
use super::limits::Limits;
use super::supply::JobRun;

impl JobRun {
    /// Several recipients may share a transaction at an MTA that makes their senders itself.
    pub fn leaves_senders_to_mta(&self) -> bool {
        self.template.is_shared() && self.template.xverp().is_some() && self.meta.test_to.is_none()
    }

    /// Of recipients just taken, leaves those who may share a transaction, or the first alone; the others
    /// wait again, before all others.
    pub fn part_with_odd_ones(
        &mut self,
        handle: u32,
        hand: &mut Hand,
        indices: &mut Vec<u16>,
        limits: &Limits,
    ) {
        let Some(xverp) = self.template.xverp() else { panic!("chunk {handle} is of a job without XVERP") };
        let chunk = hand.chunk.clone();
        // what can't be read is put aside when its message is made
        let suits = |index: u16| {
            chunk.recipient(usize::from(index)).is_ok_and(|recipient| xverp.suits(recipient.address))
        };
        let others = part(indices, suits);
        if !others.is_empty() {
            hand.untaken(&others);
            self.put_back(handle, &chunk, &others, limits);
        }
    }
}

/// Takes out of `indices` whoever must not go with the first; an odd first one goes alone.
fn part(indices: &mut Vec<u16>, suits: impl Fn(u16) -> bool) -> Vec<u16> {
    match indices.first() {
        Some(&first) if indices.len() > 1 && suits(first) => {
            indices.extract_if(1.., |index| !suits(*index)).collect()
        }
        Some(_) => indices.split_off(1),
        None => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn whoever_is_odd_goes_alone_and_nobody_is_lost(odd in prop::collection::vec(any::<bool>(), 0..60)) {
            let all: Vec<u16> = (0..odd.len() as u16).collect();
            let suits = |index: u16| !odd[usize::from(index)];
            let mut stay = all.clone();
            let mut others = part(&mut stay, suits);
            prop_assert!(stay.len() == 1 || stay.iter().all(|&index| suits(index)));
            prop_assert!(stay.first() == all.first());
            prop_assert!(stay.len() > 1 || others.iter().all(|&index| !suits(index)) || !suits(0));
            others.extend(stay);
            others.sort_unstable();
            prop_assert_eq!(others, all);
        }
    }
}
