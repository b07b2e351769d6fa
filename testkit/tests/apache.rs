//! The harness for Apache Kafka itself: it starts, takes and gives back records, and leaves nothing behind.

use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use puddle_testkit::{Apache, Record, apache, consume_all, flights, produce, records, topics, unique};

#[test]
fn apache_gives_back_what_was_produced() {
    let Some(kafka) = Apache::shared() else { return };
    let topic = unique("round-trip");
    topics::create(kafka.brokers(), &topic, 2);
    let sent = [
        Record::new("zero").to(0).key("k").at(1_357_034_400_000),
        Record::new("one").to(1).at(1_357_034_400_001),
        Record::tombstone("k").to(0).at(1_357_034_400_002),
    ];
    produce(kafka.brokers(), &topic, sent.clone());

    let received = consume_all(kafka.brokers(), &topic);
    let at = |record: &Record, offset| Record { offset: Some(offset), ..record.clone() };
    assert_eq!(received, [at(&sent[0], 0), at(&sent[2], 1), at(&sent[1], 0)]);
}

#[test]
fn apache_keeps_the_order_of_a_partition() {
    let Some(kafka) = Apache::shared() else { return };
    let topic = unique("order");
    topics::create(kafka.brokers(), &topic, 1);
    let sent = flights(5_000, 1);
    records::produce_with(kafka.brokers(), &topic, sent.clone(), &[("compression.type", "zstd")]);

    let received: Vec<_> =
        consume_all(kafka.brokers(), &topic).into_iter().map(|r| r.value.unwrap()).collect();
    assert_eq!(received, sent);
    topics::delete(kafka.brokers(), &topic);
}

#[test]
#[should_panic(expected = "there is no topic")]
fn apache_does_not_invent_topics() {
    // The attribute asks a panic of a skip, too.
    let Some(kafka) = Apache::shared() else { panic!("there is no topic, nor a Kafka") };
    consume_all(kafka.brokers(), &unique("never-created"));
}

#[test]
fn apache_tools_are_on_the_class_path() {
    let (Some(kafka), Some(classpath)) = (Apache::shared(), apache::classpath()) else { return };
    let topic = unique("tools");
    topics::create(kafka.brokers(), &topic, 3);
    let output = Command::new("java")
        .args(["-cp", &classpath, "org.apache.kafka.tools.TopicCommand"])
        .args(["--bootstrap-server", kafka.brokers(), "--describe", "--topic", &topic])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("PartitionCount: 3"), "{text}{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn apache_ends_with_a_killed_test_process() {
    if apache::classpath().is_none() {
        return;
    }
    let mut runner = Command::new(env!("CARGO_BIN_EXE_apache-kafka"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut brokers = String::new();
    BufReader::new(runner.stdout.as_mut().unwrap()).read_line(&mut brokers).unwrap();
    let jvms = java_children(runner.id());
    assert!(brokers.starts_with("127.0.0.1:") && jvms.len() == 1, "{brokers:?} {jvms:?}");

    runner.kill().unwrap();
    runner.wait().unwrap();
    let deadline = Instant::now() + Duration::from_secs(5);
    while is_running(jvms[0]) {
        assert!(Instant::now() < deadline, "the JVM {} outlives the process that started it", jvms[0]);
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn java_children(parent: u32) -> Vec<u32> {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let ids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    ids.filter(|&id| stat(id).is_some_and(|(name, _, ppid)| name == "java" && ppid == parent)).collect()
}

/// A killed process stays visible as a zombie until its new parent looks.
fn is_running(id: u32) -> bool {
    stat(id).is_some_and(|(name, state, _)| name == "java" && state != 'Z')
}

/// Name, state and parent of a process.
fn stat(id: u32) -> Option<(String, char, u32)> {
    let mut text = String::new();
    std::fs::File::open(PathBuf::from(format!("/proc/{id}/stat"))).ok()?.read_to_string(&mut text).ok()?;
    let (name, rest) = text.split_once('(')?.1.rsplit_once(") ")?;
    let mut fields = rest.split(' ');
    Some((name.to_owned(), fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
}
