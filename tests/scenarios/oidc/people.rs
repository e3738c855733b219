//! Who comes in by the provider, as what, and by what else.

use ring::hmac;

use super::*;

#[test]
fn a_person_comes_in_by_the_provider_once_an_admin_linked_the_account() {
    let (folder, provider) = (tempfile::tempdir().unwrap(), Provider::start());
    let hub = hub(folder.path(), &provider, "");
    provider.says(|says| says.subject = "s-new".to_owned());
    let mut browser = Browser::at(&hub, 1);
    let page = browser.ask("GET", "/login", "none", "");
    assert!(page.text.contains("Log in with the &lt;ministry&gt;"), "{page:?}");
    browser.log_in(&provider).refuses(403, "no account here belongs to this login");
    let refused = audited(&hub).pop().unwrap();
    let on: Value = serde_json::from_str(refused["on"].as_str().unwrap()).unwrap();
    assert_eq!((refused["what"].as_str(), refused["who"].as_str()), (Some("login-refused"), Some("nobody")));
    assert_eq!(on, json!({ "by": "oidc", "why": "not-linked", "subject": "s-new" }));

    hub.command(&["admin", "add", "bina", "--role", "resolver", "--everything"]);
    hub.command(&["admin", "link", "bina", on["subject"].as_str().unwrap()]);
    let args = ["--data-dir", &hub.data_dir(), "--config", &configured(&hub)];
    for (name, subject) in [("bina", "s-other"), ("admin", "s-new")] {
        let again = command("outpost-hub", &[&["admin", "link", name, subject], &args[..]].concat());
        assert_eq!(again.status.code(), Some(4), "one person, one account");
    }
    for sign in [Sign::Es256, Sign::EdDsa, Sign::Rs256, Sign::Ps256] {
        provider.says(|says| says.sign = sign);
        let reply = browser.log_in(&provider);
        assert_eq!((reply.status, reply.leads_to().as_str()), (200, "/"), "{reply:?}");
        assert_eq!(browser.is_in(), Some(("account:bina".to_owned(), "resolver".to_owned())), "{sign:?}");
        let session = reply.cookies.iter().find(|cookie| cookie.starts_with("__Host-outpost=")).unwrap();
        assert!(session.contains("HttpOnly; SameSite=Strict; Secure"), "{session}");
    }
    let factor = browser.ask("GET", "/second-factor", "same-origin", "");
    factor.refuses(403, "has no password here");
    let told: Value = serde_json::from_str(&hub.command(&["admin", "list", "--json"])).unwrap();
    let bina = told.as_array().unwrap().iter().find(|one| one["name"] == "bina").unwrap();
    assert_eq!((bina["subject"].as_str(), bina["state"].as_str()), (Some("s-new"), Some("open")));

    let db = rusqlite::Connection::open(Path::new(&hub.data_dir()).join("hub.db")).unwrap();
    let longest = "SELECT max(until_ms - began_ms) FROM sessions";
    assert_eq!(db.query_row(longest, [], |row| row.get::<_, i64>(0)).unwrap(), 8 * 3_600_000);
    db.execute("UPDATE sessions SET until_ms = 1", []).unwrap();
    assert_eq!(browser.is_in(), None, "it ends, also of who goes on asking");
    browser.log_in(&provider);
    assert_eq!(browser.post("/logout", &[]).status, 303);
    assert_eq!(browser.is_in(), None);
    for (act, words) in [("disable", "the account of this login is closed"), ("unlink", "no account here belongs")] {
        hub.command(&["admin", "enable", "bina"]);
        browser.log_in(&provider);
        assert!(browser.is_in().is_some());
        hub.command(&["admin", act, "bina"]);
        assert_eq!(browser.is_in(), None, "{act} logs out");
        browser.log_in(&provider).refuses(403, words);
    }
    let all = audited(&hub);
    for what in ["link-account", "unlink-account", "login", "logout"] {
        assert!(all.iter().any(|entry| entry["what"] == what), "{what}");
    }
    assert!(hub.command(&["audit", "verify"]).contains("entries"));
}

#[test]
fn roles_are_those_that_the_provider_gives_now() {
    let (folder, provider) = (tempfile::tempdir().unwrap(), Provider::start());
    let roles = |first: &str| {
        format!(
            "role_claim = \"groups\"\npassword_of_linked = false\ncreate_accounts = true\nscopes = [\"openid\", \"profile\"]\n[[oidc.roles]]\nvalue = \"zomba\"\nrole = \"{first}\"\nscopes = [\"mw/zomba\"]\n[[oidc.roles]]\nvalue = \"all\"\nrole = \"viewer\"\neverything = true\n"
        )
    };
    let mut hub = hub(folder.path(), &provider, &roles("resolver"));
    let member = |groups: Value| {
        provider.says(|says| (says.subject, says.claims) = ("s-asha".to_owned(), json!({ "groups": groups })));
    };
    let mut browser = Browser::at(&hub, 1);
    member(json!(["x", "all", "zomba"]));
    assert_eq!(browser.log_in(&provider).status, 200);
    assert_eq!(browser.is_in(), asha("resolver"));
    let mut elsewhere = Browser::at(&hub, 2);
    member(json!("all"));
    elsewhere.log_in(&provider);
    assert_eq!((elsewhere.is_in(), browser.is_in()), (asha("viewer"), None), "what was opened with other rights ends");
    member(json!(["x"]));
    browser.log_in(&provider).refuses(403, "gives you no role here");
    assert_eq!(elsewhere.is_in(), None, "and with none all ends");
    member(json!(["zomba"]));
    configure(&mut hub, &config(folder.path(), &provider, PROXIED, &roles("operator")));
    let mut browser = Browser::at(&hub, 3);
    browser.log_in(&provider);
    assert_eq!(browser.is_in(), asha("operator"), "another mapping counts from the next login on");

    let stranger = |name: &str| {
        let claims = json!({ "groups": ["zomba"], "preferred_username": name });
        provider.says(|says| (says.subject, says.claims) = (format!("s-of-{name}"), claims));
    };
    for taken in ["asha", "admin", "Asha", "<b>"] {
        stranger(taken);
        Browser::at(&hub, 4).log_in(&provider).refuses(403, "no account could be made");
    }
    stranger("grace");
    let mut browser = Browser::at(&hub, 5);
    browser.log_in(&provider);
    let grace = Some(("account:grace".to_owned(), "operator".to_owned()));
    assert_eq!(browser.is_in(), grace);
    // She has no password: what she is told to do instead works.
    let way = "outpost-hub admin totp grace";
    browser.ask("GET", "/second-factor", "same-origin", "").refuses(403, way);
    let typed = [("secret", "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"), ("password", PASSWORD), ("code", "123456")];
    browser.post("/second-factor", &typed).refuses(403, way);
    browser.ask("GET", "/admin/v1/second-factor", "same-origin", "").refuses(403, way);
    let told = hub.command(&["admin", "totp", "grace"]);
    let secret = told.lines().next().unwrap().trim_start_matches("secret: ");
    let asked = browser.log_in(&provider);
    assert!(asked.text.contains("action=/login/oidc/code"), "{asked:?}");
    browser.post("/login/oidc/code", &[("code", &totp(secret, 0))]);
    assert_eq!(browser.is_in(), grace);
    let all = audited(&hub);
    let made = all.iter().find(|entry| entry["what"] == "add-account" && entry["who"] == "oidc").unwrap();
    assert!(made["on"].as_str().unwrap().contains("grace"));
}

/// What an app shows for a secret (RFC 6238), `steps` of half a minute from now.
fn totp(secret: &str, steps: i64) -> String {
    let letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let bits: Vec<u8> = secret.bytes().filter_map(|c| letters.bytes().position(|l| l == c)).map(|n| n as u8).collect();
    let bits: Vec<u8> = bits.iter().flat_map(|five| (0..5).rev().map(move |nth| five >> nth & 1)).collect();
    let key: Vec<u8> = bits.chunks_exact(8).map(|byte| byte.iter().fold(0, |sum, bit| sum << 1 | bit)).collect();
    let seconds = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() as i64;
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &key);
    let sum = hmac::sign(&key, &(seconds / 30 + steps).to_be_bytes());
    let at = usize::from(sum.as_ref()[19] & 15);
    let number = u32::from_be_bytes(sum.as_ref()[at..at + 4].try_into().unwrap()) & 0x7fff_ffff;
    format!("{:06}", number % 1_000_000)
}

#[test]
fn a_second_factor_is_asked_for_here_too_and_the_password_is_a_way_in_or_is_not() {
    let (folder, provider) = (tempfile::tempdir().unwrap(), Provider::start());
    let mut hub = hub(folder.path(), &provider, "");
    provider.says(|says| says.subject = "s-asha".to_owned());
    let code = hub.command(&["admin", "password", "asha"]);
    let code = code.lines().last().unwrap().to_owned();
    let mut browser = Browser::at(&hub, 1);
    assert_eq!(browser.post("/password", &[("name", "asha"), ("present", &code), ("new", PASSWORD)]).status, 303);
    let secret = hub.command(&["admin", "totp", "asha"]);
    let secret = secret.lines().next().unwrap().trim_start_matches("secret: ").to_owned();

    let asked = browser.log_in(&provider);
    assert!(asked.status == 200 && asked.text.contains("action=/login/oidc/code"), "{asked:?}");
    assert_eq!(browser.is_in(), None, "the provider alone is not enough");
    browser.post("/login/oidc/code", &[("code", "12345x")]).refuses(403, "wrong");
    browser.post("/login/oidc/code", &[("code", &totp(&secret, 0))]).refuses(403, "was not begun");
    browser.log_in(&provider);
    let typed = format!("code={}", totp(&secret, 0));
    browser.ask("POST", "/login/oidc/code", "cross-site", &typed).refuses(403, "another page");
    assert_eq!(browser.post_from(&asked, "/login/oidc/code", &typed).leads_to(), "/");
    assert_eq!(browser.is_in(), asha("viewer"));
    let mut again = Browser::at(&hub, 2);
    again.log_in(&provider);
    again.ask("POST", "/login/oidc/code", "same-origin", &typed).refuses(403, "wrong");

    hub.command(&["admin", "totp", "asha", "--off"]);
    let by_password = |hub: &Hub, nth: u8| {
        let mut browser = Browser::at(hub, nth);
        browser.post("/login", &[("name", "asha"), ("password", PASSWORD)]).status
    };
    assert_eq!(by_password(&hub, 3), 303, "also when the provider is gone");
    configure(&mut hub, &config(folder.path(), &provider, PROXIED, "password_of_linked = false\n"));
    assert_eq!(by_password(&hub, 4), 403);
    let args = ["admin", "password", "asha", "--data-dir", &hub.data_dir(), "--config", &configured(&hub)];
    let code = command("outpost-hub", &args);
    let told = String::from_utf8_lossy(&code.stderr).into_owned();
    assert!(
        code.status.code() == Some(4) && told.contains("outpost-hub admin unlink asha"),
        "no code that opens nothing: {told}"
    );
    let mut browser = Browser::at(&hub, 5);
    browser.log_in(&provider);
    assert_eq!(browser.is_in(), asha("viewer"));
    let renamed = config(folder.path(), &provider, PROXIED, "password_of_linked = false\n");
    configure(&mut hub, &renamed.replace(provider.issuer(), "https://id.example.org"));
    assert_eq!(by_password(&hub, 6), 403, "linked is linked, whatever the provider is called by now");
    let told = hub.command(&["admin", "unlink", "asha"]);
    assert!(told.contains("to shut the person out: admin disable"), "{told}");
    assert_eq!(by_password(&hub, 7), 303, "who is at the hub's machine opens it again");
}

#[test]
fn a_form_that_follows_a_login_can_be_sent_by_an_older_browser() {
    let (folder, provider) = (tempfile::tempdir().unwrap(), Provider::start());
    let hub = hub(folder.path(), &provider, "");
    let code = hub.command(&["admin", "password", "asha"]);
    let mut browser = Browser::at(&hub, 1);
    let present = code.lines().last().unwrap();
    assert_eq!(browser.post("/password", &[("name", "asha"), ("present", present), ("new", PASSWORD)]).status, 303);
    provider.says(|says| says.subject = "s-nobody".to_owned());
    let refused = browser.log_in(&provider);
    refused.refuses(403, "no account here belongs");
    assert!(refused.text.contains("action=/login/oidc>") && refused.text.contains("action=/login>"), "{refused:?}");
    let again = browser.post_from(&refused, "/login/oidc", "");
    assert_eq!(again.status, 200, "{again:?}");
    let form = format!("name=asha&password={}", escaped(PASSWORD));
    let typed = browser.post_from(&refused, "/login", &form);
    assert_eq!(typed.status, 303, "{typed:?}");
}
