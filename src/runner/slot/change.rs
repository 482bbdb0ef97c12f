//! Settings of MTAs that change while the run goes on: of one, as somebody at the desk wants it, or of all, as
//! the configuration has them now.

use super::{By, Slot, Slots};
use crate::config::Connections;
use crate::logs;
use crate::pressure::per_second::PerSecond;
use crate::runner::command::MtaChange;
use crate::runner::mtas::MtaConfig;
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
            successor.set_connections(slot.steering.asked(), slot.steering.by());
            let old = std::mem::replace(slot, successor);
            self.succeed(vec![old]);
        }
        self.supply.lock().weights_changed();
        self.supply.mta_rates_changed();
        1
    }

    /// Goes on with these MTAs: what has not changed is left at work, the rest finishes what it has in
    /// flight while its successor begins. What somebody at the desk had changed is as the configuration has it.
    pub fn reload(&mut self, configs: Vec<MtaConfig>) {
        let mut old: Vec<Slot> = std::mem::take(&mut self.all);
        tell_changes(&old, &configs);
        for config in configs {
            let rate = config.messages_per_second;
            let is_same =
                |slot: &Slot| MtaConfig { messages_per_second: rate, ..slot.config.clone() } == config;
            match old.iter().position(is_same) {
                Some(at) => {
                    let mut slot = old.swap_remove(at);
                    slot.mta.set_rate(rate);
                    slot.config.messages_per_second = rate;
                    slot.set_connections(config.connections, By::Configuration);
                    self.all.push(slot);
                }
                None => self.all.push(Slot::new(&config)),
            }
        }
        self.succeed(old);
        self.resume(None);
    }
}

/// Logs each setting that is another one now than it was at work.
fn tell_changes(old: &[Slot], configs: &[MtaConfig]) {
    for config in configs {
        let mta = config.name.as_str();
        match old.iter().find(|slot| slot.config.name == config.name) {
            Some(slot) => {
                for change in changes(&slot.config, slot.steering.asked(), config) {
                    tracing::info!(target: logs::STATE, mta, "MTA {mta}: {change}");
                }
            }
            None => tracing::info!(target: logs::STATE, mta, "MTA {mta} is new: {}", config.infeed.address),
        }
    }
    for slot in old.iter().filter(|slot| configs.iter().all(|config| config.name != slot.config.name)) {
        let mta = slot.config.name.as_str();
        tracing::info!(target: logs::STATE, mta, "MTA {mta} is taken out");
    }
}

/// What a reload changes of an MTA, a setting each: `connections = 7 -> auto`. Those that nobody turns at the
/// desk are told of in one.
fn changes(old: &MtaConfig, asked: Connections, new: &MtaConfig) -> Vec<String> {
    let rate = |rate: Option<PerSecond>| rate.map_or("no limit".to_owned(), |rate| rate.to_string());
    let settings = [
        ("address", old.infeed.address.clone(), new.infeed.address.clone()),
        ("weight", old.weight.to_string(), new.weight.to_string()),
        ("connections", asked.to_string(), new.connections.to_string()),
        ("messages_per_second", rate(old.messages_per_second), rate(new.messages_per_second)),
        ("queue_target", old.queue.target.to_string(), new.queue.target.to_string()),
    ];
    let mut changes: Vec<String> = settings
        .into_iter()
        .filter(|(_, old, new)| old != new)
        .map(|(name, old, new)| format!("{name} = {old} -> {new}"))
        .collect();
    // all else: without what was told above, and what follows from it
    let mut rest = MtaConfig {
        weight: new.weight,
        connections: new.connections,
        messages_per_second: new.messages_per_second,
        ..old.clone()
    };
    (rest.queue.target, rest.queue.address) = (new.queue.target, new.queue.address.clone());
    rest.infeed.address.clone_from(&new.infeed.address);
    rest.infeed.connections = new.infeed.connections;
    if rest != *new {
        changes.push("other settings of it are new".to_owned());
    }
    changes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::infeed::InfeedConfig;

    #[test]
    fn a_reload_names_each_setting_that_it_changed_with_what_it_was() {
        let old = MtaConfig {
            connections: Connections::Auto,
            messages_per_second: PerSecond::new(50.0),
            ..MtaConfig::new("main", InfeedConfig::default())
        };
        assert_eq!(changes(&old, Connections::Auto, &old), Vec::<String>::new());
        assert_eq!(changes(&old, Connections::Fixed(7), &old), ["connections = 7 -> auto"]);
        let mut new = MtaConfig { weight: 2, messages_per_second: None, ..old.clone() };
        new.infeed.address = "127.0.0.1:2526".to_owned();
        (new.queue.address, new.queue.target) = (new.infeed.address.clone(), 100);
        assert_eq!(
            changes(&old, Connections::Auto, &new),
            [
                format!("address = {} -> 127.0.0.1:2526", old.infeed.address).as_str(),
                "weight = 1 -> 2",
                "messages_per_second = 50 -> no limit",
                "queue_target = 0 -> 100",
            ]
        );
        let mut new = old.clone();
        new.infeed.chunking = !old.infeed.chunking;
        assert_eq!(changes(&old, Connections::Auto, &new), ["other settings of it are new"]);
    }
}
