//! The sink through real TCP: a plain client that writes octets and reads replies.

#[path = "sink/client.rs"]
mod client;
#[path = "common/port.rs"]
mod port;

#[path = "sink/chunking.rs"]
mod chunking;
#[path = "sink/command.rs"]
mod command;
#[path = "sink/content.rs"]
mod content;
#[path = "sink/dialogue.rs"]
mod dialogue;
#[path = "sink/misbehaviour.rs"]
mod misbehaviour;
#[path = "sink/scenarios.rs"]
mod scenarios;
#[path = "sink/verp.rs"]
mod verp;
