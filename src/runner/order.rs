//! The order in which a chunk's recipients go out: pure.
//!
//! A list is often sorted by domain. Neighbours in one transaction may share a domain (the MTA likes
//! that), but transactions that follow one another mix domains in the proportion that they have in the
//! chunk, so that the MTA's active queue never fills with one destination.

use std::collections::HashMap;

/// Recipients by index, cut into pieces: what one transaction takes at most.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Order {
    pub indices: Vec<u16>,
    /// Lengths of the pieces; they sum to `indices.len()`.
    pub pieces: Vec<u16>,
}

/// Orders recipients given as (index, domain) and cuts them into pieces of at most `piece_max`.
pub fn mix<'a>(recipients: impl Iterator<Item = (u16, &'a str)>, piece_max: usize) -> Order {
    assert!(piece_max > 0, "a transaction of no recipients");
    let mut domains: Vec<Vec<u16>> = Vec::new();
    let mut place: HashMap<String, usize> = HashMap::new();
    for (index, domain) in recipients {
        let domain = domain.to_ascii_lowercase();
        let at = *place.entry(domain).or_insert_with(|| {
            domains.push(Vec::new());
            domains.len() - 1
        });
        domains[at].push(index);
    }
    // whole pieces of one domain, and what is left over of all domains together
    let mut pieces: Vec<(f64, Vec<u16>)> = Vec::new();
    let mut rest: Vec<(f64, u16)> = Vec::new();
    for members in &domains {
        let whole = members.len() / piece_max;
        for (i, piece) in members.chunks_exact(piece_max).enumerate() {
            pieces.push(((i as f64 + 0.5) / whole as f64, piece.to_vec()));
        }
        let left = &members[whole * piece_max..];
        for (i, &index) in left.iter().enumerate() {
            // one domain's left-overs stay together where there are enough of them to share a piece
            let spread = if piece_max > 1 { 0.0 } else { i as f64 };
            rest.push((spread, index));
        }
    }
    let rest: Vec<u16> = rest.into_iter().map(|(_, index)| index).collect();
    let n = rest.len().div_ceil(piece_max);
    for (i, piece) in rest.chunks(piece_max).enumerate() {
        pieces.push(((i as f64 + 0.5) / n as f64, piece.to_vec()));
    }
    pieces.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut order = Order::default();
    for (_, piece) in pieces {
        order.pieces.push(piece.len() as u16);
        order.indices.extend(piece);
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn everybody_is_in_exactly_one_piece_and_no_piece_is_too_large(
            domains in proptest::collection::vec(0u8..6, 0..300),
            piece_max in 1usize..60,
        ) {
            let names: Vec<String> = domains.iter().map(|d| format!("d{d}.example")).collect();
            let order = mix(names.iter().enumerate().map(|(i, d)| (i as u16, d.as_str())), piece_max);
            let mut all = order.indices.clone();
            all.sort_unstable();
            prop_assert_eq!(all, (0..domains.len() as u16).collect::<Vec<_>>());
            prop_assert_eq!(order.pieces.iter().map(|&p| usize::from(p)).sum::<usize>(), domains.len());
            prop_assert!(order.pieces.iter().all(|&p| p > 0 && usize::from(p) <= piece_max));
        }
    }

    #[test]
    fn a_list_sorted_by_domain_goes_out_mixed() {
        let domain = |i: u16| if i < 600 { "big.example" } else { "small.example" };
        let order = mix((0..1000).map(|i| (i, domain(i))), 1);
        for window in order.indices.windows(100) {
            let big = window.iter().filter(|&&i| i < 600).count();
            assert!((57..=63).contains(&big), "{big} of 100 to one domain");
        }
    }

    #[test]
    fn a_transaction_of_many_keeps_to_one_domain_where_it_can() {
        let order = mix((0..1000).map(|i| (i, if i % 2 == 0 { "a.example" } else { "b.example" })), 50);
        assert_eq!(order.pieces.len(), 20);
        for piece in order.indices.chunks(50) {
            assert!(piece.iter().all(|i| i % 2 == piece[0] % 2));
        }
    }
}
