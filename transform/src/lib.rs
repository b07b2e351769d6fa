//! SQL by Polars on Arrow batches.
