use std::collections::BTreeSet;

use serde_json::json;

use super::super::page::ASSETS;
use super::super::server::{EVENTS_PATH, OPENAPI, OPENAPI_PATH};
use super::*;
use crate::spool::Outcome;

fn document() -> Value {
    serde_json::from_str(OPENAPI).expect("openapi.json is JSON")
}

/// What a `$ref` of the document leads to; anything else is itself.
fn resolved<'a>(document: &'a Value, at: &'a Value) -> &'a Value {
    let Some(reference) = at["$ref"].as_str() else { return at };
    let pointer = reference.strip_prefix('#').expect("within the document");
    document.pointer(pointer).unwrap_or_else(|| panic!("{reference} leads nowhere"))
}

/// Every operation, as method, path and description.
fn operations(document: &Value) -> Vec<(String, String, Value)> {
    let mut all = Vec::new();
    for (path, item) in document["paths"].as_object().expect("paths") {
        for (method, operation) in item.as_object().expect("operations") {
            all.push((method.to_ascii_uppercase(), path.clone(), operation.clone()));
        }
    }
    all
}

#[test]
fn the_document_describes_every_route_and_nothing_else() {
    let document = document();
    let described: BTreeSet<(String, String)> =
        operations(&document).into_iter().map(|(method, path, _)| (method, path)).collect();
    let mut routed: BTreeSet<(String, String)> =
        CALLS.iter().map(|call| (call.method.to_owned(), call.path.to_owned())).collect();
    assert_eq!(routed.len(), CALLS.len(), "a call is there twice");
    routed.insert(("GET".to_owned(), EVENTS_PATH.to_owned()));
    assert_eq!(described, routed);
    let paths: BTreeSet<&str> = ASSETS.iter().map(|asset| asset.path).collect();
    assert_eq!(paths.len(), ASSETS.len(), "a file of the page is there twice");
    assert!(paths.iter().all(|path| *path == "/" || path.starts_with("/assets/")), "{paths:?}");
}

#[test]
fn bodies_and_parameters_are_described_as_they_are_taken() {
    let document = document();
    for (method, path, operation) in operations(&document) {
        if path == EVENTS_PATH {
            continue;
        }
        let call = CALLS.iter().find(|call| call.method == method && call.path == path).expect("a route");
        let body = &operation["requestBody"]["content"]["application/json"]["schema"];
        let none = Map::new();
        let properties = resolved(&document, body)["properties"].as_object().unwrap_or(&none);
        let described: BTreeSet<&str> = properties.keys().map(String::as_str).collect();
        let taken: BTreeSet<&str> = call.fields.iter().map(|field| field.name).collect();
        assert_eq!(described, taken, "{method} {path}");
        let required = |name: &str| {
            body["required"].as_array().is_some_and(|names| names.iter().any(|given| given == name))
        };
        for field in call.fields {
            assert_eq!(required(field.name), field.required, "{method} {path} {}", field.name);
        }
        let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
        let named: BTreeSet<String> = parameters
            .iter()
            .map(|parameter| resolved(&document, parameter)["name"].as_str().expect("a name").to_owned())
            .collect();
        let in_path: BTreeSet<String> = path
            .split('/')
            .filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
            .map(str::to_owned)
            .collect();
        assert_eq!(named, in_path, "{method} {path}");
    }
}

#[test]
fn the_document_is_whole() {
    fn walk(document: &Value, at: &Value, seen: &mut BTreeSet<String>) {
        if let Some(reference) = at["$ref"].as_str() {
            resolved(document, at);
            seen.insert(reference.trim_start_matches("#/components/").to_owned());
        }
        let parts: Vec<&Value> = match at {
            Value::Object(object) => object.values().collect(),
            Value::Array(array) => array.iter().collect(),
            _ => Vec::new(),
        };
        parts.into_iter().for_each(|part| walk(document, part, seen));
    }
    let document = document();
    assert_eq!(document["openapi"], "3.1.0");
    let mut seen = BTreeSet::new();
    walk(&document, &document, &mut seen);
    for kind in ["schemas", "responses", "parameters"] {
        for name in document["components"][kind].as_object().expect("components").keys() {
            assert!(seen.contains(&format!("{kind}/{name}")), "nothing uses {kind}/{name}");
        }
    }
    let all = operations(&document);
    let ids: BTreeSet<&str> = all.iter().filter_map(|(.., o)| o["operationId"].as_str()).collect();
    assert_eq!(ids.len(), all.len(), "each operation has an id of its own");
    for (method, path, operation) in &all {
        let responses = operation["responses"].as_object().expect("responses");
        assert!(responses.contains_key("200") && responses.contains_key("401"), "{method} {path}");
        assert!(operation.get("security").is_none(), "{method} {path}: each call needs the token");
    }
    assert_eq!(document["security"], json!([{ "token": [] }]));
    let counts = &document["components"]["schemas"]["Job"]["properties"]["counts"]["properties"];
    let order = counts["by_outcome"]["description"].as_str().expect("the order of outcomes");
    let names: Vec<&str> = Outcome::ALL.iter().map(|outcome| outcome.as_str()).collect();
    assert_eq!(order, format!("In this order: {}.", names.join(", ")));
    assert!(!CALLS.iter().any(|call| call.path == OPENAPI_PATH));
}

/// What a path's parameters may be called.
fn named(call: &Call) -> Vec<(String, String)> {
    let parameter = |part: &str| {
        let name = part.strip_prefix('{')?.strip_suffix('}')?;
        Some((name.to_owned(), if name == "domain" { "d.example".to_owned() } else { "x".to_owned() }))
    };
    call.path.split('/').filter_map(parameter).collect()
}

/// A value that each field takes.
fn sample(field: &str) -> Value {
    match field {
        "reason" => json!("because"),
        "accept_refusals" => json!(true),
        "messages_per_second" => json!(2.5),
        "windows" => json!(["08:00-20:00 UTC"]),
        "connections" => json!("auto"),
        "address" => json!("127.0.0.1:2525"),
        "weight" | "queue_target" => json!(7),
        other => panic!("no sample of {other}"),
    }
}

#[test]
fn every_call_is_a_request_of_the_control_socket() {
    for call in CALLS {
        let all: Map<String, Value> =
            call.fields.iter().map(|field| (field.name.to_owned(), sample(field.name))).collect();
        let asked = request_of(call, named(call).into_iter(), all.clone())
            .unwrap_or_else(|e| panic!("{} {}: {e}", call.method, call.path));
        let line = serde_json::to_value(&asked).expect("plain data");
        assert_eq!(line["do"], call.request);
        // all that was said is in it
        let said = named(call).into_iter().map(|(name, value)| (name, json!(value))).chain(all);
        for (name, value) in said {
            assert_eq!(line[&name], value, "{} {}", call.method, call.path);
        }
    }
}

#[test]
fn what_a_call_does_not_take_is_refused_by_name() {
    for call in CALLS {
        for foreign in ["do", "job", "mta", "domain", "force"] {
            let mut body: Map<String, Value> =
                call.fields.iter().map(|field| (field.name.to_owned(), sample(field.name))).collect();
            body.insert(foreign.to_owned(), json!("y"));
            let error = request_of(call, named(call).into_iter(), body).expect_err(call.path);
            assert!(error.contains(foreign), "{error}");
        }
        for field in call.fields.iter().filter(|field| field.required) {
            let error = request_of(call, named(call).into_iter(), Map::new()).expect_err(call.path);
            assert!(error.contains(field.name) && error.contains("missing"), "{error}");
        }
    }
}

#[test]
fn only_the_connections_and_resume_of_all_are_without_a_name() {
    // a request whose name is optional on the socket would mean all of them
    for call in CALLS.iter().filter(|call| call.path.contains("{mta}")) {
        let all = call.fields.iter().map(|field| (field.name.to_owned(), sample(field.name))).collect();
        let asked = request_of(call, named(call).into_iter(), all).expect(call.path);
        assert_eq!(serde_json::to_value(&asked).expect("plain data")["mta"], "x", "{}", call.path);
    }
}
