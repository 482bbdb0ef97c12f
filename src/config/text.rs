//! What a string must look like to be an address, a host's name, or the name of an MTA. Nothing is looked up.

/// The longest name of an MTA, in octets: it stands in every report, and in status lines.
pub(super) const MTA_NAME_LEN_MAX: usize = 64;

/// The word that stands for the built-in MTA wherever an MTA is chosen.
const SINK: &str = "sink";

/// What `sockaddr_un` has room for on Linux, less its NUL; longer paths fail at the first connect.
const SOCKET_PATH_OCTETS_MAX: usize = 107;

pub(super) fn is_mta_name(text: &str) -> bool {
    text.len() <= MTA_NAME_LEN_MAX
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
        && text != SINK
}

pub(super) fn is_mta_address(text: &str) -> bool {
    match text.strip_prefix("unix:") {
        Some(path) => {
            path.starts_with('/')
                && (2..=SOCKET_PATH_OCTETS_MAX).contains(&path.len())
                && !path.contains(char::is_control)
        }
        None => is_host_port(text),
    }
}

/// The word that stands for no address to listen on, for instance to set aside the configuration file's.
pub const NO_LISTENER: &str = "none";

/// Where to listen: port 0 is a free one.
pub(super) fn is_listen_address(text: &str) -> bool {
    text == NO_LISTENER
        || is_host_port(text)
        || text.strip_suffix(":0").is_some_and(|host| is_host_port(&format!("{host}:1")))
}

/// Names of hosts with commas between them.
pub(super) fn is_host_names(text: &str) -> bool {
    text.split(',').all(|name| is_domain_name(name.trim()))
}

/// An http or https URL that events are posted to. A name or password in it would end up in logs and listings.
pub(super) fn is_web_url(text: &str) -> bool {
    let Ok(url) = text.parse::<hyper::Uri>() else { return false };
    let authority = url.authority().map_or("", |authority| authority.as_str());
    matches!(url.scheme_str(), Some("http" | "https"))
        && url.host().is_some_and(|host| !host.is_empty())
        && !authority.contains('@')
        && (url.port().is_none() || url.port_u16().is_some_and(|port| port > 0))
        && !text.contains('#')
}

fn is_host_port(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else { return false };
    let host_is_good = match host.strip_prefix('[') {
        Some(literal) => literal.strip_suffix(']').is_some_and(|ip| ip.parse::<std::net::Ipv6Addr>().is_ok()),
        None => is_domain_name(host),
    };
    host_is_good && port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|p| p > 0)
}

pub(super) fn is_helo_name(text: &str) -> bool {
    match text.strip_prefix('[') {
        Some(literal) => literal.strip_suffix(']').is_some_and(|ip| {
            let v6 = ip.strip_prefix("IPv6:").map(|v6| v6.parse::<std::net::Ipv6Addr>().is_ok());
            v6.unwrap_or_else(|| ip.parse::<std::net::Ipv4Addr>().is_ok())
        }),
        None => is_domain_name(text),
    }
}

/// RFC 5321 §4.1.2 with underscores let through: hosts with them exist.
fn is_domain_name(text: &str) -> bool {
    text.len() <= 255
        && text.split('.').all(|label| {
            !label.is_empty()
                && label.len() <= 63
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        })
}
