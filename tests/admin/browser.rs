//! What a browser can be made to send by a page of somebody else's, and what it is told of our answers.

use serde_json::json;

use super::client::{Answer, Api};
use crate::common::daemon::SHARED;
use crate::common::desk::Desk;

/// Headers that every answer has.
fn is_guarded(answer: &Answer) {
    let policy = answer.header("content-security-policy").unwrap_or_else(|| panic!("{answer:?}"));
    for part in ["default-src 'none'", "script-src 'self'", "frame-ancestors 'none'", "base-uri 'none'"] {
        assert!(policy.contains(part), "{policy}");
    }
    assert!(!policy.contains("unsafe"), "{policy}");
    for (name, value) in [
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "no-referrer"),
        ("x-frame-options", "DENY"),
    ] {
        assert_eq!(answer.header(name), Some(value), "{answer:?}");
    }
    let open = |name: &str| name.starts_with("access-control-") || name == "set-cookie";
    assert!(!answer.headers.iter().any(|(name, _)| open(name)), "{answer:?}");
}

#[test]
fn a_page_of_another_origin_or_name_gets_nothing_with_the_token_and_without() {
    let desk = Desk::new();
    let api = Api::start(&desk, &["--mta", "127.0.0.1:1"]);
    let job = desk.submit_list("job", 5, SHARED, &[]);
    let (port, bearer) = (api.port, format!("Authorization: Bearer {}\r\n", api.token));
    let json_type = "Content-Type: application/json\r\n";
    let cases: Vec<(u16, String)> = [
        // another page calls
        (403, "Origin: http://evil.example\r\n".to_owned()),
        (403, "Origin: null\r\n".to_owned()),
        (403, format!("Origin: http://127.0.0.1:{port}\r\n")),
        (403, format!("Origin: http://localhost:{}\r\n", port - 1)),
        (403, format!("Origin: http://localhost:{port}\r\nOrigin: http://evil.example\r\n")),
        (403, "Sec-Fetch-Site: cross-site\r\n".to_owned()),
        (403, "Sec-Fetch-Site: same-site\r\n".to_owned()),
        (403, "Sec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: navigate\r\n".to_owned()),
        // a name of somebody else's that leads here
        (421, "Host: evil.example\r\n".to_owned()),
        (421, format!("Host: evil.example:{port}\r\nOrigin: http://evil.example:{port}\r\n")),
        (421, format!("Host: localhost.evil.example:{port}\r\n")),
        (421, format!("Host: 192.0.2.1:{port}\r\n")),
        (400, "Host: localhost\r\nHost: evil.example\r\n".to_owned()),
        (400, "Host: \r\n".to_owned()),
    ]
    .into();
    let body = json!({ "reason": "they did" }).to_string();
    for (status, headers) in &cases {
        for token in [&bearer, ""] {
            let headers = format!("{token}{json_type}{headers}");
            let answer = api.send("POST", "/api/v1/pause", &headers, Some(&body));
            assert_eq!(answer.status, *status, "{headers}: {answer:?}");
            is_guarded(&answer);
            let answer = api.send("GET", "/api/v1/status", &headers, None);
            assert_eq!(answer.status, *status, "{headers}: {answer:?}");
            assert!(!answer.body.contains("backlog"), "{answer:?}");
        }
    }
    // a rebound name doesn't read the page or the description either
    for path in ["/", "/api/v1/openapi.json"] {
        assert_eq!(api.send("GET", path, "Host: evil.example\r\n", None).status, 421);
        is_guarded(&api.get(path));
    }
    // what a form can send
    for media_type in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "text/json"]
    {
        let headers = format!("{bearer}Content-Type: {media_type}\r\n");
        assert_eq!(api.send("POST", "/api/v1/pause", &headers, Some(&body)).status, 415, "{media_type}");
        assert_eq!(api.send("POST", "/api/v1/pause", &headers, None).status, 415, "{media_type}");
    }
    assert_eq!(api.send("POST", "/api/v1/pause", &bearer, Some(&body)).status, 415, "a body of no type");
    // a preflight leads nowhere
    let preflight = "Origin: http://evil.example\r\nAccess-Control-Request-Method: POST\r\n\
                     Access-Control-Request-Headers: authorization\r\n";
    let answer = api.send("OPTIONS", "/api/v1/pause", preflight, None);
    assert_eq!(answer.status, 403);
    is_guarded(&answer);
    assert_eq!(desk.status()["standstill"], serde_json::Value::Null, "nothing was done");
    assert_eq!(desk.show(&job)["state"], "active");

    // our own page may, and so may what is no browser
    let own =
        format!("{bearer}{json_type}Origin: http://localhost:{port}\r\nSec-Fetch-Site: same-origin\r\n");
    let answer = api.send("POST", "/api/v1/pause", &own, Some(&body));
    assert_eq!(answer.status, 200, "{answer:?}");
    is_guarded(&answer);
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    for host in ["127.0.0.1", "[::1]", "LocalHost", "localhost."] {
        assert_eq!(
            api.send("GET", "/api/v1/status", &format!("{bearer}Host: {host}:{port}\r\n"), None).status,
            200
        );
    }
    // a link from elsewhere leads to the page
    let link = "Sec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: document\r\n";
    assert_eq!(api.send("GET", "/", link, None).status, 200);
    api.daemon.stop();
}

#[test]
fn names_that_are_set_are_ours_too() {
    let desk = Desk::new();
    let api =
        Api::start(&desk, &["--mta", "127.0.0.1:1", "--set", "admin.hosts=Mon.example.org, two.example"]);
    let with = |host: &str, more: &str| {
        let headers = format!("Authorization: Bearer {}\r\nHost: {host}\r\n{more}", api.token);
        api.send("GET", "/api/v1/status", &headers, None).status
    };
    // behind a proxy that has TLS
    assert_eq!(with("mon.example.org", "Origin: https://mon.example.org\r\n"), 200);
    assert_eq!(with("two.example:8443", "Origin: https://two.example:8443\r\n"), 200);
    assert_eq!(with("mon.example.org", "Origin: https://two.example\r\n"), 403);
    assert_eq!(with("example.org", ""), 421);
    let run = desk.infeed(&["serve", "--set", "admin.hosts=http://x"]).run().expect_code(64);
    assert!(run.stderr.contains("admin.hosts"), "{}", run.stderr);
    api.daemon.stop();
}

#[test]
fn the_page_and_the_description_are_there_without_a_token_and_nothing_else_is() {
    let desk = Desk::new();
    let api = Api::start(&desk, &["--mta", "127.0.0.1:1"]);
    let page = api.send("GET", "/", "", None);
    assert_eq!((page.status, page.header("content-type")), (200, Some("text/html; charset=utf-8")));
    is_guarded(&page);
    let described = api.send("GET", "/api/v1/openapi.json", "", None);
    assert_eq!((described.status, described.header("content-type")), (200, Some("application/json")));
    let paths = described.json()["paths"].as_object().expect("paths").clone();
    assert!(paths.len() > 15);
    for (path, item) in paths {
        for method in item.as_object().expect("operations").keys() {
            let path = path.replace(['{', '}'], "");
            let answer = api.send(&method.to_ascii_uppercase(), &path, "", None);
            assert_eq!(answer.status, 401, "{method} {path}: {answer:?}");
            assert_eq!(answer.header("www-authenticate"), Some("Bearer realm=\"infeed\""));
            is_guarded(&answer);
        }
    }
    // paths that lead out of the table lead nowhere
    for path in [
        "/..",
        "/../../etc/passwd",
        "/assets/../../../../etc/passwd",
        "/assets/..%2f..%2f..%2fetc%2fpasswd",
        "/assets/%2e%2e/%2e%2e/etc/passwd",
        "/assets/..%252f..%252fetc%252fpasswd",
        "/assets/..\\..\\etc\\passwd",
        "/assets/%5c..%5c..%5cetc%5cpasswd",
        "/assets/",
        "/assets/%00",
        "//etc/passwd",
        "/admin.token",
        "/assets/admin.token",
        "/index.html/../admin.token",
        "/%2fapi/v1/status",
        "/%61pi/v1/status",
        "//api/v1/status",
        "/API/v1/status",
        "/./api/v1/status",
        "/x/../api/v1/status",
    ] {
        let answer = api.send("GET", path, "", None);
        assert!(matches!(answer.status, 400 | 404), "{path}: {answer:?}");
        assert!(!answer.body.contains("root:") && !answer.body.contains(&api.token), "{path}");
    }
    for path in
        ["/api", "/api/", "/api/v1", "/api/v1/jobs/../status", "/api/v1/openapi.json/", "/api/v1/status%00"]
    {
        assert_eq!(api.send("GET", path, "", None).status, 401, "{path}");
        assert_eq!(api.get(path).status, 404, "{path}");
    }
    api.daemon.stop();
}
