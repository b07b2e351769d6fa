//! Arrow to Parquet tables, committed together with the offsets.
