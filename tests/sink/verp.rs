//! XVERP (Postfix's VERP_README): a sender of its own for each recipient.

use infeed::sink::{Extension, Settings};

use crate::client::{Client, Rig};

async fn senders(mail: &str, recipients: &[&str]) -> Vec<String> {
    let rig = Rig::new();
    let mut c = Client::ehlo(rig.addr()).await;
    assert_eq!(c.code(mail).await, 250);
    for recipient in recipients {
        assert_eq!(c.code(&format!("RCPT TO:<{recipient}>")).await, 250);
    }
    assert_eq!(c.code("DATA").await, 354);
    assert_eq!(c.code(".").await, 250);
    // the next transaction has none of it
    assert!(c.deliver("last@example.org").await.starts_with("250 "));
    let lines = rig.ledger();
    assert_eq!(lines.len(), recipients.len() + 1);
    for (line, recipient) in lines.iter().zip(recipients) {
        assert_eq!(line["recipient"], *recipient);
        assert!(line["mail_parameters"].get("XVERP").is_some());
    }
    let last = &lines[recipients.len()];
    assert_eq!((&last["sender"], last.get("mail_parameters")), (&"a@example.org".into(), None));
    lines[..recipients.len()].iter().map(|l| l["sender"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn each_recipient_has_the_sender_that_the_mta_would_make() {
    let recipients = ["user@b.example", "x+y=z@c.example"];
    assert_eq!(
        senders("MAIL FROM:<list@a.example> XVERP", &recipients).await,
        ["list+user=b.example@a.example", "list+x+y=z=c.example@a.example"]
    );
    assert_eq!(
        senders("MAIL FROM:<list-7@a.example> SIZE=10 XVERP=-=", &recipients).await,
        ["list-7-user=b.example@a.example", "list-7-x+y=z=c.example@a.example"]
    );
}

#[tokio::test]
async fn a_null_sender_or_odd_delimiters_are_refused() {
    let rig = Rig::new();
    let mut c = Client::ehlo(rig.addr()).await;
    assert!(c.ask("MAIL FROM:<> XVERP").await.starts_with("503 5.5.4 "));
    for odd in ["XVERP=", "XVERP=+", "XVERP=/=", "XVERP=+==", "XVERP XVERP"] {
        assert!(c.ask(&format!("MAIL FROM:<a@example.org> {odd}")).await.starts_with("501 5.5.4 "), "{odd}");
    }
    assert_eq!(c.code("MAIL FROM:<a@example.org> XVERP").await, 250);
}

#[tokio::test]
async fn without_xverp_it_is_refused() {
    let rig = Rig::with(Settings { without: Some(vec![Extension::Xverp]), ..Default::default() });
    let mut c = Client::ehlo(rig.addr()).await;
    assert_eq!(c.code("MAIL FROM:<a@example.org> XVERP=+=").await, 555);
}
