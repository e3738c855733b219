//! Getting in: passwords, codes, cookies, and what strangers try.

use std::io::{Read, Write};
use std::net::TcpStream;

use serde_json::{Value as Json, json};

use super::World;
use super::people::{Browser, OWN_PAGE, PASSWORD, boss};
use crate::account::{AccountName, Role};
use crate::clock::now_ms;
use crate::error::HubError;
use crate::staff;
use crate::store::Tx;
use crate::totp;
use crate::{Config, Tls};

/// Makes the hub believe that its sessions were opened and used so long ago.
fn age(world: &World, began_ms: i64, seen_ms: i64) {
    let path = world.dir.path().join("hub.db");
    let aged = rusqlite::Connection::open(path).unwrap();
    let sql = "UPDATE sessions SET began_ms = began_ms - ?1, seen_ms = seen_ms - ?2";
    assert!(aged.execute(sql, [began_ms, seen_ms]).unwrap() > 0);
}

const MINUTE_MS: i64 = 60_000;

#[tokio::test]
async fn a_person_sets_a_password_by_a_code_logs_in_sees_the_page_and_leaves() {
    let world = World::start().await;
    let code = world.account("asha", Role::Viewer, &["mw/zomba"]).await;
    let form = world.ask("GET", "/login", &[], b"").await;
    let html = String::from_utf8(form.body).unwrap();
    assert!(html.contains("<form method=post action=/login>") && !html.contains("<script"), "{html}");
    assert!(form.head.contains("content-security-policy: default-src 'none'"));

    let fields = [("name", "asha"), ("present", code.as_str()), ("code", ""), ("new", PASSWORD)];
    let set = world.form("/password", &fields, &[OWN_PAGE]).await;
    assert!(set.status == 303 && set.head.contains("location: /login"), "{set:?}");
    assert_eq!(world.form("/password", &fields, &[OWN_PAGE]).await.status, 403, "a code is good once");

    let mut browser = Browser { world: &world, cookie: String::new() };
    let reply = browser.log_in(" Asha ", PASSWORD, "").await;
    assert!(reply.status == 303 && reply.head.contains("location: /\r\n"), "{reply:?}");
    assert!(reply.head.contains("; path=/; httponly; samesite=strict"), "{reply:?}");
    let page = browser.ask("GET", "/", Json::Null).await;
    let html = String::from_utf8(page.body).unwrap();
    assert!(page.status == 200 && html.contains("asha, viewer, sees mw/zomba"), "{html}");
    let who = browser.ask("GET", "/admin/v1/session", Json::Null).await.json();
    assert_eq!((who["who"].as_str(), who["by"].as_str()), (Some("account:asha"), Some("login")));

    let value = browser.cookie.split_once('=').unwrap().1.as_bytes().to_vec();
    for file in std::fs::read_dir(world.dir.path()).unwrap().flatten() {
        let kept = std::fs::read(file.path()).unwrap();
        assert!(!kept.windows(value.len()).any(|bytes| bytes == value), "it is in {:?}", file.path());
    }
    let stolen = browser.cookie.clone();
    let left = world.form("/logout", &[], &[OWN_PAGE, ("cookie", &browser.cookie)]).await;
    assert!(left.status == 303 && left.head.contains("max-age=0"), "{left:?}");
    browser.cookie = stolen;
    assert!(!browser.is_in().await, "a cookie that was kept is worth nothing");
}

#[tokio::test]
async fn over_tls_no_other_host_and_no_plain_page_can_set_the_cookie() {
    let config = Config { tls: Tls::Proxy, trusted_proxies: vec!["127.0.0.1".parse().unwrap()], ..Config::default() };
    let world = World::start_with(config).await;
    let browser = world.person("asha", Role::Viewer, &[]).await;
    assert!(browser.cookie.starts_with("__host-outpost="), "{}", browser.cookie);
    let shown = browser.cookie.replace("__host", "__Host");
    let ask = |cookie: String| async move { Browser { cookie, world: browser.world }.is_in().await };
    assert!(ask(shown.clone()).await);
    assert!(!ask(shown.replace("__Host-", "")).await);
}

#[tokio::test]
async fn sessions_end_when_nobody_asks_and_in_any_case_after_a_day_of_work() {
    let world = World::start().await;
    let browser = world.person("asha", Role::Viewer, &[]).await;
    age(&world, 29 * MINUTE_MS, 29 * MINUTE_MS);
    assert!(browser.is_in().await);
    age(&world, 0, 29 * MINUTE_MS);
    assert!(browser.is_in().await, "somebody asked in between");
    age(&world, 0, 29 * MINUTE_MS);
    let page = browser.ask("GET", "/?by=timer", Json::Null).await;
    assert_eq!(page.status, 200);
    age(&world, 0, MINUTE_MS);
    assert!(!browser.is_in().await, "the page asks by itself, and that is nobody");

    let browser = world.person("bina", Role::Viewer, &[]).await;
    age(&world, 12 * 60 * MINUTE_MS, 0);
    assert!(!browser.is_in().await, "however busy");
}

#[tokio::test]
async fn another_password_another_role_or_a_closed_account_ends_the_sessions() {
    let world = World::start().await;
    let browser = world.person("asha", Role::Viewer, &[]).await;
    let change = json!({ "name": "asha", "present": PASSWORD, "new": "nsima ndi nyemba" }).to_string();
    let json = [("content-type", "application/json")];
    assert_eq!(world.ask("POST", "/admin/v1/password", &json, change.as_bytes()).await.status, 204);
    assert!(!browser.is_in().await);
    let mut browser = Browser { world: &world, cookie: String::new() };
    assert_eq!(browser.log_in("asha", PASSWORD, "").await.status, 403);
    assert_eq!(browser.log_in("asha", "nsima ndi nyemba", "").await.status, 303);
    assert!(browser.is_in().await);

    let admin = world.person("boss", Role::Admin, &[]).await;
    assert_eq!(admin.api_proven("PUT", "/accounts/asha", json!({ "role": "resolver" })).await, 200);
    assert!(!browser.is_in().await, "its rights were others");
    assert_eq!(browser.log_in("asha", "nsima ndi nyemba", "").await.status, 303);
    let token = world.token("asha", "reports", None, &[]).await;
    assert_eq!(world.by_token(&token, "GET", "/gateways", Json::Null).await.status, 200);
    assert_eq!(admin.api_proven("PUT", "/accounts/asha", json!({ "disabled": true })).await, 200);
    assert!(!browser.is_in().await);
    assert_eq!(world.by_token(&token, "GET", "/gateways", Json::Null).await.status, 401);
    assert_eq!(browser.log_in("asha", "nsima ndi nyemba", "").await.status, 403);
    assert_eq!(
        admin.api_proven("PUT", "/accounts/boss", json!({ "disabled": true })).await,
        403,
        "nobody closes himself out"
    );
}

#[tokio::test]
async fn whether_there_is_such_an_account_is_not_told() {
    let world = World::start().await;
    world.person("asha", Role::Viewer, &[]).await;
    world.account("closed", Role::Viewer, &[]).await;
    let mut told = Vec::new();
    for (name, password) in [("asha", "wrong"), ("nobody", "wrong"), ("closed", "wrong"), ("not a name", PASSWORD)] {
        let body = json!({ "name": name, "password": password }).to_string();
        let reply =
            world.ask("POST", "/admin/v1/session", &[("content-type", "application/json")], body.as_bytes()).await;
        assert!(!reply.head.contains("set-cookie"));
        told.push((reply.status, String::from_utf8(reply.body).unwrap()));
    }
    assert_eq!(told[0].0, 403);
    assert!(told.iter().all(|one| *one == told[0]), "{told:?}");
    let refused: Vec<_> = world.audited().await.into_iter().filter(|entry| entry.what == "login-refused").collect();
    let targets: Vec<&str> = refused.iter().map(|entry| entry.target.as_str()).collect();
    let nobody = r#"{"account":null}"#;
    assert_eq!(targets, [r#"{"account":"asha"}"#, nobody, r#"{"account":"closed"}"#, nobody]);
}

#[tokio::test]
async fn guessing_is_slowed_also_when_the_guess_is_right_and_whoever_is_in_goes_on() {
    let world = World::start().await;
    let mut browser = world.person("asha", Role::Viewer, &[]).await;
    for _ in 0..5 {
        let mut guesser = Browser { world: &world, cookie: String::new() };
        assert_eq!(guesser.log_in("asha", "a wrong password", "").await.status, 403);
    }
    let slowed = Browser { world: &world, cookie: String::new() }.log_in("asha", PASSWORD, "").await;
    assert!(slowed.status == 429 && !slowed.head.contains("set-cookie"), "{slowed:?}");
    assert!(browser.is_in().await);
    assert_eq!(browser.log_in("bina", PASSWORD, "").await.status, 429, "the source is slowed, whatever the name");
    assert_eq!(world.audited().await.iter().filter(|entry| entry.what == "login-refused").count(), 5);
}

#[tokio::test]
async fn a_second_factor_is_asked_for_and_its_code_is_good_once() {
    let world = World::start().await;
    let mut browser = world.person("asha", Role::Viewer, &[]).await;
    let name: AccountName = "asha".parse().unwrap();
    let key = [7u8; 20];
    let named = name.clone();
    world.hub.write(move |tx| staff::set_totp(tx, &boss(), &named, &key)).await.unwrap();
    assert!(!browser.is_in().await);
    assert_eq!(browser.log_in("asha", PASSWORD, "").await.status, 403);
    // As an app computes it: the one that is taken.
    let good = code_of(&key);
    assert_eq!(browser.log_in("asha", "a wrong password", &good).await.status, 403);
    assert_eq!(browser.log_in("asha", PASSWORD, &good).await.status, 303, "a wrong password takes no code");
    assert_eq!(browser.log_in("asha", PASSWORD, &good).await.status, 403, "again");
    let change = json!({ "name": "asha", "present": PASSWORD, "new": "nsima ndi nyemba" }).to_string();
    let json = [("content-type", "application/json")];
    assert_eq!(world.ask("POST", "/admin/v1/password", &json, change.as_bytes()).await.status, 403, "without a code");
    world.hub.write(move |tx| staff::set_totp(tx, &boss(), &name, &[])).await.unwrap();
    assert_eq!(browser.log_in("asha", PASSWORD, "").await.status, 303);
}

/// What an app shows for a secret.
fn code_of(key: &[u8]) -> String {
    totp::code(key, now_ms() / 30_000)
}

#[tokio::test]
async fn a_second_factor_is_on_when_the_app_has_shown_that_it_knows_the_secret() {
    let world = World::start().await;
    let mut browser = world.person("asha", Role::Viewer, &[]).await;
    let form = browser.ask("GET", "/second-factor", Json::Null).await;
    let html = String::from_utf8(form.body).unwrap();
    let secret = html.split("name=secret value='").nth(1).unwrap().split('\'').next().unwrap().to_owned();
    assert!(secret.len() == 32 && html.contains("otpauth://totp/Outpost:asha?secret="), "{html}");
    let key = totp::unbase32(&secret).unwrap();
    let cookie = browser.cookie.clone();
    let send = async |secret: &str, password: &str, code: &str, site: &str| {
        let fields = [("secret", secret), ("password", password), ("code", code)];
        world.form("/second-factor", &fields, &[("sec-fetch-site", site), ("cookie", &cookie)]).await
    };
    let good = code_of(&key);
    for (secret, password, code, site, status) in [
        (secret.as_str(), PASSWORD, "000000x", "same-origin", 403),
        (&secret, "a wrong password", &good, "same-origin", 403),
        ("MZXW6", PASSWORD, &good, "same-origin", 400),
        (&secret, PASSWORD, &good, "cross-site", 303),
    ] {
        assert_eq!(send(secret, password, code, site).await.status, status);
        assert!(browser.is_in().await, "nothing was changed");
    }
    let on = send(&secret, PASSWORD, &good, "same-origin").await;
    assert!(on.status == 303 && on.head.contains("location: /login"), "{on:?}");
    assert!(!browser.is_in().await);
    assert_eq!(browser.log_in("asha", PASSWORD, &good).await.status, 403, "that code was taken");
    let path = world.dir.path().join("hub.db");
    rusqlite::Connection::open(path).unwrap().execute("UPDATE accounts SET totp_step = 0", []).unwrap();
    assert_eq!(browser.log_in("asha", PASSWORD, &code_of(&key)).await.status, 303);

    let again = json!({ "secret": secret, "password": PASSWORD, "code": good });
    assert_eq!(browser.api("PUT", "/second-factor", again).await, 409, "it is not changed by a cookie and a password");
    let off = |code: &str| json!({ "password": PASSWORD, "code": code });
    assert_eq!(browser.api("DELETE", "/second-factor", off("")).await, 403);
    let path = world.dir.path().join("hub.db");
    rusqlite::Connection::open(path).unwrap().execute("UPDATE accounts SET totp_step = 0", []).unwrap();
    assert_eq!(browser.api("DELETE", "/second-factor", off(&code_of(&key))).await, 204);
    assert_eq!(browser.log_in("asha", PASSWORD, "").await.status, 303);
}

#[tokio::test]
async fn a_page_of_a_stranger_logs_nobody_in_and_changes_nothing() {
    let world = World::start().await;
    let browser = world.person("asha", Role::Operator, &[]).await;
    let fields = [("name", "asha"), ("password", PASSWORD)];
    let foreign: [&[(&str, &str)]; 5] = [
        &[("sec-fetch-site", "cross-site")],
        &[("sec-fetch-site", "same-site")],
        &[("origin", "https://evil.example.org")],
        &[("origin", "null")],
        &[],
    ];
    for headers in foreign {
        let reply = world.form("/login", &fields, headers).await;
        assert!(reply.status == 403 && !reply.head.contains("set-cookie"), "{headers:?}");
        let fields = [("name", "asha"), ("present", PASSWORD), ("new", "nsima ndi nyemba")];
        assert_eq!(world.form("/password", &fields, headers).await.status, 403, "{headers:?}");
        let left = world.form("/logout", &[], &[headers, &[("cookie", browser.cookie.as_str())]].concat()).await;
        assert_eq!(left.status, 403, "{headers:?}");
        let new = json!({ "name": "x", "scopes": ["mw"] });
        let changed = browser.ask_from("POST", "/admin/v1/gateways", headers, new).await;
        assert_eq!((changed.status, changed.json()["type"].as_str()), (403, Some("foreign-page")), "{headers:?}");
    }
    let read = browser.ask_from("GET", "/admin/v1/gateways", &[("sec-fetch-site", "cross-site")], Json::Null).await;
    assert_eq!(read.status, 403, "not read either");
    assert!(browser.is_in().await, "nobody was logged out");
    assert_eq!(browser.api("GET", "/gateways/x", Json::Null).await, 404, "nothing was added");
    // A form of another site can send text, and no more.
    let body = json!({ "name": "asha", "password": PASSWORD }).to_string();
    for kind in ["text/plain", "application/x-www-form-urlencoded"] {
        let reply = world.ask("POST", "/admin/v1/session", &[("content-type", kind)], body.as_bytes()).await;
        assert!(reply.status == 400 && !reply.head.contains("set-cookie"), "{kind}");
    }
    let by_origin = browser.ask_from(
        "POST",
        "/admin/v1/gateways",
        &[("origin", "https://hub")],
        json!({ "name": "x", "scopes": ["mw"] }),
    );
    assert_eq!(by_origin.await.status, 201, "the hub's own page");
}

#[tokio::test]
async fn the_machines_token_is_for_the_machine_and_a_proxy_is_none() {
    let config = Config { tls: Tls::Proxy, trusted_proxies: vec!["127.0.0.1".parse().unwrap()], ..Config::default() };
    let world = World::start_with(config).await;
    let bearer = format!("Bearer {}", world.hub.admin_token());
    for seen in [&[][..], &[("x-forwarded-for", "127.0.0.1")], &[("x-forwarded-for", "203.0.113.5")]] {
        let headers = [seen, &[("authorization", bearer.as_str())]].concat();
        assert_eq!(world.ask("GET", "/admin/v1/gateways", &headers, b"").await.status, 401, "{seen:?}");
    }
    let world = World::start().await;
    let (peer, away) = ("127.0.0.1".parse().ok(), "192.0.2.7".parse().ok());
    let bearer = format!("Bearer {}", world.hub.admin_token()).parse().unwrap();
    let headers = [(axum::http::header::AUTHORIZATION, bearer)].into_iter().collect();
    let ask =
        async |from| crate::caller::caller(&world.hub, from, &axum::http::Method::GET, &headers, true).await.is_ok();
    assert!(ask(peer).await && !ask(away).await && !ask(None).await);
}

#[tokio::test]
async fn tokens_do_no_more_than_they_may_and_end() {
    let world = World::start().await;
    let admin = world.person("boss", Role::Admin, &["mw/zomba"]).await;
    let wish = json!({ "label": "reports", "role": "viewer", "days": 1, "password": PASSWORD });
    let made = admin.ask("POST", "/admin/v1/tokens", wish).await;
    assert_eq!(made.status, 201, "{made:?}");
    let token = made.json()["token"].as_str().unwrap().to_owned();
    assert!(token.starts_with("hub_") && token.len() == 68);
    assert_eq!(world.by_token(&token, "GET", "/gateways", Json::Null).await.status, 200);
    assert_eq!(world.by_token(&token, "GET", "/accounts", Json::Null).await.status, 403, "its role is less");
    assert_eq!(
        world.by_token(&token, "POST", "/tokens", json!({ "label": "more", "password": PASSWORD })).await.status,
        403
    );
    for (more, status) in [
        (json!({ "label": "x", "scopes": ["mw"], "password": PASSWORD }), 403),
        (json!({ "label": "reports", "password": PASSWORD }), 409),
        (json!({ "label": "a/b", "password": PASSWORD }), 400),
    ] {
        assert_eq!(admin.api("POST", "/tokens", more.clone()).await, status, "{more}");
    }
    let strong = world.token("boss", "strong", None, &[]).await;
    let new = json!({ "name": "x", "role": "admin", "scopes": ["mw/zomba"] });
    assert_eq!(world.by_token(&strong, "POST", "/accounts", new).await.status, 403, "a token makes no accounts");
    assert_eq!(world.by_token(&strong, "POST", "/accounts/boss/code", Json::Null).await.status, 403);

    for n in 2..50 {
        world.token("boss", &format!("t{n}"), None, &[]).await;
    }
    let more = json!({ "label": "one-more", "password": PASSWORD });
    assert_eq!(admin.api("POST", "/tokens", more).await, 409, "there is a limit");
    for n in 2..50 {
        assert_eq!(admin.api("DELETE", &format!("/tokens/t{n}"), Json::Null).await, 204);
    }

    let listed = admin.ask("GET", "/admin/v1/tokens", Json::Null).await.json();
    assert_eq!(listed["tokens"].as_array().unwrap().len(), 2);
    assert!(!listed.to_string().contains(token.trim_start_matches("hub_")));
    assert_eq!(admin.api("DELETE", "/tokens/reports", Json::Null).await, 204);
    assert_eq!(world.by_token(&token, "GET", "/gateways", Json::Null).await.status, 401, "revoked");
    let path = world.dir.path().join("hub.db");
    rusqlite::Connection::open(path).unwrap().execute("UPDATE tokens SET until_ms = ?1", [now_ms()]).unwrap();
    assert_eq!(world.by_token(&strong, "GET", "/gateways", Json::Null).await.status, 401, "over");
}

#[tokio::test]
async fn a_stolen_cookie_opens_no_account() {
    let world = World::start().await;
    let admin = world.person("boss", Role::Admin, &[]).await;
    world.account("asha", Role::Viewer, &[]).await;
    let new = json!({ "name": "thief", "role": "admin", "everything": true });
    let asked = [
        ("POST", "/accounts", new, 201),
        ("POST", "/accounts/asha/code", json!({}), 200),
        ("PUT", "/accounts/asha", json!({ "role": "admin" }), 200),
        ("PUT", "/accounts/asha", json!({ "disabled": false }), 200),
        ("DELETE", "/accounts/asha/second-factor", json!({}), 204),
    ];
    for (method, path, body, _) in &asked {
        let told = admin.ask(method, &format!("/admin/v1{path}"), body.clone()).await;
        assert_eq!(told.status, 400, "{method} {path}");
        assert!(String::from_utf8_lossy(&told.body).contains("password"), "{told:?}");
    }
    let (method, path, mut wrong, _) = asked[1].clone();
    wrong["password"] = "nsima ndi nyemba".into();
    assert_eq!(admin.api(method, path, wrong).await, 403);
    let named = |entries: &Json| entries.to_string().contains("thief");
    assert!(!named(&admin.ask("GET", "/admin/v1/accounts", Json::Null).await.json()));
    for (method, path, body, status) in asked {
        assert_eq!(admin.api_proven(method, path, body).await, status, "{method} {path}");
    }
    assert_eq!(admin.api("PUT", "/accounts/asha", json!({ "disabled": true })).await, 200, "at once");
}

#[tokio::test]
async fn a_stolen_cookie_makes_no_token() {
    let world = World::start().await;
    let mut browser = world.person("asha", Role::Viewer, &[]).await;
    let wish = |password: &str, code: &str| json!({ "label": "reports", "password": password, "code": code });
    assert_eq!(browser.api("POST", "/tokens", json!({ "label": "reports" })).await, 400, "it has to be typed");
    assert_eq!(browser.api("POST", "/tokens", wish("a wrong password", "")).await, 403);
    assert_eq!(browser.api("POST", "/tokens", wish("", "")).await, 403);
    assert_eq!(browser.api("POST", "/tokens", wish(&"x".repeat(300), "")).await, 403);
    let key = [7u8; 20];
    world.hub.write(move |tx| staff::set_totp(tx, &boss(), &"asha".parse()?, &key)).await.unwrap();
    assert_eq!(browser.log_in("asha", PASSWORD, &code_of(&key)).await.status, 303);
    assert_eq!(browser.api("POST", "/tokens", wish(PASSWORD, "")).await, 403, "the second factor is asked for as well");
    let path = world.dir.path().join("hub.db");
    rusqlite::Connection::open(path).unwrap().execute("UPDATE accounts SET totp_step = 0", []).unwrap();
    let none = browser.ask("GET", "/admin/v1/tokens", Json::Null).await.json();
    assert_eq!(none["tokens"], json!([]));
    assert_eq!(browser.api("POST", "/tokens", wish(PASSWORD, &code_of(&key))).await, 201);
    let refused = world.audited().await.into_iter().filter(|entry| entry.what == "login-refused");
    assert_eq!(refused.filter(|entry| entry.target == r#"{"account":"asha"}"#).count(), 4);
    assert_eq!(browser.api("POST", "/tokens", wish("a wrong password", "")).await, 403);
    assert_eq!(browser.api("POST", "/tokens", wish(PASSWORD, "")).await, 429, "guessing is slowed as at the door");
}

#[tokio::test]
async fn a_write_whose_body_is_still_coming_when_its_sender_is_thrown_out_is_refused() {
    let world = World::start().await;
    world.account("asha", Role::Resolver, &[]).await;
    let token = world.token("asha", "app", None, &[]).await;
    let head = format!(
        "PUT /admin/v1/records/patient/p1 HTTP/1.1\r\nhost: hub\r\nauthorization: Bearer {token}\r\nexpect: 100-continue\r\ncontent-length: 14\r\nconnection: close\r\n\r\n"
    );
    let address = world.address;
    let begin = move || {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(head.as_bytes()).unwrap();
        // The hub asks for the body: so it has let the sender in.
        let mut told = [0; 25];
        stream.read_exact(&mut told).unwrap();
        assert_eq!(&told, b"HTTP/1.1 100 Continue\r\n\r\n");
        stream.write_all(b"{\"name\"").unwrap();
        stream
    };
    let mut stream = tokio::task::spawn_blocking(begin).await.unwrap();
    world.hub.write(|tx| staff::revoke_token(tx, &boss(), &"asha".parse()?, "app")).await.unwrap();
    let end = move || {
        stream.write_all(b": \"Bi\"}").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    let answer = tokio::task::spawn_blocking(end).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");
    assert_eq!(world.admin("GET", "/records/patient/p1", Json::Null).await.status, 404);
}

#[tokio::test]
async fn a_password_that_is_none_is_refused_before_anything_is_looked_at() {
    let world = World::start().await;
    let code = world.account("asha", Role::Viewer, &[]).await;
    for weak in ["short", "ASHA", &"x".repeat(300)] {
        let fields = [("name", "asha"), ("present", code.as_str()), ("new", weak)];
        assert_eq!(world.form("/password", &fields, &[OWN_PAGE]).await.status, 400, "{weak}");
    }
    let number = |tx: &mut Tx<'_>| tx.account_named(&"asha".parse()?).map(|account| account.number);
    let number = world.hub.read::<_, HubError, _>(number).await.unwrap();
    let late =
        move |tx: &mut Tx<'_>| Ok::<_, HubError>(tx.set_password_code(number, "0000-1111-2222-3333", tx.now_ms)?);
    world.hub.write(late).await.unwrap();
    let fields = [("name", "asha"), ("present", "0000-1111-2222-3333"), ("new", PASSWORD)];
    assert_eq!(world.form("/password", &fields, &[OWN_PAGE]).await.status, 403, "over");
}
