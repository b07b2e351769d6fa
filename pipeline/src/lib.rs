//! pipeline.toml, the run loop, progress and metrics.
