//! The document of the API is made here, from what stands at the handlers, and kept as a file of the program.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::{Modify, OpenApi, openapi};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::super::routes::{DOCUMENT, FOR_APPS, FOR_STRANGERS, FOR_TECHNICIANS, Routes, document_for_apps};
use super::super::{App, acts, apps, batch, changes, hub, people, receipts, records};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Outpost gateway",
        description = "Local API of an Outpost gateway: records in and out with no internet. An answer of success means that \
                       the record is on disk. Errors are RFC 9457 problem documents. On the gateway itself no token is \
                       needed; over the clinic's network an app sends the one that pairing gave it."
    ),
    modifiers(&Bearer),
    security((), ("token" = []))
)]
struct Document;

struct Bearer;

impl Modify for Bearer {
    fn modify(&self, document: &mut openapi::OpenApi) {
        let bearer = SecurityScheme::Http(HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build());
        document.components.get_or_insert_default().add_security_scheme("token", bearer);
    }
}

/// What stands at the handlers.
fn made() -> Value {
    let router: OpenApiRouter<App> = OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(records::put, records::patch, records::get, records::delete))
        .routes(routes!(records::post, records::list))
        .routes(routes!(records::history))
        .routes(routes!(batch::batch))
        .routes(routes!(changes::changes))
        .routes(routes!(receipts::receipts))
        .routes(routes!(people::conflicts))
        .routes(routes!(people::settle))
        .routes(routes!(people::parked, people::decide))
        .routes(routes!(super::super::status))
        .routes(routes!(super::super::healthz))
        .routes(routes!(hub::sync_now))
        .routes(routes!(hub::enroll))
        .routes(routes!(apps::list))
        .routes(routes!(apps::revoke))
        .routes(routes!(apps::invite))
        .routes(routes!(apps::pair))
        .routes(routes!(acts::list));
    serde_json::to_value(router.split_for_parts().1).unwrap()
}

/// A line for each path and schema, so that a change of one is seen as one.
fn in_lines(document: &Value) -> String {
    let object = |value: &Value, inside: &dyn Fn(&str, &Value) -> String| {
        let members = value.as_object().unwrap().iter();
        let members: Vec<String> = members.map(|(name, value)| format!("\"{name}\":{}", inside(name, value))).collect();
        format!("{{\n{}\n}}", members.join(",\n"))
    };
    let plain = |_: &str, value: &Value| value.to_string();
    let of_components = |_: &str, value: &Value| object(value, &plain);
    let whole = object(document, &|name, value| match name {
        "paths" => object(value, &plain),
        "components" => object(value, &of_components),
        _ => value.to_string(),
    });
    whole + "\n"
}

#[test]
fn the_document_in_the_program_is_what_stands_at_the_handlers() {
    let made = in_lines(&made());
    if std::env::var_os("GOLDEN_WRITE").is_some() {
        std::fs::write(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/api/openapi.json"), &made).unwrap();
        return;
    }
    assert!(
        DOCUMENT == made,
        "agent/src/api/openapi.json is an older one; make it anew with GOLDEN_WRITE=1 and this test"
    );
}

fn told(document: &Value) -> BTreeSet<(String, String)> {
    let paths = document["paths"].as_object().unwrap();
    let methods = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    paths.iter().flat_map(|(path, value)| methods(value).into_iter().map(|method| (path.clone(), method))).collect()
}

fn listed(routes: &[Routes]) -> BTreeSet<(String, String)> {
    routes.iter().flat_map(|some| some.listed).map(|(path, method)| (path.to_string(), method.to_string())).collect()
}

#[test]
fn the_document_has_every_path_and_method_that_is_answered() {
    let document: Value = serde_json::from_str(DOCUMENT).unwrap();
    assert_eq!(told(&document), listed(&[FOR_APPS, FOR_TECHNICIANS, FOR_STRANGERS]));
    let for_apps: Value = serde_json::from_str(&document_for_apps()).unwrap();
    assert_eq!(told(&for_apps), listed(&[FOR_APPS, FOR_STRANGERS]));
    assert_eq!(for_apps["components"], document["components"]);
}

#[test]
fn every_parameter_is_where_it_says_and_every_operation_has_a_name_of_its_own() {
    let document = made();
    let mut names = BTreeSet::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            assert!(names.insert(operation["operationId"].to_string()), "{method} {path}");
            for parameter in operation["parameters"].as_array().into_iter().flatten() {
                let name = parameter["name"].as_str().unwrap();
                assert_eq!(parameter["in"] == "path", path.contains(&format!("{{{name}}}")), "{method} {path}: {name}");
            }
        }
    }
}
