//! A clinic's day on one machine: a hub and two gateways on embedded defaults, with records that the generator makes.
//!
//! `tests/story` builds and runs it. Everything stays running until Ctrl-C; with `--once` it ends after the story.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use outpost_tests::generator::Generator;
use outpost_tests::process::{Gateway, Hub, end_all};
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};

const RULES: &str = include_str!("../../../docs/rules-sample.toml");
const DISTRICT: &str = "mw/zomba";
const PATIENTS: usize = 150;

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let stays = match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => true,
        ["--once"] => false,
        _ => bail!("there is only one option: --once"),
    };
    end_with_everything()?;
    let folder = Path::new("target/story");
    if folder.exists() {
        std::fs::remove_dir_all(folder).context("the folder of the last story")?;
    }
    let (hub, chingale, thondwe) = set_up(folder)?;
    fill(&[(&chingale, "mw/zomba/chingale", 1), (&thondwe, "mw/zomba/thondwe", 2)])?;
    sync_both("The link is up: both clinics send what they have and receive the other's.", &chingale, &thondwe);
    let patient = outreach_day(&hub, &chingale, &thondwe)?;
    reconnect(&hub, &chingale, &thondwe, &patient)?;
    settle(&hub, &chingale, &thondwe, &patient)?;
    where_things_stand(&hub, &chingale, &thondwe);
    if stays {
        what_to_try(&hub, &chingale, &thondwe, &patient);
        println!("\nEverything goes on running. Ctrl-C ends it.");
        loop {
            std::thread::park();
        }
    }
    Ok(())
}

/// However this program ends, what it started ends with it: by a signal at any moment, and by a failure, which in the released
/// build unwinds nothing.
fn end_with_everything() -> Result<()> {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        usual(panic);
        end_all(101);
    }));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let _guard = runtime.enter();
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let mut hangup = signal(SignalKind::hangup())?;
    std::thread::spawn(move || {
        let number = runtime.block_on(async {
            tokio::select! {
                _ = hangup.recv() => 1,
                _ = interrupt.recv() => 2,
                _ = terminate.recv() => 15,
            }
        });
        end_all(128 + number);
    });
    Ok(())
}

fn say(what: &str) {
    println!("\n== {what}");
}

fn set_up(folder: &Path) -> Result<(Hub, Gateway, Gateway)> {
    say("A hub at the centre, with its rules, and a gateway in each of two clinics.");
    let hub = Hub::start(&folder.join("hub"));
    hub.publish(RULES);
    let chingale = Gateway::enrolled(&folder.join("chingale"), &hub, "chingale", DISTRICT);
    let thondwe = Gateway::enrolled(&folder.join("thondwe"), &hub, "thondwe", DISTRICT);
    println!("   hub       {}", hub.url());
    println!("   chingale  {}", chingale.url());
    println!("   thondwe   {}", thondwe.url());
    Ok((hub, chingale, thondwe))
}

/// Each clinic saves a day's records while the link is what it is.
fn fill(clinics: &[(&Gateway, &str, u64)]) -> Result<()> {
    say("A clinic day at each: patients, visits, immunizations, allergies, stock.");
    for (gateway, facility, seed) in clinics {
        let began = Instant::now();
        let day = Generator::at(*seed, facility).clinic_day(PATIENTS);
        let mut saved = 0;
        for part in day.chunks(100) {
            let line = |made: &outpost_tests::generator::Generated| {
                format!("{}\n", json!({"type": made.record_type, "id": made.id, "body": made.body, "author": "nurse"}))
            };
            let lines: String = part.iter().map(line).collect();
            let headers = [("content-type", "application/x-ndjson")];
            let (status, answer) = gateway.ask("POST", "/v1/batch", &headers, Some(&Value::String(lines)));
            ensure!(status == 200 && !answer.contains("\"problem\""), "a record was refused: {answer}");
            saved += part.len();
            print!("\r   {facility}: {saved} of {} records are safe on disk", day.len());
            std::io::Write::flush(&mut std::io::stdout())?;
        }
        println!(" ({} ms)", began.elapsed().as_millis());
    }
    Ok(())
}

fn sync_both(what: &str, chingale: &Gateway, thondwe: &Gateway) {
    say(what);
    for (name, gateway) in [("chingale", chingale), ("thondwe", thondwe), ("chingale", chingale)] {
        let report = gateway.sync();
        let number = |key: &str| report.get(key).and_then(Value::as_u64).unwrap_or_default();
        println!(
            "   {name:<9} sent {}, received {}, {} B up, {} B down, equal to the hub: {}",
            number("sent"),
            number("received"),
            number("bytes_up"),
            number("bytes_down"),
            report.get("agrees").and_then(Value::as_bool).unwrap_or_default()
        );
    }
}

/// No link: a patient is registered at one desk and seen at the next, and both clinics change another one's record.
fn outreach_day(hub: &Hub, chingale: &Gateway, thondwe: &Gateway) -> Result<String> {
    let (_, page) = chingale.ask("GET", "/v1/records/patient?limit=1", &[], None);
    let page: Value = serde_json::from_str(&page)?;
    let id = page.pointer("/records/0/id").and_then(Value::as_str).context("a patient that both hold")?;
    let patient = format!("patient/{id}");
    say("The link goes down.");
    hub.proxy.set_down(true);
    let mut generator = Generator::at(3, "mw/zomba/chingale");
    let new = generator.patient();
    chingale.put(&format!("patient/{}", new.id), &Value::Object(new.body.clone()));
    let seen = chingale.get(&format!("patient/{}", new.id)).context("the next desk sees the patient")?;
    println!("   Desk 1 at Chingale registers {}; desk 2 reads the record at once.", full_name(&seen));

    let change = |at: &Gateway, patch: Value, author: &str| -> Result<()> {
        let headers = [("content-type", "application/merge-patch+json"), ("outpost-author", author)];
        let (status, answer) = at.ask("PATCH", &format!("/v1/records/{patient}"), &headers, Some(&patch));
        ensure!(status == 200, "{answer}");
        println!("   {author} changes {patch}");
        Ok(())
    };
    println!(
        "   Both clinics change the record of {}:",
        chingale.get(&patient).map(|p| full_name(&p)).unwrap_or_default()
    );
    change(chingale, json!({"phone": "+265 991 000 001", "allergies": ["penicillin"]}), "nurse-chingale")?;
    change(
        thondwe,
        json!({"phone": "+265 882 000 002", "allergies": ["peanut"], "village": "Songani"}),
        "nurse-thondwe",
    )?;
    println!("   chingale has {} unsent changes, thondwe {}.", chingale.count("unsent"), thondwe.count("unsent"));
    Ok(patient)
}

fn full_name(patient: &Value) -> String {
    let part = |key: &str| patient.pointer(&format!("/name/{key}")).and_then(Value::as_str).unwrap_or_default();
    format!("{} {}", part("given"), part("family"))
}

fn reconnect(hub: &Hub, chingale: &Gateway, thondwe: &Gateway, patient: &str) -> Result<()> {
    hub.proxy.set_down(false);
    sync_both("The link returns.", chingale, thondwe);
    let body = thondwe.get(patient).context("the merged record")?;
    println!("   Both allergies are there: {}", body.get("allergies").unwrap_or(&Value::Null));
    println!("   The village came through: {}", body.get("village").unwrap_or(&Value::Null));
    println!("   The later phone number is shown, the other kept: {}", body.get("phone").unwrap_or(&Value::Null));
    println!("   In conflict, as the hub lists it: {}", hub.command(&["conflicts", "list"]).trim());
    Ok(())
}

fn settle(hub: &Hub, chingale: &Gateway, thondwe: &Gateway, patient: &str) -> Result<()> {
    let number = "+265 991 000 001";
    hub.command(&[
        "conflicts",
        "settle",
        patient,
        "phone",
        "--value",
        &json!(number).to_string(),
        "--why",
        "she answered this one",
    ]);
    sync_both("An officer at the centre calls the patient and settles the number.", chingale, thondwe);
    for gateway in [chingale, thondwe] {
        let body = gateway.get(patient).context("the settled record")?;
        ensure!(body.get("phone") == Some(&json!(number)), "the settlement did not arrive");
        ensure!(gateway.count("conflicts") == 0, "a conflict is left");
    }
    println!("   Both clinics show {number} now; who decided and why is in the history.");
    Ok(())
}

fn where_things_stand(hub: &Hub, chingale: &Gateway, thondwe: &Gateway) {
    say("Where things stand.");
    for gateway in [chingale, thondwe] {
        println!("{}", indent(&gateway.command(&["status"])));
    }
    println!("{}", indent(&hub.command(&["gateway", "list"])));
}

fn what_to_try(hub: &Hub, chingale: &Gateway, thondwe: &Gateway, patient: &str) {
    say("Try it.");
    println!("   curl -s '{}/v1/records/{patient}?meta=true'", chingale.url());
    println!(
        "   curl -si -X PUT {}/v1/records/form/f1 -H 'content-type: application/json' -d '{{\"note\": \"my first record\"}}'",
        chingale.url()
    );
    println!("   curl -s {}/v1/status", thondwe.url());
    println!("   The API's description: {}/openapi.json", chingale.url());
    println!("   The hub's status page: {}/", hub.url());
    println!("{}", indent(&hub.command(&["admin", "add", "me", "--role", "admin", "--everything"])));
}

fn indent(text: &str) -> String {
    text.lines().map(|line| format!("   {line}\n")).collect()
}
