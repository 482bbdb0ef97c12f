//! Settings of one MTA that change while the run goes on, as somebody at the desk wants it.

use super::{Slot, Slots};
use crate::logs;
use crate::runner::command::MtaChange;
use crate::spool::Owner;

impl<O: Owner> Slots<O> {
    /// Gives one MTA other settings, at work where that can be; gives how many MTAs it is. A number of
    /// connections that was set by hand stays.
    pub fn change(&mut self, name: &str, change: &MtaChange) -> usize {
        let Some(at) = self.all.iter().position(|slot| slot.mta.name == name) else { return 0 };
        let slot = &mut self.all[at];
        tracing::info!(target: logs::STATE, mta = name, "MTA {name}: {change}");
        if let Some(rate) = change.messages_per_second {
            slot.mta.set_rate(rate);
            slot.config.messages_per_second = rate;
        }
        if let Some(weight) = change.weight {
            slot.mta.set_weight(weight);
            slot.config.weight = weight;
        }
        if let Some(target) = change.queue_target {
            slot.config.queue.target = target;
            slot.steering.set_queue_target(target);
        }
        if let Some(address) = change.address.as_ref().filter(|new| **new != slot.config.infeed.address) {
            slot.config.infeed.address.clone_from(address);
            slot.config.queue.address.clone_from(address);
            let mut successor = Slot::new(&slot.config);
            successor.set_connections(slot.steering.asked());
            let old = std::mem::replace(slot, successor);
            self.succeed(vec![old]);
        }
        self.supply.lock().weights_changed();
        self.supply.mta_rates_changed();
        1
    }
}
