//! A file that is there whole or not at all.

use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

/// A file being written, under another name in the same directory. Dropped before [`DurableFile::keep`] it is gone.
#[derive(Debug)]
pub(super) struct DurableFile {
    path: PathBuf,
    partial: PathBuf,
    file: File,
    kept: bool,
}

impl DurableFile {
    /// Begins a file for the owner's eyes. What stands at the path stays there until the new file is whole.
    ///
    /// # Errors
    /// If the directory takes no file, or something other than a file stands at the path.
    pub(super) fn create(path: &Path) -> io::Result<Self> {
        match fs::metadata(path) {
            // Renaming would put a file in the place of a device or a pipe.
            Ok(metadata) if !metadata.is_file() => {
                return Err(io::Error::other("something other than a file is there"));
            }
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        let mut partial_name = OsString::from(".");
        partial_name.push(name);
        partial_name.push(format!(".{}.partial", std::process::id()));
        let partial = path.with_file_name(partial_name);
        // One of that name is of a dead process whose number is ours now.
        match fs::remove_file(&partial) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = OpenOptions::new()
            .create_new(true)
            .write(true)
            .mode(0o600)
            .open(&partial)?;
        Ok(Self {
            path: path.to_owned(),
            partial,
            file,
            kept: false,
        })
    }

    /// Puts the file in its place, and returns once it and its name last.
    pub(super) fn keep(mut self) -> io::Result<()> {
        self.file.sync_all()?;
        fs::rename(&self.partial, &self.path)?;
        self.kept = true;
        let parent = self
            .path
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty());
        File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
    }
}

impl Write for DurableFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for DurableFile {
    fn drop(&mut self) {
        if !self.kept {
            // If it cannot be removed, its name tells that it is not whole.
            let _ = fs::remove_file(&self.partial);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn names(directory: &Path) -> Vec<OsString> {
        let entries = fs::read_dir(directory).unwrap();
        entries.map(|entry| entry.unwrap().file_name()).collect()
    }

    #[test]
    fn a_file_is_there_whole_or_not_at_all() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.jsonl");
        fs::write(&path, "old").unwrap();
        let mut file = DurableFile::create(&path).unwrap();
        file.write_all(b"half").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");
        drop(file);
        assert_eq!(names(directory.path()), ["a.jsonl"]);
        let mut file = DurableFile::create(&path).unwrap();
        file.write_all(b"whole").unwrap();
        file.keep().unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "whole");
        assert_eq!(names(directory.path()), ["a.jsonl"]);
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn what_is_no_file_is_not_replaced() {
        let directory = tempfile::tempdir().unwrap();
        assert!(DurableFile::create(directory.path()).is_err());
        assert!(DurableFile::create(Path::new("/dev/null")).is_err());
        assert!(DurableFile::create(&directory.path().join("no/such/a")).is_err());
        assert!(names(directory.path()).is_empty());
    }
}
