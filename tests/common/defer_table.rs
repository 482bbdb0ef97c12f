//! A socket map (the protocol that Postfix and sendmail share, `socketmap_table(5)`) that makes a real MTA
//! defer `wait-451-Nx…@` the first N times, and then take it, as greylisting does.

use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

/// Octets of a request, at most: a name and an address.
const REQUEST_OCTETS_MAX: usize = 4096;

/// Listens on a free port of 127.0.0.1 until dropped.
#[derive(Debug)]
pub struct DeferTable {
    address: SocketAddr,
    ended: Arc<AtomicBool>,
}

type Seen = Arc<Mutex<HashMap<String, u32>>>;

impl DeferTable {
    /// Starts to listen.
    ///
    /// # Panics
    /// When no port can be had.
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("its address");
        let ended = Arc::new(AtomicBool::new(false));
        let (seen, is_over) = (Seen::default(), Arc::clone(&ended));
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if is_over.load(Ordering::Acquire) {
                    return;
                }
                let seen = Arc::clone(&seen);
                // an MTA's process that ends breaks off; the MTA tries again
                std::thread::spawn(move || answer(stream, &seen).is_ok());
            }
        });
        DeferTable { address, ended }
    }

    /// The line of main.cf that asks this table.
    pub fn postfix(&self) -> String {
        let table = format!("socketmap:inet:{}:defer", self.address);
        format!("smtpd_relay_restrictions = check_recipient_access {table}, permit_mynetworks, reject")
    }

    /// The lines of sendmail's m4 configuration that ask this table. They come before the recipe's own rules
    /// of the same rule set, and leave what isn't deferred as it is.
    pub fn sendmail(&self) -> [String; 5] {
        [
            "LOCAL_CONFIG".to_owned(),
            format!("Kwait socket -a@WAIT inet:{}@{}", self.address.port(), self.address.ip()),
            "LOCAL_RULESETS".to_owned(),
            "SLocal_check_rcpt\nR$*\t$: $(wait $1 $)".to_owned(),
            "R$*@WAIT\t$#error $@ 4.2.0 $: \"451 deferred for now, as its name asks\"".to_owned(),
        ]
    }
}

impl Drop for DeferTable {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Release);
        // the listening thread wakes up at a connection
        if let Err(error) = TcpStream::connect(self.address) {
            eprintln!("the table has ended already: {error}");
        }
    }
}

/// Requests and replies are netstrings: `name key`; `OK value` or `NOTFOUND `.
fn answer(stream: TcpStream, seen: &Mutex<HashMap<String, u32>>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut output = stream.try_clone()?;
    let mut input = BufReader::new(stream);
    while let Some(request) = read_netstring(&mut input)? {
        let key = request.split_once(' ').map_or("", |(_, key)| key);
        let reply = if is_deferred(key, seen) { "OK 451 4.2.0 deferred for now" } else { "NOTFOUND " };
        output.write_all(format!("{}:{reply},", reply.len()).as_bytes())?;
    }
    Ok(())
}

fn read_netstring(input: &mut impl BufRead) -> io::Result<Option<String>> {
    let mut length = Vec::new();
    if input.read_until(b':', &mut length)? == 0 {
        return Ok(None);
    }
    let digits = String::from_utf8_lossy(&length);
    let length: usize = digits.trim_end_matches(':').parse().map_err(io::Error::other)?;
    if length > REQUEST_OCTETS_MAX {
        return Err(io::Error::other(format!("a request of {length} octets")));
    }
    // with the comma behind it
    let mut octets = vec![0; length + 1];
    input.read_exact(&mut octets)?;
    octets.pop();
    String::from_utf8(octets).map(Some).map_err(io::Error::other)
}

/// Whether this look at the address is among its first N.
fn is_deferred(key: &str, seen: &Mutex<HashMap<String, u32>>) -> bool {
    let address = key.trim_matches(['<', '>']);
    let Some((local, domain)) = address.split_once('@') else { return false };
    let times: Option<u32> =
        local.strip_prefix("wait-451-").and_then(|rest| rest.split_once('x')?.0.parse().ok());
    let Some(times) = times.filter(|_| !domain.is_empty()) else { return false };
    let mut seen = seen.lock().expect("no thread panics with it");
    let count = seen.entry(address.to_owned()).or_default();
    *count += 1;
    *count <= times
}
