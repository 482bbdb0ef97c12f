//! By whose name we are called, and by whose page: what a browser says of itself, held against who we are.
//!
//! A page of another origin can make a browser call us, and by a name that leads here (DNS rebinding) even read the
//! answer. The names that we go by are known: so both are refused. Pure; errors: [`Stranger`].

use std::net::{IpAddr, SocketAddr};

use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderName, Method, Uri, header};

/// Why a request is refused before anybody asks what it wants.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Stranger {
    #[error("one Host header is needed, and the same name in the request line")]
    Host,
    #[error(
        "this is not {0}: call it by localhost, by this host's address, or by a name that admin.hosts has"
    )]
    OtherHost(String),
    #[error("a page of another origin ({0}) may not call this")]
    OtherOrigin(String),
    #[error("a page of another site may not call this")]
    OtherSite,
}

/// Whether the names in the request are ours: `Host` (RFC 9112 §3.2), and the request line's where it has one.
/// `local` is our own address on this connection; `hosts` are in lower case.
///
/// # Errors
/// [`Stranger::Host`], [`Stranger::OtherHost`].
pub fn check_host(
    uri: &Uri,
    headers: &HeaderMap,
    local: SocketAddr,
    hosts: &[String],
) -> Result<Authority, Stranger> {
    let mut all = headers.get_all(header::HOST).iter();
    let (Some(host), None) = (all.next(), all.next()) else { return Err(Stranger::Host) };
    let host: Authority = host.to_str().ok().and_then(|host| host.parse().ok()).ok_or(Stranger::Host)?;
    if host.as_str().contains('@') || uri.authority().is_some_and(|other| *other != host) {
        return Err(Stranger::Host);
    }
    let name = host.host().trim_start_matches('[').trim_end_matches(']');
    let is_ours = match name.parse::<IpAddr>() {
        Ok(ip) => {
            let ip = ip.to_canonical();
            ip.is_loopback() || ip == local.ip().to_canonical()
        }
        Err(_) => {
            let name = name.to_ascii_lowercase();
            let name = name.strip_suffix('.').unwrap_or(&name);
            name == "localhost" || hosts.iter().any(|host| host == name)
        }
    };
    if is_ours { Ok(host) } else { Err(Stranger::OtherHost(host.to_string())) }
}

/// Whether the page that calls, if one does, is ours. To follow a link to a page of ours (`is_page`) is free to all.
///
/// # Errors
/// [`Stranger::OtherOrigin`], [`Stranger::OtherSite`].
pub fn check_origin(
    method: &Method,
    headers: &HeaderMap,
    host: &Authority,
    is_tls: bool,
    is_page: bool,
) -> Result<(), Stranger> {
    for origin in headers.get_all(header::ORIGIN) {
        let said = String::from_utf8_lossy(origin.as_bytes()).into_owned();
        if !is_own_origin(&said, host, is_tls) {
            return Err(Stranger::OtherOrigin(said));
        }
    }
    let word = |name: &'static str| headers.get(HeaderName::from_static(name)).map(|word| word.as_bytes());
    let follows_link =
        is_page && *method == Method::GET && matches!(word("sec-fetch-mode"), Some(b"navigate"));
    match word("sec-fetch-site") {
        None | Some(b"same-origin" | b"none") => Ok(()),
        Some(_) if follows_link => Ok(()),
        Some(_) => Err(Stranger::OtherSite),
    }
}

/// `https` counts where we speak plain HTTP, too: a proxy of the same name may stand before us.
fn is_own_origin(origin: &str, host: &Authority, is_tls: bool) -> bool {
    let (Some(given), port) = (match origin.split_once("://") {
        Some(("https", rest)) => (rest.parse::<Authority>().ok(), 443),
        Some(("http", rest)) if !is_tls => (rest.parse::<Authority>().ok(), 80),
        _ => return false,
    }) else {
        return false;
    };
    let is_plain = !given.as_str().contains('@');
    let port_of = |authority: &Authority| authority.port_u16().unwrap_or(port);
    is_plain && given.host().eq_ignore_ascii_case(host.host()) && port_of(&given) == port_of(host)
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &str)| {
            (HeaderName::from_static(name), HeaderValue::from_str(value).expect("a value"))
        };
        pairs.iter().map(pair).collect()
    }

    fn host(name: &str, uri: &str) -> Result<Authority, Stranger> {
        let (local, hosts) = ("192.0.2.7:9926".parse().expect("an address"), ["mail.example".to_owned()]);
        check_host(&uri.parse().expect("a URI"), &headers(&[("host", name)]), local, &hosts)
    }

    #[test]
    fn we_go_by_loopback_our_own_address_and_the_names_that_are_set() {
        for ours in [
            "localhost",
            "localhost:9926",
            "LOCALHOST.:1",
            "127.0.0.1:9926",
            "127.9.9.9",
            "[::1]:9926",
            "[::ffff:127.0.0.1]",
            "192.0.2.7",
            "mail.example:443",
            "Mail.Example",
        ] {
            assert!(host(ours, "/").is_ok(), "{ours}");
        }
        for other in [
            "evil.example",
            "localhost.evil.example",
            "mail.example.evil.example",
            "evil.mail.example",
            "192.0.2.8",
            "0.0.0.0:9926",
            "2130706433.example",
            "169.254.1.1",
        ] {
            assert!(matches!(host(other, "/"), Err(Stranger::OtherHost(_))), "{other}");
        }
        for none in ["", "a b", "localhost@evil.example", "user@localhost", "http://localhost"] {
            assert_eq!(host(none, "/"), Err(Stranger::Host), "{none:?}");
        }
        let uri = Uri::from_static("/");
        let local = "127.0.0.1:1".parse().expect("an address");
        for many in [headers(&[]), headers(&[("host", "localhost"), ("host", "localhost")])] {
            assert_eq!(check_host(&uri, &many, local, &[]), Err(Stranger::Host));
        }
    }

    #[test]
    fn a_request_line_with_another_name_is_refused() {
        assert!(host("localhost:9926", "http://localhost:9926/").is_ok());
        assert_eq!(host("localhost:9926", "http://evil.example/"), Err(Stranger::Host));
    }

    #[test]
    fn only_a_page_of_our_own_origin_calls() {
        let call = |name: &'static str, value: &str, is_tls: bool| {
            let host = Authority::from_static("localhost:9926");
            check_origin(&Method::POST, &headers(&[(name, value)]), &host, is_tls, false)
        };
        assert_eq!(call("origin", "http://localhost:9926", false), Ok(()));
        assert_eq!(call("origin", "https://localhost:9926", false), Ok(()));
        assert_eq!(call("origin", "https://localhost:9926", true), Ok(()));
        for other in [
            "null",
            "",
            "http://localhost",
            "http://localhost:9927",
            "http://127.0.0.1:9926",
            "http://evil.example:9926",
            "http://localhost:9926.evil.example",
            "http://localhost:9926@evil.example",
            "http://evil@localhost:9926",
            "file://localhost:9926",
            "localhost:9926",
        ] {
            assert!(matches!(call("origin", other, false), Err(Stranger::OtherOrigin(_))), "{other}");
        }
        assert!(call("origin", "http://localhost:9926", true).is_err(), "the plain page of a TLS port");
        for site in ["same-origin", "none"] {
            assert_eq!(call("sec-fetch-site", site, false), Ok(()));
        }
        for site in ["cross-site", "same-site", "", "SAME-ORIGIN"] {
            assert_eq!(call("sec-fetch-site", site, false), Err(Stranger::OtherSite), "{site}");
        }
        // a default port is the same, said or not
        let host = Authority::from_static("mail.example");
        let own = headers(&[("origin", "https://mail.example:443")]);
        assert_eq!(check_origin(&Method::POST, &own, &host, true, false), Ok(()));
    }

    #[test]
    fn a_link_leads_to_the_page_from_anywhere_and_to_the_api_from_nowhere() {
        let host = Authority::from_static("localhost");
        let link = headers(&[("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate")]);
        assert_eq!(check_origin(&Method::GET, &link, &host, false, true), Ok(()));
        assert_eq!(check_origin(&Method::POST, &link, &host, false, true), Err(Stranger::OtherSite));
        assert_eq!(check_origin(&Method::GET, &link, &host, false, false), Err(Stranger::OtherSite));
        let fetch = headers(&[("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "no-cors")]);
        assert_eq!(check_origin(&Method::GET, &fetch, &host, false, true), Err(Stranger::OtherSite));
    }
}
