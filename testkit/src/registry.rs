//! A schema registry in memory, which fails as it is told.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::JoinHandle;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use serde_json::{Value, json};
use tokio::sync::oneshot;

/// A schema registry on a free loopback port: what Confluent's answers to those who look for schemas.
#[derive(Debug)]
pub struct SchemaRegistry {
    address: SocketAddr,
    shelf: Arc<Mutex<Shelf>>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// How a registry fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// With this status, and an answer that is not a registry's own, as of a gateway before it.
    Status(u16),
    /// With a good status and half an answer.
    Garbage,
}

#[derive(Debug, Default)]
struct Shelf {
    /// By id, from 1 on: the answer to a question for it.
    schemas: Vec<Value>,
    /// The ids of a subject's versions.
    subjects: BTreeMap<String, Vec<usize>>,
    /// After so many requests, how so many fail.
    fault: Option<(usize, Fault, usize)>,
    requests: Vec<String>,
    authorization: Option<String>,
}

impl SchemaRegistry {
    /// Starts a registry without schemas.
    ///
    /// # Panics
    /// When it does not start.
    pub fn start() -> Self {
        let shelf = Arc::new(Mutex::new(Shelf::default()));
        let (stop, stopped) = oneshot::channel::<()>();
        let (ready, address) = mpsc::channel();
        let app = Router::new().fallback(answer).with_state(Arc::clone(&shelf));
        let thread = std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a loopback port");
                ready.send(listener.local_addr().expect("an address")).expect("the test waits");
                tokio::select! {
                    served = async { axum::serve(listener, app).await } => served.expect("the registry serves"),
                    _ = stopped => {}
                }
            });
        });
        let address = address.recv().expect("the registry starts");
        Self { address, shelf, stop: Some(stop), thread: Some(thread) }
    }

    /// Where it is.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Adds a version to a subject, and returns the schema's id.
    pub fn register(&self, subject: &str, schema: &str) -> u32 {
        self.register_as(subject, json!({ "schema": schema }))
    }

    /// Adds a version with these members of an answer, such as `schemaType` and `references`.
    pub fn register_as(&self, subject: &str, answer: Value) -> u32 {
        let mut shelf = lock(&self.shelf);
        shelf.schemas.push(answer);
        let id = shelf.schemas.len();
        shelf.subjects.entry(subject.to_owned()).or_default().push(id);
        id as u32
    }

    /// Lets so many of the next requests fail.
    pub fn fail(&self, fault: Fault, requests: usize) {
        self.fail_after(0, fault, requests);
    }

    /// Lets so many requests fail after so many others.
    pub fn fail_after(&self, others: usize, fault: Fault, requests: usize) {
        lock(&self.shelf).fault = Some((others, fault, requests));
    }

    /// The paths that were asked for so far.
    pub fn requests(&self) -> Vec<String> {
        lock(&self.shelf).requests.clone()
    }

    /// Who asked last, as the header says.
    pub fn authorization(&self) -> Option<String> {
        lock(&self.shelf).authorization.clone()
    }
}

impl Drop for SchemaRegistry {
    fn drop(&mut self) {
        self.stop.take().map(|stop| stop.send(()));
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

async fn answer(State(shelf): State<Arc<Mutex<Shelf>>>, request: Request) -> (StatusCode, String) {
    let mut shelf = lock(&shelf);
    let path = request.uri().path().to_owned();
    let header = request.headers().get("authorization").and_then(|value| value.to_str().ok());
    shelf.authorization = header.map(str::to_owned);
    shelf.requests.push(path.clone());
    match shelf.fault {
        Some((0, fault, left @ 1..)) => {
            shelf.fault = Some((0, fault, left - 1));
            return match fault {
                Fault::Status(status) => {
                    let answer = json!({ "message": "no route" }).to_string();
                    (StatusCode::from_u16(status).expect("a status"), answer)
                }
                Fault::Garbage => (StatusCode::OK, "{\"schema\": \"{".to_owned()),
            };
        }
        Some((others @ 1.., fault, left)) => shelf.fault = Some((others - 1, fault, left)),
        _ => {}
    }
    match shelf.find(&path) {
        Ok(answer) => (StatusCode::OK, answer.to_string()),
        Err(code) => {
            (StatusCode::NOT_FOUND, json!({ "error_code": code, "message": "not found" }).to_string())
        }
    }
}

impl Shelf {
    /// What is at this path, or a code for what is missing.
    fn find(&self, path: &str) -> Result<Value, u64> {
        let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
        let by_id = |id: usize| id.checked_sub(1).and_then(|index| self.schemas.get(index));
        match parts[..] {
            ["schemas", "ids", id] => id.parse().ok().and_then(by_id).cloned().ok_or(40403),
            ["subjects", subject, "versions", version] => {
                let ids = self.subjects.get(subject).ok_or(40401_u64)?;
                let index = if version == "latest" { Some(ids.len()) } else { version.parse().ok() };
                let index = index.and_then(|version: usize| version.checked_sub(1)).ok_or(40402_u64)?;
                let id = *ids.get(index).ok_or(40402_u64)?;
                let mut answer = by_id(id).cloned().unwrap_or_default();
                answer["id"] = id.into();
                answer["subject"] = subject.into();
                answer["version"] = (index + 1).into();
                Ok(answer)
            }
            _ => Err(404),
        }
    }
}

fn lock(shelf: &Mutex<Shelf>) -> MutexGuard<'_, Shelf> {
    shelf.lock().unwrap_or_else(PoisonError::into_inner)
}
