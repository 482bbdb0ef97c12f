//! MTAs on Unix-domain sockets.

use infeed::infeed::{MtaState, Pool};

use super::server::{HELLO, Server, TWO_GROUPED};
use super::tls::one;
use super::work::{List, config, drain, message};

#[tokio::test]
async fn a_unix_domain_socket_is_spoken_to_like_a_port() {
    let dir = tempfile::tempdir().unwrap();
    let script: &[&[&str]] = &[HELLO, TWO_GROUPED, &["C: QUIT", "S: 221 bye", "eof"]];
    let server = Server::unix(&dir.path().join("mta"), None, &[script]);
    let list = drain(config(&server.address), List::new([message(&[1]), message(&[2])])).await;
    server.played().await;
    assert_eq!(list.words(), ["accepted -", "accepted -"]);
}

#[tokio::test]
async fn a_socket_that_is_not_there_is_an_mta_that_is_down() {
    let dir = tempfile::tempdir().unwrap();
    let address = format!("unix:{}", dir.path().join("mta").display());
    let pool = Pool::start(config(&address), one());
    let mut changed = pool.changed();
    let down =
        changed.wait_for(|status| matches!(status.state, MtaState::Down { .. })).await.unwrap().clone();
    assert!(down.last_error.unwrap().contains(&address));
}
