//! Removing a table.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use super::layout::Layout;
use super::lock::Lock;
use crate::Error;
use crate::config::validate_table;

/// Removes a table with its rejected records and its log. Nothing happens if there is none.
///
/// The log goes last: a removal that was cut off leaves a table that can be removed again.
///
/// # Errors
/// A table that a writer has open, and files that cannot be removed.
pub fn remove(lake: &Path, table: &str) -> Result<(), Error> {
    validate_table(table)?;
    let layout = Layout::new(lake, table);
    if !layout.hidden().is_dir() {
        return Ok(());
    }
    let _lock = Lock::take(&layout.lock(), table, "the removal of the table")?;
    for folder in [layout.root(), layout.rejected_root(), layout.hidden()] {
        match fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(Error::io("remove", &folder)(error));
            }
            _ => {}
        }
    }
    Ok(())
}
