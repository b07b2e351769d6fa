//! Passwords: shown nowhere, sent nowhere unencrypted, and wrong ones.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::Stdio;

use puddle_testkit::apache::{PASSWORD, USER};
use puddle_testkit::{Apache, produce, topics, unique};

use crate::sandbox::{Ended, Sandbox, command, get, run};

const IDS: &str = "schema = { id = \"int64\" }";
/// The secret that is planted.
const SECRET: &str = "hunter2-0xC0FFEE";

/// A sandbox with three records, and a pipeline for them with these client settings; the secret is `${PLANTED}`.
fn planted(client: &str) -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.write("events.ndjson", "{\"id\": 1}\n{\"id\": 2}\n{\"id\": \"x\"}\n");
    sandbox.puddle(&["replay", "events.ndjson"]).ok();
    sandbox.pipeline("events", &format!("{IDS}\n[ingest.client]\n{client}\n"), None);
    sandbox
}

/// Runs `puddle` with the secret in its environment and every log line there is, and searches for it in what it says.
#[track_caller]
fn search(sandbox: &Sandbox, args: &[&str]) -> Ended {
    let mut puddle = command(&sandbox.path("."));
    puddle
        .env("PUDDLE_BROKERS", sandbox.brokers())
        .env("PLANTED", SECRET)
        .env("RUST_LOG", "trace")
        .args(args);
    let ended = run(&mut puddle);
    assert!(
        !ended.out.contains(SECRET) && !ended.err.contains(SECRET),
        "{args:?} shows it:\n{}{}",
        ended.out,
        ended.err
    );
    ended
}

/// Fault matrix 47.
#[test]
fn a_secret_is_in_no_log_line_metric_or_file_of_a_run_that_works() {
    // librdkafka prints its configuration when it is asked for everything.
    let sandbox =
        planted("\"sasl.password\" = \"${PLANTED}\"\n\"sasl.username\" = \"x-${PLANTED}\"\ndebug = \"all\"");
    let ended = search(&sandbox, &["run", "events", "--until-caught-up", "--json"]);
    assert!(ended.err.contains("sasl.password"), "the configuration must be there to search in");
    assert!(ended.ok().contains("\"written\":2"));
    for args in [&["verify", "events", "--json"][..], &["lag", "events", "--json"], &["verify", "events"]] {
        search(&sandbox, args).ok();
    }
    assert_eq!(files_with_the_secret(&sandbox.path(".")), Vec::<String>::new());

    let mut child = command(&sandbox.path("."))
        .env("PUDDLE_BROKERS", sandbox.brokers())
        .env("PLANTED", SECRET)
        .args(["run", "events", "--metrics", "127.0.0.1:0"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    let address = lines.find_map(|line| Some(line.strip_prefix("metrics on http://")?.to_owned())).unwrap();
    let page = get(address.trim_end_matches("/metrics"));
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(page.contains("puddle_records_committed_total") && !page.contains(SECRET), "{page}");
}

fn files_with_the_secret(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files_with_the_secret(&path));
        } else if std::fs::read(&path).unwrap().windows(SECRET.len()).any(|bytes| bytes == SECRET.as_bytes())
        {
            found.push(path.display().to_string());
        }
    }
    found
}

/// Fault matrix 47.
#[test]
fn a_secret_is_in_no_error() {
    let jaas = "\"sasl.jaas.config\" = \"PlainLoginModule required username='a' password='${PLANTED}';\"";
    for (client, says) in [
        (jaas, "sasl.jaas.config"),
        ("\"session.timeout.ms\" = \"${PLANTED}\"", "session.timeout.ms"),
        ("\"security.protocol\" = \"${PLANTED}\"", "security.protocol"),
        ("\"security.protocol\" = \"sasl_plaintext\"\n\"sasl.password\" = \"${PLANTED}\"", "allow_insecure"),
        ("\"sasl.password\" = [\"${PLANTED}\"]", "a string"),
        ("\"auto.offset.reset\" = \"${PLANTED}\"", "auto.offset.reset"),
    ] {
        search(&planted(client), &["run", "events", "--until-caught-up"]).fails(2, &[says]);
    }
    let sandbox = planted("\"sasl.password\" = \"${PLANTED}\"");
    search(&sandbox, &["run", "events", "--brokers", "127.0.0.1:1"]).fails(1, &["127.0.0.1:1"]);
    let on_the_command_line = format!("ingest.client.\"sasl.password\"={SECRET}");
    search(&sandbox, &["run", "events", "--set", &on_the_command_line, "--set", "commit.rowz=1"])
        .fails(2, &["rowz"]);
}

/// Fault matrix 48.
#[test]
fn what_would_send_a_password_unencrypted_or_trust_anybody_is_refused_unless_forced() {
    for (client, says) in [
        ("\"security.protocol\" = \"sasl_plaintext\"", "sends the password"),
        ("\"enable.ssl.certificate.verification\" = false", "lets anybody pass for the broker"),
        ("\"ssl.endpoint.identification.algorithm\" = \"none\"", "any host pass for the broker"),
    ] {
        let sandbox = planted(client);
        for command in ["run", "verify", "lag"] {
            sandbox.puddle(&[command, "events"]).fails(2, &["pipeline.toml", says, "allow_insecure = true"]);
        }
        assert!(!sandbox.path("lake").exists());
        let forced =
            sandbox.puddle(&["run", "events", "--until-caught-up", "--set", "ingest.allow_insecure=true"]);
        assert!(!forced.err.contains(says), "{}", forced.err);
    }
    planted("\"security.protocol\" = \"sasl_ssl\"")
        .puddle(&["run", "events"])
        .fails(2, &["security.protocol", "TLS"]);
}

/// Fault matrix 20.
#[test]
fn apache_a_wrong_password_is_an_error_that_does_not_show_it() {
    let Some(kafka) = Apache::shared() else { return };
    let topic = unique("guarded");
    topics::create(kafka.brokers(), &topic, 1);
    produce(kafka.brokers(), &topic, ["{\"id\": 1}"]);
    let sandbox = planted(&format!(
        "\"security.protocol\" = \"sasl_plaintext\"\n\"sasl.mechanism\" = \"PLAIN\"\n\"sasl.username\" = \"{USER}\"\n\"sasl.password\" = \"${{PLANTED}}\""
    ));
    let (brokers, topics) = (kafka.sasl_brokers(), format!("ingest.topics=[\"{topic}\"]"));
    let args =
        ["run", "events", "--until-caught-up", "--json", "--brokers", &brokers, "--set", &topics, "--set"];
    let args = [&args[..], &["ingest.allow_insecure=true"]].concat();
    let wrong = search(&sandbox, &args);
    let error = wrong.err.lines().find(|line| line.starts_with("error: ")).unwrap_or_default();
    assert!(
        wrong.code == 1 && error.contains("refused to authenticate") && error.contains(&brokers),
        "{}",
        wrong.err
    );
    assert!(!sandbox.path("lake").exists());

    let right =
        run(command(&sandbox.path(".")).env("PLANTED", PASSWORD).env("RUST_LOG", "trace").args(&args));
    assert!(!right.err.contains(PASSWORD) && !right.out.contains(PASSWORD), "{}", right.err);
    assert!(right.ok().contains("\"written\":1"));
}

/// Fault matrix 20. The embedded broker knows nobody's password.
#[test]
fn a_broker_that_asks_for_no_password_is_an_error_when_we_have_one() {
    let sandbox = planted(
        "\"security.protocol\" = \"sasl_plaintext\"\n\"sasl.mechanism\" = \"PLAIN\"\n\"sasl.username\" = \"a\"\n\"sasl.password\" = \"${PLANTED}\"",
    );
    search(&sandbox, &["run", "events", "--set", "ingest.allow_insecure=true"])
        .fails(1, &[sandbox.brokers(), "sasl"]);
}

/// Fault matrix 49.
#[test]
fn all_ports_that_are_opened_without_being_asked_for_are_on_loopback() {
    let folder = tempfile::tempdir().unwrap();
    let mut demo = command(folder.path())
        .args(["demo", "--rows", "3000"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut seen = Vec::new();
    while demo.try_wait().unwrap().is_none() {
        seen.extend(listening(demo.id()));
        std::thread::yield_now();
    }
    let mut err = String::new();
    demo.stderr.take().unwrap().read_to_string(&mut err).unwrap();
    assert!(demo.wait().unwrap().success(), "{err}");
    seen.sort();
    seen.dedup();
    // An address of four bytes, in the order of this machine's memory.
    let loopback = format!("{:08X}:", u32::from_ne_bytes([127, 0, 0, 1]));
    assert!(!seen.is_empty(), "the embedded broker's port was not seen");
    assert!(seen.iter().all(|address| address.starts_with(&loopback)), "{seen:?}");
}

/// The addresses on which a process waits for connections, as Linux writes them.
fn listening(process: u32) -> Vec<String> {
    const LISTEN: &str = "0A";
    let links = std::fs::read_dir(format!("/proc/{process}/fd")).into_iter().flatten().flatten();
    let targets = links.filter_map(|link| Some(std::fs::read_link(link.path()).ok()?.display().to_string()));
    let sockets: Vec<String> = targets
        .filter_map(|target| Some(target.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned()))
        .collect();
    let mut addresses = Vec::new();
    for family in ["tcp", "tcp6"] {
        let table = std::fs::read_to_string(format!("/proc/{process}/net/{family}")).unwrap_or_default();
        for line in table.lines() {
            let fields: Vec<&str> = line.split_whitespace().collect();
            if let [_, local, _, LISTEN, _, _, _, _, _, inode, ..] = fields[..]
                && sockets.iter().any(|socket| socket == inode)
            {
                addresses.push(local.to_owned());
            }
        }
    }
    addresses
}
