//! Who is not let in, and ends nobody else's login by trying.

use super::*;

#[test]
fn a_login_belongs_to_one_browser_and_ends_once() {
    let (folder, provider) = (tempfile::tempdir().unwrap(), Provider::start());
    let hub = hub(folder.path(), &provider, "");
    provider.says(|says| says.subject = "s-asha".to_owned());
    let (mut asha_s, mut other) = (Browser::at(&hub, 1), Browser::at(&hub, 2));
    let back = asha_s.sent_back(&provider);
    let stolen = asha_s.cookies.clone();
    // Somebody wants another to be logged in as himself, or has found the address with the code.
    other.return_with(&back).refuses(403, "was not begun in this browser");
    other.sent_back(&provider);
    other.return_with(&back).refuses(403, "was not begun in this browser");
    assert_eq!(asha_s.return_with(&back).status, 200, "that did not use it up");
    assert_eq!(asha_s.is_in(), asha("viewer"));
    asha_s.return_with(&back).refuses(403, "was not begun in this browser");
    other.cookies = stolen;
    other.return_with(&back).refuses(403, "was not begun in this browser");
    assert_eq!(other.is_in(), None);

    let mut third = Browser::at(&hub, 3);
    third.ask("POST", "/login/oidc", "cross-site", "").refuses(403, "another page");
    assert!(third.cookies.is_empty());
    third.return_with(BACK).refuses(403, "was not begun");
    let state = third.sent_back(&provider);
    let state = state.split("state=").nth(1).unwrap().split('&').next().unwrap().to_owned();
    third
        .return_with(&format!("{BACK}?error=access_denied&error_description=x&state={state}"))
        .refuses(403, "did not let you in");
    let back = third.sent_back(&provider);
    let mixed = back.replace("iss=", "iss=https%3A%2F%2Fevil.example.org&x=");
    third.return_with(&mixed).refuses(403, "does not prove who you are");
    let mut fourth = Browser::at(&hub, 4);
    let back = fourth.sent_back(&provider);
    assert_eq!(fourth.return_with(&format!("{back}&code=again")).status, 400);
    let foreign =
        format!("{back}&redirect_uri=https://evil.example.org&next=//evil.example.org&url=https://evil.example.org");
    let reply = fourth.return_with(&foreign);
    assert!(reply.leads_to() == "/" && !reply.text.contains("evil"), "{reply:?}");
    // Another code than that of this login: the provider wants the proof of who asked for it.
    let (mut fifth, mut thief) = (Browser::at(&hub, 5), Browser::at(&hub, 6));
    let code = |back: &str| back.split("code=").nth(1).unwrap().split('&').next().unwrap().to_owned();
    let (his, own) = (fifth.sent_back(&provider), thief.sent_back(&provider));
    thief.return_with(&own.replace(&code(&own), &code(&his))).refuses(403, "did not let you in");
    assert_eq!(thief.is_in(), None);
}

#[test]
fn a_page_that_leads_browsers_to_the_hub_ends_nobodys_login_and_fills_no_audit() {
    let (folder, provider) = (tempfile::tempdir().unwrap(), Provider::start());
    let hub = hub(folder.path(), &provider, "");
    provider.says(|says| says.subject = "s-asha".to_owned());
    let mut browser = Browser::at(&hub, 1);
    let back = browser.sent_back(&provider);
    let refused = |hub: &Hub| audited(hub).iter().filter(|entry| entry["what"] == "login-refused").count();
    let state = "0".repeat(64);
    for foreign in
        ["", "?error=access_denied", "?code=x", &format!("?code=x&state={state}"), "?state=", "?code=x&state=y"]
    {
        for _ in 0..3 {
            let reply = browser.return_with(&format!("{BACK}{foreign}"));
            reply.refuses(403, "was not begun in this browser");
            assert!(reply.cookies.is_empty(), "its login goes on: {reply:?}");
        }
    }
    browser.post("/login/oidc/code", &[("code", "123456")]).refuses(403, "was not begun in this browser");
    assert_eq!((refused(&hub), provider.asked("/token")), (0, 0));
    assert_eq!(browser.return_with(&back).status, 200, "nor did any of it count as a try");
    assert_eq!(browser.is_in(), asha("viewer"));

    // What is the provider's own, but no code, ends the login; it is no try either.
    for _ in 0..8 {
        let back = browser.sent_back(&provider);
        let reply = browser.return_with(&back.replace("code=", "error=access_denied&x="));
        reply.refuses(403, "did not let you in");
        assert!(reply.cookies.iter().any(|cookie| cookie.contains("outpost-login=;")), "{reply:?}");
        browser.return_with(&back).refuses(403, "was not begun in this browser");
    }
    assert_eq!(refused(&hub), 0);
    let back = browser.sent_back(&provider);
    let code = back.split("code=").nth(1).unwrap().split('&').next().unwrap();
    browser.return_with(&back.replace(code, "made-up")).refuses(403, "did not let you in");
    assert_eq!((refused(&hub), provider.asked("/token")), (1, 2), "what the provider is asked is written down");
}

#[test]
fn a_token_that_proves_nothing_lets_nobody_in() {
    let (folder, provider) = (tempfile::tempdir().unwrap(), Provider::start());
    let hub = hub(folder.path(), &provider, "");
    provider.says(|says| says.subject = "s-asha".to_owned());
    let past = 1_000_000_000;
    let attacks = [
        (Sign::Es256, json!({ "nonce": "another" }), "nonce"),
        (Sign::Es256, json!({ "nonce": null }), "nonce"),
        (Sign::Es256, json!({ "aud": "another" }), "audience"),
        (Sign::Es256, json!({ "aud": [CLIENT, "another"] }), "audience"),
        (Sign::Es256, json!({ "azp": "another" }), "audience"),
        (Sign::Es256, json!({ "iss": "https://id.example.org" }), "issuer"),
        (Sign::Es256, json!({ "exp": past }), "expired"),
        (Sign::Es256, json!({ "exp": "never" }), "claims"),
        (Sign::Es256, json!({ "exp": null }), "claims"),
        (Sign::Es256, json!({ "nbf": "now" }), "claims"),
        (Sign::Es256, json!({ "iat": past }), "time"),
        (Sign::None, json!({}), "form"),
        (Sign::Hs256, json!({}), "algorithm"),
        (Sign::Stranger, json!({}), "signature"),
        (Sign::PsAsRs, json!({}), "signature"),
        (Sign::Unnamed, json!({}), "key"),
    ];
    for (nth, (sign, claims, why)) in (1..).zip(attacks) {
        provider.says(|says| (says.sign, says.claims) = (sign, claims.clone()));
        let mut browser = Browser::at(&hub, nth);
        browser.log_in(&provider).refuses(403, &format!("does not prove who you are ({why})"));
        assert_eq!(browser.is_in(), None);
        let on = audited(&hub).pop().unwrap()["on"].as_str().unwrap().to_owned();
        assert!(on.contains(&format!("\"why\":\"{why}\"")) && !on.contains("s-asha"), "{claims}: {on}");
    }
    provider.says(|says| (says.sign, says.claims) = (Sign::Unnamed, json!({})));
    let before = provider.asked("/keys");
    for nth in 100..112 {
        Browser::at(&hub, nth).log_in(&provider).refuses(403, "(key)");
    }
    assert!(provider.asked("/keys") <= before + 1, "keys that nobody knows are asked for once a minute");
    let mut guesser = Browser::at(&hub, 99);
    for _ in 0..5 {
        guesser.log_in(&provider).refuses(403, "(key)");
    }
    guesser.log_in(&provider).refuses(429, "");
}
