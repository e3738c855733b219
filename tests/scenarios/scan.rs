//! What an independent program, openssl, finds at both listeners from outside; and at a server that is open to everything, so that
//! what it does not find is not there.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use outpost_tests::process::{Hub, Running, must};

const VERSIONS: [&str; 4] = ["-tls1", "-tls1_1", "-tls1_2", "-tls1_3"];
const STRONG_GROUPS: [&str; 3] = ["X25519", "P-256", "P-384"];
const OTHER_GROUPS: [&str; 4] = ["P-521", "X448", "ffdhe2048", "ffdhe4096"];
const STRONG_CIPHERS: [&str; 3] = ["TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"];
const OTHER_CIPHERS: [&str; 2] = ["TLS_AES_128_CCM_SHA256", "TLS_AES_128_CCM_8_SHA256"];

/// What a server speaks.
#[derive(Debug, PartialEq, Eq)]
struct Found {
    versions: BTreeSet<&'static str>,
    groups: BTreeSet<&'static str>,
    ciphers: BTreeSet<&'static str>,
    /// It takes data before the handshake is over, which somebody can send twice.
    takes_early_data: bool,
    speaks_http_2: bool,
}

/// One connection. Something is asked, so that what comes after the handshake comes, too.
fn connect(address: &str, options: &[&str]) -> String {
    let mut client = Command::new("openssl");
    client.args(["s_client", "-ign_eof", "-connect", address]).args(options);
    client.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut client = client.spawn().expect("openssl is needed. Run: apt-get install openssl");
    let ask = b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    // Who shook no hands has hung up by now.
    let _ = client.stdin.take().unwrap().write_all(ask);
    String::from_utf8_lossy(&client.wait_with_output().unwrap().stdout).into_owned()
}

fn is_connected(said: &str) -> bool {
    said.contains("Cipher is ") && !said.contains("Cipher is (NONE)")
}

fn scan(address: &str) -> Found {
    let connects = |options: &[&str]| is_connected(&connect(address, options));
    let weakest = "ALL:@SECLEVEL=0";
    let said = connect(address, &["-tls1_3", "-alpn", "h2"]);
    Found {
        versions: VERSIONS.into_iter().filter(|version| connects(&[version, "-cipher", weakest])).collect(),
        groups: STRONG_GROUPS
            .into_iter()
            .chain(OTHER_GROUPS)
            .filter(|group| connects(&["-tls1_3", "-groups", group]))
            .collect(),
        ciphers: STRONG_CIPHERS
            .into_iter()
            .chain(OTHER_CIPHERS)
            .filter(|cipher| connects(&["-tls1_3", "-cipher", weakest, "-ciphersuites", cipher]))
            .collect(),
        takes_early_data: said
            .lines()
            .filter_map(|line| line.trim().strip_prefix("Max Early Data: "))
            .any(|bytes| bytes != "0"),
        speaks_http_2: said.contains("ALPN protocol: h2"),
    }
}

/// A server that offers what it can.
struct Open(Child, String);

impl Open {
    fn start(folder: &Path) -> Open {
        let (key, certificate) = (folder.join("key.pem"), folder.join("certificate.pem"));
        let (key, certificate) = (key.to_string_lossy(), certificate.to_string_lossy());
        let made = Command::new("openssl")
            .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"])
            .args(["-keyout", &key, "-out", &certificate])
            .output()
            .expect("openssl is needed. Run: apt-get install openssl");
        assert!(made.status.success(), "{made:?}");
        let groups = [&STRONG_GROUPS[..], &OTHER_GROUPS].concat().join(":");
        let ciphers = [&STRONG_CIPHERS[..], &OTHER_CIPHERS].concat().join(":");
        let mut server = Command::new("openssl")
            .args(["s_server", "-accept", "127.0.0.1:0", "-key", &key, "-cert", &certificate, "-groups", &groups])
            .args(["-cipher", "ALL:@SECLEVEL=0", "-ciphersuites", &ciphers, "-alpn", "h2", "-www"])
            .args(["-max_early_data", "1000"])
            // As long as it is open, the server goes on.
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(server.stdout.take().unwrap()).lines().map_while(Result::ok);
        let address = lines.filter_map(|line| line.strip_prefix("ACCEPT ").map(str::to_owned)).next();
        Open(server, address.expect("openssl says where it listens"))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_scan_from_outside_finds_only_what_is_meant_to_be_there() {
    let folder = tempfile::tempdir().unwrap();
    let hub = Hub::start(&folder.path().join("hub"));
    let card = folder.path().join("a");
    std::fs::create_dir(&card).unwrap();
    std::fs::write(card.join("outpost.toml"), "[network]\nlisten = \"127.0.0.1:0\"\n").unwrap();
    let (log, card) = (card.join("log"), card.to_string_lossy().into_owned());
    let gateway = Running::start("outpost", &["run", "--data-dir", &card, "--listen", "127.0.0.1:0"], &log);
    let invited = must("outpost", &["pair", "tablet", "--data-dir", &card]);
    let network = invited.split("outpost://").nth(1).and_then(|rest| rest.split('/').next()).unwrap();
    let open = Open::start(folder.path());
    let everything = Found {
        versions: VERSIONS.into(),
        groups: STRONG_GROUPS.into_iter().chain(OTHER_GROUPS).collect(),
        ciphers: STRONG_CIPHERS.into_iter().chain(OTHER_CIPHERS).collect(),
        takes_early_data: true,
        speaks_http_2: true,
    };
    assert_eq!(scan(&open.1), everything, "what a scan can find");
    let meant = Found {
        versions: ["-tls1_3"].into(),
        groups: STRONG_GROUPS.into(),
        ciphers: STRONG_CIPHERS.into(),
        takes_early_data: false,
        speaks_http_2: false,
    };
    assert_eq!(scan(hub.url().trim_start_matches("https://")), meant, "the hub");
    assert_eq!(scan(network), meant, "the gateway, for apps");
    drop(gateway);
}
