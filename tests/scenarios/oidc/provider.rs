//! What the hub and the provider are to each other: addresses, secrets, certificates, and a provider that fails.

use std::time::Instant;

use outpost_tests::process::must;
use outpost_tests::tls_proxy::Place;

use super::*;

#[test]
fn a_provider_that_is_not_what_it_should_be_is_left_alone() {
    let (folder, provider) = (tempfile::tempdir().unwrap(), Provider::start());
    let mut hub = hub(folder.path(), &provider, "");
    provider.says(|says| says.subject = "s-asha".to_owned());
    for (oddity, words) in [
        (Oddity::OtherName, "answered something else"),
        (Oddity::Redirects, "answered something else"),
        (Oddity::Silent, "did not answer in time"),
    ] {
        provider.says(|says| says.oddity = oddity);
        hub.restart();
        let (began, mut browser) = (Instant::now(), Browser::at(&hub, 1));
        browser.post("/login/oidc", &[]).refuses(502, words);
        let asked = provider.asked("/.well-known/openid-configuration");
        for nth in 2..10 {
            Browser::at(&hub, nth).post("/login/oidc", &[]).refuses(502, "cannot be reached");
        }
        assert_eq!(provider.asked("/.well-known/openid-configuration"), asked, "nobody asks again right after");
        assert!(began.elapsed().as_secs() < 30, "{oddity:?}");
    }
    assert_eq!(provider.asked("/elsewhere"), 0, "no redirect is followed");
    provider.says(|says| says.oddity = Oddity::None);
    hub.restart();
    let mut browser = Browser::at(&hub, 1);
    let back = browser.sent_back(&provider);
    provider.says(|says| says.oddity = Oddity::HugeKeys);
    browser.return_with(&back).refuses(502, "too large");
    provider.says(|says| says.oddity = Oddity::Silent);
    let mut browser = Browser::at(&hub, 2);
    let back = browser.sent_back(&provider);
    browser.return_with(&back).refuses(502, "did not answer in time");
    hub.command(&["admin", "list"]);
    assert_eq!(Browser::at(&hub, 3).ask("GET", "/login", "none", "").status, 200, "all else goes on");
}

#[test]
fn the_secret_goes_into_the_body_where_the_provider_wants_it_there() {
    let (folder, provider) = (tempfile::tempdir().unwrap(), Provider::start());
    provider.says(|says| (says.subject, says.by_post) = ("s-asha".to_owned(), true));
    let hub = hub(folder.path(), &provider, "");
    let mut browser = Browser::at(&hub, 1);
    browser.log_in(&provider);
    assert_eq!(browser.is_in(), asha("viewer"));
}

#[test]
fn a_hub_that_the_provider_does_not_know_says_so_and_its_tries_count() {
    let (folder, provider) = (tempfile::tempdir().unwrap(), Provider::start());
    let hub = hub(folder.path(), &provider, "");
    provider.says(|says| (says.subject, says.by_post) = ("s-asha".to_owned(), true));
    let mut browser = Browser::at(&hub, 1);
    browser.sent_back(&provider);
    // It learned of one way to show its secret, and the provider wants the other by now.
    provider.says(|says| says.by_post = false);
    for _ in 0..5 {
        let reply = browser.log_in(&provider);
        reply.refuses(502, "client_id and client_secret_file");
        assert!(!reply.text.contains(&SECRET[..6]), "{reply:?}");
    }
    let asked = provider.asked("/token");
    browser.log_in(&provider).refuses(429, "too many tries");
    assert_eq!(provider.asked("/token"), asked);
    let refused = audited(&hub).into_iter().filter(|entry| entry["what"] == "login-refused").count();
    assert_eq!(refused, 0, "it was nobody's fault");
}

#[test]
fn over_tls_the_provider_is_known_by_the_authority_that_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let ministry = folder.path().join("ministry").to_string_lossy().into_owned();
    let place = Place::take();
    let at = place.address().to_string();
    must("outpost-hub", &["init", "--name", &at, "--data-dir", &ministry]);
    let authority = must("outpost-hub", &["certificate", "authority", "--data-dir", &ministry]);
    let own = must("outpost-hub", &["certificate", "proxy", "--data-dir", &ministry]);
    let provider = Provider::start_as(Some(format!("https://{at}")));
    place.serve(&own, &authority, provider.address.clone());
    provider.says(|says| says.subject = "s-asha".to_owned());
    let ca = folder.path().join("ministry.pem");
    fs::write(&ca, &authority).unwrap();
    let named = format!("ca_file = \"{}\"\n", ca.display());

    let mut hub = Hub::start_as(&folder.path().join("hub"), "https", &config(folder.path(), &provider, "", &named));
    let name = hub.proxied().trim_start_matches("https://").to_owned();
    hub.command(&["init", "--name", &name]);
    hub.command(&["admin", "add", "asha", "--role", "viewer", "--scope", "mw/zomba"]);
    hub.command(&["admin", "link", "asha", "s-asha"]);
    hub.restart();
    let pem = hub.command(&["certificate", "authority"]);
    let trusted = Certificate::from_pem(pem.as_bytes()).unwrap();
    let mut browser = Browser::new(&hub.proxied(), 1, Some(trusted.der()));
    let begun = browser.post("/login/oidc", &[]);
    let kept = begun.cookies.first().unwrap();
    assert!(
        kept.starts_with("__Host-outpost-login=") && kept.contains("Path=/; HttpOnly; SameSite=Lax; Secure"),
        "{kept}"
    );
    let back = provider.log_in(&begun.leads_to());
    let own_page = format!("https://{name}");
    assert!(back.starts_with(&own_page), "{back}");
    let reply = browser.return_with(back.strip_prefix(&own_page).unwrap());
    assert_eq!(reply.status, 200, "{reply:?}");
    assert_eq!(browser.is_in(), asha("viewer"));

    let other = hub.command(&["certificate", "authority"]);
    fs::write(&ca, other).unwrap();
    hub.restart();
    let mut browser = Browser::new(&hub.proxied(), 1, Some(trusted.der()));
    browser.post("/login/oidc", &[]).refuses(502, "cannot be reached");

    let secret = folder.path().join("client.secret");
    fs::set_permissions(&secret, Permissions::from_mode(0o644)).unwrap();
    let (data, file) = (hub.data_dir(), configured(&hub));
    hub.kill();
    let told = command("outpost-hub", &["serve", "--data-dir", &data, "--config", &file, "--listen", "127.0.0.1:0"]);
    let said = String::from_utf8_lossy(&told.stderr).into_owned();
    assert!(told.status.code() == Some(2) && said.contains("can be read by everybody"), "{told:?}");
}
