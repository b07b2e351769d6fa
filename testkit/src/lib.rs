//! What the tests of several crates need: brokers, topics and records.
