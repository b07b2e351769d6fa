//! The dependencies of this crate are its purpose; see `.config/hakari.toml`.

// Cargo compares times of files, not their folder: without this, a build in one checkout could take over a crate that
// was built later from another. Every crate depends on this one, so all are built again when the checkout changes.
const _: Option<&str> = option_env!("PUDDLE_CHECKOUT");
