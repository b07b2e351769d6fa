//! Asks a schema registry, over the HTTP interface that Confluent's has and others serve too (Apicurio, Karapace,
//! Redpanda).
//!
//! A registry that is away says nothing about a record. So an answer is waited for, within bounds; only the registry's own
//! word that it has no such schema makes a misfit of a record.

use std::time::{Duration, Instant};

use reqwest::redirect::Policy;
use reqwest::{Client, StatusCode, Url};
use serde_json::Value;
use tracing::{info, warn};

use super::super::config::RegistryConfig;
use super::schema::{MAX_SCHEMA_BYTES, Schema};
use crate::error::Error;

/// How long a registry is waited for at the start, as long as a broker is.
const START_PATIENCE: Duration = Duration::from_secs(10);

/// How long a registry is waited for in a run, while the group is still served: about as long as one takes to be
/// started anew.
const RUN_PATIENCE: Duration = Duration::from_secs(60);

/// How long one answer may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// The pause after a first failure, and the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// How many schemas one may refer to, together with those that these refer to.
const MAX_REFERENCES: usize = 64;

/// What the registry says where it has no such subject, version or schema.
const NOT_FOUND: [u64; 3] = [40401, 40402, 40403];

/// A schema registry.
#[derive(Debug)]
pub(super) struct Registry {
    config: RegistryConfig,
    url: Url,
    patience: Duration,
}

/// Whether anybody still waits for an answer.
pub(super) type Wanted<'a> = &'a dyn Fn() -> bool;

/// What the registry has under an id or a subject.
#[derive(Debug)]
pub(super) enum Entry {
    Schema(u32, Box<Schema>),
    /// Something that is no Avro schema, and why.
    Unusable(u32, String),
    Nothing,
}

/// Why there is no answer.
struct Failure {
    reason: String,
    /// Whether asking again may help.
    is_passing: bool,
}

impl Registry {
    pub(super) fn new(config: &RegistryConfig) -> Result<Self, Error> {
        let url = config.url()?;
        Ok(Self { config: config.clone(), url, patience: START_PATIENCE })
    }

    /// From now on, a registry that is away is waited for as long as in a run.
    pub(super) fn started(&mut self) {
        self.patience = RUN_PATIENCE;
    }

    /// The newest schema of the values of a topic.
    pub(super) fn latest(&self, topic: &str) -> Result<Entry, Error> {
        let subject = format!("{topic}-value");
        self.entry(&["subjects", &subject, "versions", "latest"], 0, &|| true)
    }

    /// The schema of this id.
    pub(super) fn by_id(&self, id: u32, wanted: Wanted<'_>) -> Result<Entry, Error> {
        self.entry(&["schemas", "ids", &id.to_string()], id, wanted)
    }

    fn entry(&self, path: &[&str], id: u32, wanted: Wanted<'_>) -> Result<Entry, Error> {
        let Some(answer) = self.ask(path, wanted)? else { return Ok(Entry::Nothing) };
        let id = answer["id"].as_u64().and_then(|id| u32::try_from(id).ok()).unwrap_or(id);
        if let Some(kind) = answer["schemaType"].as_str().filter(|kind| *kind != "AVRO") {
            return Ok(Entry::Unusable(id, format!("it is of the type {kind}")));
        }
        let mut references = Vec::new();
        if let Err(reason) = self.references(&answer, &mut references, wanted)? {
            return Ok(Entry::Unusable(id, reason));
        }
        let text = answer["schema"].as_str().unwrap_or_default();
        Ok(match Schema::parse(text, &references) {
            Ok(schema) => Entry::Schema(id, Box::new(schema)),
            Err(reason) => Entry::Unusable(id, reason),
        })
    }

    /// Collects the texts of the schemas that `answer` refers to, those that they refer to first.
    fn references(
        &self,
        answer: &Value,
        texts: &mut Vec<String>,
        wanted: Wanted<'_>,
    ) -> Result<Result<(), String>, Error> {
        // By hand instead of by recursion, which a circle would make endless.
        let mut open: Vec<Value> = answer["references"].as_array().cloned().unwrap_or_default();
        let mut found: Vec<(String, String)> = Vec::new();
        let mut asked = 0;
        while let Some(reference) = open.pop() {
            asked += 1;
            if asked > MAX_REFERENCES {
                return Ok(Err(format!("it refers to more than {MAX_REFERENCES} schemas")));
            }
            let (subject, version) =
                (reference["subject"].as_str().unwrap_or_default(), &reference["version"]);
            let name = format!("{subject} {version}");
            let Some(next) = self.ask(&["subjects", subject, "versions", &version.to_string()], wanted)?
            else {
                return Ok(Err(format!("it refers to version {version} of {subject:?}, which is not there")));
            };
            open.extend(next["references"].as_array().cloned().unwrap_or_default());
            // Whatever others refer to moves in front of them.
            found.retain(|(known, _)| *known != name);
            found.push((name, next["schema"].as_str().unwrap_or_default().to_owned()));
        }
        texts.extend(found.into_iter().rev().map(|(_, text)| text));
        Ok(Ok(()))
    }

    /// What the registry answers; `None` where it says that there is no such thing. Waits for it while it is away.
    fn ask(&self, path: &[&str], wanted: Wanted<'_>) -> Result<Option<Value>, Error> {
        let (begun, mut pause, mut told) = (Instant::now(), FIRST_PAUSE, false);
        loop {
            let failure = match self.attempt(path) {
                Ok(answer) => {
                    if told {
                        info!(url = %self.url, "the schema registry answers again");
                    }
                    return Ok(answer);
                }
                Err(failure) => failure,
            };
            let waited = begun.elapsed();
            if !failure.is_passing || waited + pause > self.patience || !wanted() {
                return Err(Error::Registry { url: self.url.to_string(), waited, reason: failure.reason });
            }
            if !told {
                warn!(url = %self.url, reason = failure.reason, "waiting for the schema registry");
                told = true;
            }
            let end = Instant::now() + pause;
            while Instant::now() < end && wanted() {
                std::thread::sleep(Duration::from_millis(20));
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    fn attempt(&self, path: &[&str]) -> Result<Option<Value>, Failure> {
        let mut url = self.url.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        let (status, body) = get(url, &self.config).map_err(|reason| Failure { reason, is_passing: true })?;
        let answer: Option<Value> = serde_json::from_slice(&body).ok().filter(Value::is_object);
        match (status, answer) {
            (StatusCode::OK, Some(answer)) => Ok(Some(answer)),
            (StatusCode::OK, None) => {
                Err(Failure { reason: "no JSON in its answer".to_owned(), is_passing: true })
            }
            (StatusCode::NOT_FOUND, Some(answer))
                if answer["error_code"].as_u64().is_some_and(|code| NOT_FOUND.contains(&code)) =>
            {
                Ok(None)
            }
            (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN, _) => {
                let reason = format!("{status}: check `user` and `password` of [ingest.registry]");
                Err(Failure { reason, is_passing: false })
            }
            (status, _) => {
                let is_passing = status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS;
                Err(Failure { reason: status.to_string(), is_passing })
            }
        }
    }
}

/// One request. On a thread of its own, because the caller may itself be part of an async runtime; there are few.
fn get(url: Url, config: &RegistryConfig) -> Result<(StatusCode, Vec<u8>), String> {
    let request = async {
        let client = Client::builder().no_proxy().redirect(Policy::none()).timeout(REQUEST_TIMEOUT).build();
        let mut request = client?.get(url);
        if let Some(user) = &config.user {
            request = request.basic_auth(user, config.password());
        }
        let mut response = request.send().await?;
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await? {
            body.extend_from_slice(&chunk);
            if body.len() > MAX_SCHEMA_BYTES {
                body.clear();
                break;
            }
        }
        Ok((response.status(), body))
    };
    let run = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| error.to_string())?;
        runtime.block_on(request).map_err(|error: reqwest::Error| innermost(&error))
    };
    std::thread::scope(|scope| scope.spawn(run).join())
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// The last of an error's causes, which names the fault; those before it repeat the URL.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use puddle_testkit::SchemaRegistry;
    use puddle_testkit::registry::Fault;
    use serde_json::json;

    use super::*;

    const LONG: &str = "\"long\"";

    /// A registry that is waited for so long at most.
    fn asked(url: &str, patience: Duration) -> Registry {
        let config = toml::from_str(&format!("url = '{url}'")).unwrap();
        Registry { patience, ..Registry::new(&config).unwrap() }
    }

    fn patient(registry: &SchemaRegistry) -> Registry {
        asked(&registry.url(), Duration::from_secs(30))
    }

    #[test]
    fn a_schema_is_found_by_its_id_and_by_its_topic() {
        let registry = SchemaRegistry::start();
        registry.register("a b/ü-value", "\"int\"");
        let id = registry.register("a b/ü-value", LONG);
        let asked = patient(&registry);
        assert!(matches!(asked.by_id(id, &|| true).unwrap(), Entry::Schema(found, _) if found == id));
        assert!(matches!(asked.by_id(99, &|| true).unwrap(), Entry::Nothing));
        let Entry::Nothing = asked.latest("other").unwrap() else { panic!() };
        // The path's parts are escaped, so that a topic's name cannot lead elsewhere.
        asked.latest("a/../b").unwrap();
        assert_eq!(registry.requests().pop().unwrap(), "/subjects/a%2F..%2Fb-value/versions/latest");
    }

    #[test]
    fn what_is_no_avro_schema_is_told() {
        let registry = SchemaRegistry::start();
        let of_type = registry.register_as("s", json!({ "schema": "{}", "schemaType": "PROTOBUF" }));
        let broken = registry.register("s", "{");
        let lost = json!({ "schema": LONG, "references": [{ "name": "x", "subject": "x", "version": 1 }] });
        let lost = registry.register_as("s", lost);
        for (id, expected) in [(of_type, "PROTOBUF"), (broken, "not a schema"), (lost, "which is not there")]
        {
            let Entry::Unusable(_, reason) = patient(&registry).by_id(id, &|| true).unwrap() else {
                panic!()
            };
            assert!(reason.contains(expected), "{reason}");
        }
    }

    #[test]
    fn schemas_refer_to_others_and_not_in_circles() {
        let registry = SchemaRegistry::start();
        let refers = |name: &str, subject: &str| json!([{ "name": name, "subject": subject, "version": 1 }]);
        let fixed = r#"{"type":"fixed","name":"F","size":1}"#;
        registry.register("f", fixed);
        let middle = r#"{"type":"record","name":"M","fields":[{"name":"f","type":"F"}]}"#;
        registry.register_as("m", json!({ "schema": middle, "references": refers("F", "f") }));
        let outer =
            r#"{"type":"record","name":"O","fields":[{"name":"m","type":"M"},{"name":"f","type":"F"}]}"#;
        let mut both = refers("F", "f");
        both.as_array_mut().unwrap().extend(refers("M", "m").as_array().unwrap().clone());
        let id = registry.register_as("o", json!({ "schema": outer, "references": both }));
        assert!(matches!(patient(&registry).by_id(id, &|| true).unwrap(), Entry::Schema(..)));
        let id =
            registry.register_as("circle", json!({ "schema": fixed, "references": refers("F", "circle") }));
        let Entry::Unusable(_, reason) = patient(&registry).by_id(id, &|| true).unwrap() else { panic!() };
        assert!(reason.contains("more than 64"), "{reason}");
    }

    #[test]
    fn one_that_fails_for_a_while_is_waited_for() {
        for fault in [Fault::Status(503), Fault::Garbage] {
            let registry = SchemaRegistry::start();
            let id = registry.register("s", LONG);
            registry.fail(fault, 2);
            assert!(matches!(patient(&registry).by_id(id, &|| true).unwrap(), Entry::Schema(..)));
            assert_eq!(registry.requests().len(), 3);
        }
    }

    #[test]
    fn one_that_is_away_is_named_and_says_nothing_of_a_schema() {
        let url = SchemaRegistry::start().url();
        let error = asked(&url, Duration::ZERO).by_id(1, &|| true).unwrap_err();
        assert!(!error.is_usage() && error.to_string().contains(&url), "{error}");
        assert!(error.to_string().contains("[ingest.registry]"), "{error}");
    }

    /// Such as another program's page at a wrong address: it knows nothing of schemas either.
    #[test]
    fn what_is_no_registry_says_nothing_of_a_schema() {
        let registry = SchemaRegistry::start();
        for (status, expected) in [(404, "404"), (401, "`user` and `password`"), (301, "301")] {
            registry.fail(Fault::Status(status), 1);
            let error = patient(&registry).by_id(1, &|| true).unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
        }
    }

    #[test]
    fn nobody_waits_for_what_nobody_wants() {
        let registry = SchemaRegistry::start();
        registry.fail(Fault::Status(503), usize::MAX);
        let looks = Cell::new(0);
        let wanted = || {
            looks.set(looks.get() + 1);
            looks.get() < 3
        };
        patient(&registry).by_id(1, &wanted).unwrap_err();
        assert!(registry.requests().len() < 3);
    }

    #[test]
    fn a_password_is_sent_and_never_shown() {
        let registry = SchemaRegistry::start();
        registry.register("t-value", LONG);
        let text = format!("url = '{}'\nuser = 'me'\npassword = 'hunter2'", registry.url());
        let config: RegistryConfig = toml::from_str(&text).unwrap();
        assert!(!format!("{config:?}").contains("hunter2"));
        let asked = Registry::new(&config).unwrap();
        asked.latest("t").unwrap();
        assert_eq!(registry.authorization().unwrap(), "Basic bWU6aHVudGVyMg==");
        registry.fail(Fault::Status(401), 1);
        let error = asked.latest("t").unwrap_err();
        assert!(!format!("{error} {error:?} {asked:?}").contains("hunter2"));
        let error = toml::from_str::<RegistryConfig>("url = ''\npassword = 12.5").unwrap_err();
        assert!(!error.message().contains("12.5"), "{}", error.message());
    }
}
