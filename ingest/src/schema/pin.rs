//! `schema.json`: an inferred schema, pinned so that the next run cannot silently infer another.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::{SchemaDecl, SchemaError};

impl SchemaDecl {
    /// The schema in this file; `None` if there is no such file.
    ///
    /// # Errors
    /// When the file cannot be read or holds no schema.
    pub fn load(path: &Path) -> Result<Option<Self>, SchemaError> {
        let text = match fs::read(path) {
            Ok(text) => text,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(SchemaError::Io { action: "read", path: path.to_owned(), source }),
        };
        match serde_json::from_slice(&text) {
            Ok(schema) => Ok(Some(schema)),
            Err(source) => Err(SchemaError::Parse { path: path.to_owned(), source }),
        }
    }

    /// Writes the schema to this file, whole or not at all, even if the machine stops in between.
    ///
    /// # Errors
    /// When the file cannot be written; nothing is left behind then.
    pub fn store(&self, path: &Path) -> Result<(), SchemaError> {
        let temporary = temporary_beside(path);
        self.write_durably(&temporary, path).map_err(|source| {
            // Its own failure matters less than the one that is reported, and the next store overwrites the file.
            let _ = fs::remove_file(&temporary);
            SchemaError::Io { action: "write", path: path.to_owned(), source }
        })
    }

    fn write_durably(&self, temporary: &Path, path: &Path) -> io::Result<()> {
        let mut text = serde_json::to_vec_pretty(self)?;
        text.push(b'\n');
        let mut file = File::create(temporary)?;
        file.write_all(&text)?;
        file.sync_all()?;
        fs::rename(temporary, path)?;
        // The new name is durable only once its directory is.
        File::open(directory(path))?.sync_all()
    }
}

/// A name in the same directory, for a rename is atomic only within one file system.
fn temporary_beside(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.{}.tmp", std::process::id()))
}

fn directory(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error;

    use super::*;

    fn schema(text: &str) -> SchemaDecl {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn is_loaded_as_it_was_stored() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("schema.json");
        assert_eq!(SchemaDecl::load(&path).unwrap(), None);
        for text in [r#"{"z":"int64","a":[{"b":"json"}]}"#, r#"{"a":"bool not null"}"#] {
            schema(text).store(&path).unwrap();
            assert_eq!(SchemaDecl::load(&path).unwrap(), Some(schema(text)));
        }
        assert_eq!(fs::read_to_string(&path).unwrap(), "{\n  \"a\": \"bool not null\"\n}\n");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "no temporary file is left");
    }

    #[test]
    fn a_broken_file_is_an_error_that_names_file_and_field() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("schema.json");
        fs::write(&path, "{\"a\":{\"b\":\"int46\"}}").unwrap();
        let error = SchemaDecl::load(&path).unwrap_err();
        assert!(error.is_usage() && error.to_string().contains("schema.json"), "{error}");
        assert!(error.source().unwrap().to_string().contains("field `a.b`: unknown type `int46`"));
    }

    #[test]
    fn a_failed_store_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        // A directory in the place of the file: the rename fails, after all was written.
        let path = dir.path().join("schema.json");
        fs::create_dir(&path).unwrap();
        let error = schema(r#"{"a":"bool"}"#).store(&path).unwrap_err();
        assert!(!error.is_usage() && error.to_string().starts_with("cannot write "), "{error}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        let error = SchemaDecl::load(&path).unwrap_err();
        assert!(error.to_string().starts_with("cannot read "), "{error}");
    }
}
