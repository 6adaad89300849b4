//! Log files: one per run, a few kept.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use crate::arguments::create_dir;
use crate::error::{Error, Result};

/// Numbered files that a rotation leaves.
const BACKUPS: u64 = 5;

/// Renames `<stem>.log` to `<stem>.<n>.log` with the next free number, and removes
/// files that are `BACKUPS` numbers older, unless all are to be kept.
///
/// # Errors
/// When the folder cannot be read or the file not renamed. Old files that cannot
/// be removed are left.
pub fn rotate(folder: &Path, stem: &str, keep: bool) -> Result<()> {
    let number = |path: &Path| -> Option<u64> {
        let name = path.file_name()?.to_str()?;
        let middle = name
            .strip_prefix(stem)?
            .strip_prefix('.')?
            .strip_suffix(".log")?;
        middle.parse().ok()
    };
    let mut numbered = Vec::new();
    for entry in fs::read_dir(folder).map_err(Error::file("read", folder))? {
        let path = entry.map_err(Error::file("read", folder))?.path();
        if let Some(number) = number(&path) {
            numbered.push((number, path));
        }
    }
    let next = numbered
        .iter()
        .map(|(number, _)| number + 1)
        .max()
        .unwrap_or(1);
    let active = folder.join(format!("{stem}.log"));
    match fs::rename(&active, folder.join(format!("{stem}.{next}.log"))) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(Error::file("rotate", &active)(error));
        }
        _ => {}
    }
    if !keep {
        for (number, path) in numbered {
            if number + BACKUPS <= next {
                fs::remove_file(&path).map_err(Error::file("remove", &path))?;
            }
        }
    }
    Ok(())
}

/// Rotates, then opens a fresh `<stem>.log` for appending; its first line is the title, if any.
///
/// # Errors
/// When the folder or the file cannot be made.
pub fn open_log(folder: &Path, stem: &str, keep: bool, title: Option<&str>) -> Result<File> {
    create_dir(folder)?;
    rotate(folder, stem, keep)?;
    let path = folder.join(format!("{stem}.log"));
    let mut file = OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(&path)
        .map_err(Error::file("create", &path))?;
    if let Some(title) = title {
        writeln!(file, "=== {title} ===").map_err(Error::file("write", &path))?;
    }
    Ok(file)
}

/// Moves the regular `*.log` files of a folder to another, copying where a rename
/// cannot work. Returns the files that could not be kept.
#[must_use]
pub fn preserve(from: &Path, to: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(from) else {
        return Vec::new();
    };
    let logs: Vec<PathBuf> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|end| end == "log") && path.is_file())
        .collect();
    if logs.is_empty() || create_dir(to).is_err() {
        return logs;
    }
    logs.into_iter()
        .filter(|path| {
            let Some(name) = path.file_name() else {
                return true;
            };
            let target = to.join(name);
            let moved = fs::rename(path, &target).or_else(|_| fs::copy(path, &target).map(drop));
            moved.is_err()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(folder)
            .expect("it is there")
            .map(|entry| {
                entry
                    .expect("readable")
                    .file_name()
                    .to_string_lossy()
                    .into_owned()
            })
            .collect();
        names.sort();
        names
    }

    fn open(folder: &Path, keep: bool) {
        open_log(folder, "x", keep, Some("run")).expect("it opens");
    }

    #[test]
    fn five_backups_are_kept() {
        let folder = tempfile::tempdir().expect("a folder");
        for _ in 0..9 {
            open(folder.path(), false);
        }
        let wanted = [
            "x.4.log", "x.5.log", "x.6.log", "x.7.log", "x.8.log", "x.log",
        ];
        assert_eq!(names(folder.path()), wanted);
    }

    #[test]
    fn all_backups_are_kept_on_request() {
        let folder = tempfile::tempdir().expect("a folder");
        for _ in 0..9 {
            open(folder.path(), true);
        }
        assert_eq!(names(folder.path()).len(), 9);
    }

    #[test]
    fn other_files_are_left_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        for name in ["x.y.log", "other.1.log", "x.1.txt", "xx.7.log"] {
            fs::write(folder.path().join(name), "").expect("writes");
        }
        for _ in 0..8 {
            open(folder.path(), false);
        }
        let left = names(folder.path());
        for name in ["x.y.log", "other.1.log", "x.1.txt", "xx.7.log"] {
            assert!(left.iter().any(|other| other == name), "{name}");
        }
    }
}
