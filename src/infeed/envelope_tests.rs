use std::sync::{Arc, Mutex};

use bytes::Bytes;

use super::*;
use crate::infeed::transaction::{Dsn, NoRecord, Rcpt, Settlement};
use crate::message::Content;

/// Keeps what is settled; never has work.
#[derive(Default)]
struct Ledger(Mutex<Vec<Settlement>>);

impl Work for Ledger {
    fn try_next(&self, _: &Capabilities) -> Option<Transaction> {
        None
    }
    async fn next(&self, _: &Capabilities) -> Option<Transaction> {
        None
    }
    async fn hand_out(&self, _: &[&Transaction]) -> Result<(), NoRecord> {
        Ok(())
    }
    fn settle(&self, settlement: Settlement) {
        self.0.lock().unwrap().push(settlement);
    }
}

fn transaction(addresses: &[&str]) -> Transaction {
    let recipients =
        addresses.iter().zip(0..).map(|(a, token)| Rcpt { token, address: (*a).to_owned() }).collect();
    let wire = Bytes::from_static(b"hi\r\n");
    let content = Content { wire, size_octets: 4, eight_bit: false, utf8_headers: false };
    Transaction {
        sender: "s@x.example".into(),
        xverp: None,
        recipients,
        content,
        dsn: None,
        shared_content: false,
    }
}

fn all() -> Capabilities {
    Capabilities {
        pipelining: true,
        eight_bit_mime: true,
        smtputf8: true,
        dsn: true,
        enhanced_status_codes: true,
        size: Some(1_000),
        chunking: true,
        xverp: true,
        recipients_max: usize::MAX,
    }
}

/// The commands, and the settlement of what was not sent at all.
fn encoded(transaction: Transaction, capabilities: &Capabilities) -> (Vec<String>, Settlement) {
    let ledger = Arc::new(Ledger::default());
    let mut lent = Lent::new(ledger.clone(), transaction);
    let mut out = Commands::default();
    let any = encode(&mut lent, capabilities, capabilities.recipients_max, &mut out, Ending::Data);
    assert_eq!(any, !out.ends.is_empty());
    let mut start = 0;
    let mut lines = Vec::new();
    for &end in &out.ends {
        lines.push(String::from_utf8(out.octets[start..end].to_vec()).unwrap());
        start = end;
    }
    lent.settle();
    let settlement = ledger.0.lock().unwrap().pop().unwrap();
    (lines, settlement)
}

fn refusal(result: &RcptResult) -> &Said {
    let RcptResult::Refused { said, .. } = result else { panic!("{result:?}") };
    said
}

#[test]
fn parameters_are_declared_when_offered_and_needed() {
    let mut t = transaction(&["a@x.example"]);
    t.content.eight_bit = true;
    t.dsn =
        Some(Dsn { ret: Some("HDRS".into()), envid: Some("job+2B1".into()), notify: Some("NEVER".into()) });
    let (lines, _) = encoded(t.clone(), &all());
    assert_eq!(
        lines,
        [
            "MAIL FROM:<s@x.example> SIZE=4 BODY=8BITMIME RET=HDRS ENVID=job+2B1\r\n",
            "RCPT TO:<a@x.example> NOTIFY=NEVER ORCPT=rfc822;a@x.example\r\n",
            "DATA\r\n"
        ]
    );
    t.content.eight_bit = false;
    let (lines, _) = encoded(t, &Capabilities { recipients_max: 9, ..Capabilities::default() });
    assert_eq!(lines, ["MAIL FROM:<s@x.example>\r\n", "RCPT TO:<a@x.example>\r\n", "DATA\r\n"]);
}

#[test]
fn orcpt_is_xtext() {
    let mut t = transaction(&["a+b=c@x.example"]);
    t.dsn = Some(Dsn::default());
    let (lines, _) = encoded(t, &all());
    assert_eq!(lines[1], "RCPT TO:<a+b=c@x.example> ORCPT=rfc822;a+2Bb+3Dc@x.example\r\n");
}

#[test]
fn an_idn_goes_as_a_labels_and_a_utf8_local_part_only_where_offered() {
    let t = || transaction(&["bob@b\u{fc}cher.example", "j\u{f6}rg@x.example"]);
    let (lines, _) = encoded(t(), &all());
    assert!(lines[0].ends_with(" SMTPUTF8\r\n"), "{lines:?}");
    assert_eq!(lines[1], "RCPT TO:<bob@xn--bcher-kva.example>\r\n");
    assert_eq!(lines[2], "RCPT TO:<j\u{f6}rg@x.example>\r\n");
    let (lines, settled) = encoded(t(), &Capabilities { smtputf8: false, ..all() });
    assert_eq!(lines[0], "MAIL FROM:<s@x.example> SIZE=4\r\n");
    assert_eq!(lines.len(), 3);
    let said = refusal(&settled.results[1]);
    assert!(said.code == 553 && said.text.starts_with("5.6.7 "), "{said:?}");
}

#[test]
fn nothing_in_an_address_can_become_a_command_or_a_parameter() {
    let hostile = [
        "a@x\r\nRCPT TO:<b@y>",
        "a@x\nDATA",
        "a@x\0",
        "a@x> NOTIFY=NEVER",
        "a b@x",
        "a@x<",
        "\"open@x",
        "",
        "\u{85}@x",
    ];
    let (lines, settled) = encoded(transaction(&hostile), &all());
    assert!(lines.is_empty(), "{lines:?}");
    for (address, result) in hostile.iter().zip(&settled.results) {
        assert_eq!(refusal(result).code, 553, "{address:?}");
    }
    let (lines, _) = encoded(transaction(&["\"a <b> c\"@x.example"]), &all());
    assert_eq!(lines[1], "RCPT TO:<\"a <b> c\"@x.example>\r\n");
    let mut t = transaction(&["a@x.example"]);
    t.sender = "a@x\r\nDATA".into();
    let (lines, settled) = encoded(t, &all());
    assert!(lines.is_empty() && settled.job_fault.is_some());
    assert_eq!(settled.results, [RcptResult::NotTried]);
}

#[test]
fn content_that_the_mta_can_not_take_is_the_jobs_fault() {
    let mut t = transaction(&["a@x.example"]);
    t.content.eight_bit = true;
    let (lines, settled) = encoded(t, &Capabilities { eight_bit_mime: false, ..all() });
    assert!(lines.is_empty());
    assert!(settled.job_fault.unwrap().said.text.contains("8BITMIME"));
    assert_eq!(settled.results, [RcptResult::NotTried]);
    let mut t = transaction(&["a@x.example"]);
    t.content.utf8_headers = true;
    assert!(encoded(t, &Capabilities { smtputf8: false, ..all() }).1.job_fault.is_some());
}

#[test]
fn over_size_is_the_jobs_fault_when_shared_and_one_recipients_when_merged() {
    let mut t = transaction(&["a@x.example"]);
    t.content.size_octets = 1_001;
    let (_, settled) = encoded(t.clone(), &all());
    assert_eq!(refusal(&settled.results[0]).code, 552);
    assert_eq!(settled.job_fault, None);
    t.shared_content = true;
    let (_, settled) = encoded(t.clone(), &all());
    assert_eq!((settled.results, settled.job_fault.unwrap().said.code), (vec![RcptResult::NotTried], 552));
    // SIZE 0: no bound was declared.
    assert_eq!(encoded(t, &Capabilities { size: Some(0), ..all() }).0.len(), 3);
}

#[test]
fn what_is_lent_beyond_the_limit_is_not_tried() {
    let (lines, settled) =
        encoded(transaction(&["a@x", "b@x", "c@x"]), &Capabilities { recipients_max: 2, ..all() });
    assert_eq!(lines.len(), 4);
    assert_eq!(settled.results.len(), 3);
}

#[test]
fn xverp_is_asked_for_where_it_is_offered_and_else_nothing_is_sent() {
    let mut t = transaction(&["a@x.example", "b@y.example"]);
    t.xverp = Some(*b"+=");
    let (lines, _) = encoded(t.clone(), &all());
    assert_eq!(lines[0], "MAIL FROM:<s@x.example> SIZE=4 XVERP=+=\r\n");
    // Without it every bounce would go to the bare sender.
    let (lines, settled) = encoded(t, &Capabilities { xverp: false, ..all() });
    assert!(lines.is_empty());
    assert_eq!(settled.results, [RcptResult::NotTried, RcptResult::NotTried]);
    assert_eq!(settled.job_fault, None);
}

#[test]
fn bdat_announces_the_octets_of_the_last_chunk() {
    let mut lent = Lent::new(Arc::new(Ledger::default()), transaction(&["a@x.example"]));
    let mut out = Commands::default();
    assert!(encode(&mut lent, &all(), 9, &mut out, Ending::Bdat { octets: 4096 }));
    assert!(out.octets.ends_with(b"RCPT TO:<a@x.example>\r\nBDAT 4096 LAST\r\n"));
    assert_eq!(lent.rcpts_sent, 1);
}
