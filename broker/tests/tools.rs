//! Kafka's own command-line tools, and with them the Java client, against the embedded broker.

use std::io::Write;
use std::process::{Command, Stdio};

use puddle_testkit::{Embedded, apache};

/// Kafka's tools on their way to one broker.
struct Tools {
    classpath: String,
    broker: Embedded,
}

impl Tools {
    /// `None`, after a loud word, where Java is missing.
    fn new() -> Option<Tools> {
        Some(Tools { classpath: apache::classpath()?, broker: Embedded::start() })
    }

    /// Runs a tool to its end and returns what it printed.
    #[track_caller]
    fn run(&self, class: &str, arguments: &str, input: &str) -> String {
        let mut tool = Command::new("java")
            .args(["-Xmx256m", "-cp", &self.classpath, class, "--bootstrap-server", &self.broker.brokers()])
            .args(arguments.split_whitespace())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        tool.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let output = tool.wait_with_output().unwrap();
        let printed = String::from_utf8(output.stdout).unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{class} {arguments}: {printed}{errors}");
        printed
    }

    #[track_caller]
    fn topics(&self, arguments: &str) -> String {
        self.run("org.apache.kafka.tools.TopicCommand", arguments, "")
    }

    #[track_caller]
    fn groups(&self, arguments: &str) -> String {
        self.run("org.apache.kafka.tools.consumer.group.ConsumerGroupCommand", arguments, "")
    }

    #[track_caller]
    fn consume(&self, arguments: &str) -> Vec<String> {
        let printed = self.run("org.apache.kafka.tools.consumer.ConsoleConsumer", arguments, "");
        printed.lines().map(str::to_owned).collect()
    }
}

/// The columns of the table row that begins with these.
#[track_caller]
fn row<'t>(table: &'t str, begins: &[&str]) -> Vec<&'t str> {
    let rows = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    rows.into_iter().find(|row| row.starts_with(begins)).unwrap_or_else(|| panic!("no {begins:?} in {table}"))
}

#[test]
fn apache_tools_manage_topics() {
    let Some(tools) = Tools::new() else { return };
    tools.topics("--create --topic made --partitions 3");
    assert_eq!(tools.topics("--list").trim(), "made");
    let described = tools.topics("--describe --topic made");
    assert!(described.contains("PartitionCount: 3") && described.contains("Leader: 1"), "{described}");
    tools.topics("--alter --topic made --partitions 5");
    assert!(tools.topics("--describe --topic made").contains("PartitionCount: 5"));
    tools.topics("--delete --topic made");
    assert_eq!(tools.topics("--list").trim(), "");
}

#[test]
fn apache_tools_produce_consume_and_manage_groups() {
    let Some(tools) = Tools::new() else { return };
    tools.topics("--create --topic numbers --partitions 1");
    let numbers: Vec<String> = (1..=500).map(|n| n.to_string()).collect();
    let produce = "--topic numbers --compression-codec zstd";
    tools.run("org.apache.kafka.tools.ConsoleProducer", produce, &format!("{}\n", numbers.join("\n")));
    // The Java producer is idempotent and the consumer in a group, by default.
    let consume = "--topic numbers --group readers --timeout-ms 60000 --from-beginning --max-messages";
    assert_eq!(tools.consume(&format!("{consume} 200")), numbers[..200]);
    assert_eq!(tools.consume(&format!("{consume} 300")), numbers[200..], "the group goes on where it was");

    let described = tools.groups("--describe --group readers");
    let columns = ["readers", "numbers", "0", "500", "500", "0"];
    row(&described, &columns);
    assert!(tools.groups("--list").contains("readers"));
    tools.groups("--group readers --reset-offsets --to-offset 450 --topic numbers --execute");
    assert_eq!(tools.consume(&format!("{consume} 50")), numbers[450..]);
    tools.groups("--delete --group readers");
    assert!(!tools.groups("--list").contains("readers"));

    let offsets = "org.apache.kafka.tools.GetOffsetShell";
    assert_eq!(tools.run(offsets, "--topic numbers --time latest", "").trim(), "numbers:0:500");
    assert_eq!(tools.run(offsets, "--topic numbers --time earliest", "").trim(), "numbers:0:0");
    assert_eq!(tools.run(offsets, "--topic numbers --time 1", "").trim(), "numbers:0:0");
}
