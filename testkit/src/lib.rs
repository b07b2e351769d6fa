//! What the tests of several crates need: brokers, topics and records.
//!
//! ```text
//! Embedded::start()  the embedded broker ──┐
//!                                          ├─► brokers() ─► topics::create ─► records::produce ─► records::consume_all
//! Apache::shared()   a real Apache Kafka ──┘
//! ```
//!
//! ```
//! use puddle_testkit::{Embedded, consume_all, produce, topics, unique};
//!
//! let broker = Embedded::start();
//! let topic = unique("greetings");
//! topics::create(&broker.brokers(), &topic, 1);
//! produce(&broker.brokers(), &topic, ["hello"]);
//! assert_eq!(consume_all(&broker.brokers(), &topic)[0].value.as_deref(), Some(b"hello".as_slice()));
//! ```
//!
//! Everything here blocks, needs no runtime of the caller's, and panics with what went wrong: in a test that
//! is the message to read. The one exception is a missing Java or Maven, see [`Apache`].
//!
//! [`SchemaRegistry`] has the schemas of Avro records. [`Proxy`] stands between a client and either broker, and lets the network fail.
//!
//! Tests share brokers, so each test takes its own names from [`topics::unique`].

pub mod apache;
mod embedded;
mod frames;
pub mod hostile;
pub mod memory;
pub mod proxy;
pub mod records;
pub mod registry;
pub mod topics;

pub use apache::Apache;
pub use embedded::Embedded;
pub use proxy::Proxy;
pub use records::{Record, consume_all, flights, produce};
pub use registry::SchemaRegistry;
pub use topics::unique;
