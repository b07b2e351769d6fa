//! Empty: the dependencies of this crate are its purpose. See `.config/hakari.toml`.
