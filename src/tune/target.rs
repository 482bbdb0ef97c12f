//! Whether an MTA is on this host. A sweep is thousands of messages: nothing else is taken without a word.

use std::net::{IpAddr, SocketAddr};

use super::error::TuneError;

/// Where an MTA is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// What to connect to: the address that was checked, so that a name can't lead elsewhere later.
    pub address: String,
    /// The host as it was given, where it was a name.
    pub host: Option<String>,
    pub is_loopback: bool,
}

/// Looks `address` (as `mta.address`) up.
///
/// # Errors
/// [`TuneError::Lookup`]; [`TuneError::NotLoopback`] unless `elsewhere_too`.
pub async fn place(address: &str, elsewhere_too: bool) -> Result<Place, TuneError> {
    if address.starts_with("unix:") {
        return Ok(Place { address: address.to_owned(), host: None, is_loopback: true });
    }
    let failed = |source| TuneError::Lookup { address: address.to_owned(), source };
    let found: Vec<SocketAddr> = tokio::net::lookup_host(address).await.map_err(failed)?.collect();
    place_of(address, &found, elsewhere_too)
}

/// The same, where the name led to `found`. One address elsewhere is enough to refuse it: which of them is
/// connected to is the resolver's choice.
fn place_of(address: &str, found: &[SocketAddr], elsewhere_too: bool) -> Result<Place, TuneError> {
    let Some(first) = found.first() else {
        let source = std::io::Error::new(std::io::ErrorKind::NotFound, "the name has no address");
        return Err(TuneError::Lookup { address: address.to_owned(), source });
    };
    let elsewhere: Vec<String> =
        found.iter().filter(|at| !is_loopback(at.ip())).map(|at| at.ip().to_string()).collect();
    if !elsewhere.is_empty() && !elsewhere_too {
        let found = elsewhere.join(", ");
        return Err(TuneError::NotLoopback { address: address.to_owned(), found });
    }
    let host = address.rsplit_once(':').map(|(host, _)| host.to_owned());
    Ok(Place {
        // one of them, so that all steps measure the same MTA
        address: first.to_string(),
        host: host.filter(|host| host.trim_matches(['[', ']']).parse::<IpAddr>().is_err()),
        is_loopback: elsewhere.is_empty(),
    })
}

fn is_loopback(ip: IpAddr) -> bool {
    ip.to_canonical().is_loopback()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> SocketAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn a_name_is_local_only_if_all_that_it_leads_to_is() {
        let local = [at("127.0.0.1:25"), at("[::1]:25"), at("[::ffff:127.0.0.2]:25")];
        let place = place_of("localhost:25", &local, false).expect("local");
        assert_eq!((place.address.as_str(), place.host.as_deref()), ("127.0.0.1:25", Some("localhost")));
        assert!(place.is_loopback);
        for elsewhere in ["10.0.0.1:25", "0.0.0.0:25", "[::]:25", "[2001:db8::1]:25", "[::ffff:10.0.0.1]:25"]
        {
            let mixed = [at("127.0.0.1:25"), at(elsewhere)];
            let error = place_of("mail.example.org:25", &mixed, false).expect_err(elsewhere).to_string();
            assert!(error.contains("--not-loopback") && error.contains("mail.example.org"), "{error}");
            assert!(!place_of("mail.example.org:25", &mixed, true).expect("asked for").is_loopback);
        }
    }

    #[test]
    fn a_name_without_an_address_is_an_error_of_the_lookup() {
        let error = place_of("nowhere.invalid:25", &[], true).expect_err("none").to_string();
        assert!(error.contains("nowhere.invalid:25"), "{error}");
    }

    #[tokio::test]
    async fn a_unix_socket_is_local() {
        assert!(place("unix:/run/smtp", false).await.expect("local").is_loopback);
    }
}
