//! Docker's files on disk. Names, places and formats are those of the Docker client:
//! `config.json`, and a folder per context named by the SHA-256 of its name.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tempfile::NamedTempFile;

use crate::error::{Error, Result};
use crate::selection::Document;

/// How often a file that others write at the same time is tried.
const ATTEMPTS: usize = 100;

/// The largest file that is read, in bytes.
const FILE_MAX: u64 = 16 * 1024 * 1024;

/// What a context says about its engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Context {
    /// Where it is reached, if it says so.
    pub host: Option<String>,
    /// Whether it needs a certificate.
    pub has_tls: bool,
}

/// Docker's configuration folder.
#[derive(Clone, Debug)]
pub struct Files {
    folder: PathBuf,
}

impl Files {
    /// The configuration in this folder, which need not exist.
    #[must_use]
    pub fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    fn config(&self) -> PathBuf {
        self.folder.join("config.json")
    }

    fn meta(&self, context: &str) -> PathBuf {
        self.folder.join("contexts/meta").join(digest(context))
    }

    pub(crate) fn all_meta(&self) -> PathBuf {
        self.folder.join("contexts/meta")
    }

    pub(crate) fn tls(&self, context: &str) -> PathBuf {
        self.folder.join("contexts/tls").join(digest(context))
    }

    /// The selected context; without one there is none.
    ///
    /// # Errors
    /// When `config.json` cannot be read or is no JSON object.
    pub fn current(&self) -> Result<Option<String>> {
        let path = self.config();
        let text = read(&path)?.unwrap_or_default();
        parse(&path, &text).map(|document| document.current())
    }

    /// The whole configuration; empty without a file.
    pub(crate) fn config_value(&self) -> Result<Value> {
        let path = self.config();
        match read(&path)? {
            Some(text) if !text.iter().all(u8::is_ascii_whitespace) => {
                serde_json::from_slice(&text).map_err(|source| Error::Malformed { path, source })
            }
            _ => Ok(Value::Null),
        }
    }

    /// A context, if there is one of this name.
    ///
    /// # Errors
    /// When its file cannot be read or is no JSON object.
    pub fn context(&self, name: &str) -> Result<Option<Context>> {
        let path = self.meta(name).join("meta.json");
        let Some(text) = read(&path)? else {
            return Ok(None);
        };
        let meta: Value =
            serde_json::from_slice(&text).map_err(|source| Error::Malformed { path, source })?;
        let host = meta["Endpoints"]["docker"]["Host"].as_str();
        Ok(Some(Context {
            host: host.map(str::to_owned),
            has_tls: self.tls(name).exists(),
        }))
    }

    /// Writes a context unless it stands already.
    pub(crate) fn put_context(&self, name: &str, host: &str) -> Result<()> {
        let meta = json!({
            "Name": name,
            "Metadata": {"Description": format!("Rancher Desktop {name}")},
            "Endpoints": {"docker": {"Host": host, "SkipTLSVerify": false}},
        });
        let folder = self.meta(name);
        let path = folder.join("meta.json");
        let present = read(&path).ok().flatten();
        let present = present.and_then(|text| serde_json::from_slice::<Value>(&text).ok());
        if present.as_ref() == Some(&meta) {
            return Ok(());
        }
        make_folder(&folder)?;
        let mut file = NamedTempFile::new_in(&folder).map_err(Error::file("write", &path))?;
        let text = meta.to_string();
        file.write_all(text.as_bytes())
            .and_then(|()| {
                file.as_file()
                    .set_permissions(fs::Permissions::from_mode(0o644))
            })
            .map_err(Error::file("write", &path))?;
        file.persist(&path)
            .map_err(|error| Error::file("write", &path)(error.error))?;
        Ok(())
    }

    /// Removes a context; an absent one is gone already.
    pub(crate) fn remove_context(&self, name: &str) -> Result<()> {
        for folder in [self.meta(name), self.tls(name)] {
            match fs::remove_dir_all(&folder) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(Error::file("remove", &folder)(error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Selects what `choose` makes of the present selection: another context, none
    /// (`Some(None)`), or no change (`None`).
    ///
    /// Whoever writes the file at the same time loses nothing: the new file is swapped
    /// with the old one in one step, and when the old one turns out to be newer than
    /// what was read, the change is made again on that.
    pub(crate) fn select(
        &self,
        choose: impl Fn(Option<&str>) -> Option<Option<String>>,
    ) -> Result<()> {
        // A link stays a link; what it points to is replaced.
        let path = fs::canonicalize(self.config()).unwrap_or_else(|_| self.config());
        let mut text = read(&path)?;
        for _ in 0..ATTEMPTS {
            let document = parse(&path, text.as_deref().unwrap_or_default())?;
            let Some(selection) = choose(document.current().as_deref()) else {
                return Ok(());
            };
            let malformed = |source| Error::Malformed {
                path: path.clone(),
                source,
            };
            let changed = document
                .with_current(selection.as_deref())
                .map_err(malformed)?;
            match swap(&path, text.as_deref(), &changed)? {
                Swap::Done => return Ok(()),
                Swap::Newer(newer) => text = newer,
            }
        }
        Err(Error::Contended(path))
    }
}

/// What came of a swap.
enum Swap {
    Done,
    /// Somebody else wrote meanwhile; this is what they wrote.
    Newer(Option<Vec<u8>>),
}

/// Puts `text` in the place of a file that holds `expected`.
fn swap(path: &Path, expected: Option<&[u8]>, text: &[u8]) -> Result<Swap> {
    let failed = || Error::file("write", path);
    let folder = path.parent().unwrap_or(Path::new("."));
    make_folder(folder)?;
    let mut file = NamedTempFile::new_in(folder).map_err(failed())?;
    file.write_all(text).map_err(failed())?;
    file.as_file().sync_all().map_err(failed())?;
    let Some(expected) = expected else {
        return match file.persist_noclobber(path) {
            Ok(_) => Ok(Swap::Done),
            Err(error) if error.error.kind() == ErrorKind::AlreadyExists => {
                read(path).map(Swap::Newer)
            }
            Err(error) => Err(failed()(error.error)),
        };
    };
    let mode = fs::metadata(path).map(|data| data.permissions());
    match mode {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Swap::Newer(None)),
        mode => file
            .as_file()
            .set_permissions(mode.map_err(failed())?)
            .map_err(failed())?,
    }
    match renameat_with(CWD, file.path(), CWD, path, RenameFlags::EXCHANGE) {
        Ok(()) => {}
        Err(rustix::io::Errno::NOENT) => return Ok(Swap::Newer(None)),
        // The file system cannot swap: the narrowest window that there is.
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => {
            let now = read(path)?;
            if now.as_deref() != Some(expected) {
                return Ok(Swap::Newer(now));
            }
            file.persist(path).map_err(|error| failed()(error.error))?;
            return Ok(Swap::Done);
        }
        Err(error) => return Err(failed()(error.into())),
    }
    // Under the temporary name lies what was replaced.
    let replaced = read(file.path())?;
    if replaced.as_deref() == Some(expected) {
        Ok(Swap::Done)
    } else {
        put_back(path, file, text, replaced)
    }
}

/// The replaced file was newer than what was read: it goes back, unless somebody has
/// written again since.
fn put_back(path: &Path, file: NamedTempFile, ours: &[u8], newer: Option<Vec<u8>>) -> Result<Swap> {
    match renameat_with(CWD, file.path(), CWD, path, RenameFlags::EXCHANGE) {
        Ok(()) | Err(rustix::io::Errno::NOENT) => {}
        Err(error) => return Err(Error::file("write", path)(error.into())),
    }
    let taken = read(file.path())?;
    if taken.as_deref() == Some(ours) {
        return Ok(Swap::Newer(newer));
    }
    // A third party's version is the newest; it was made from ours, which held
    // everything that theirs could have read.
    file.persist(path)
        .map_err(|error| Error::file("write", path)(error.error))?;
    read(path).map(Swap::Newer)
}

fn parse(path: &Path, text: &[u8]) -> Result<Document> {
    Document::parse(text).map_err(|source| Error::Malformed {
        path: path.to_owned(),
        source,
    })
}

/// A file's content; `None` when there is no such file.
pub(crate) fn read(path: &Path) -> Result<Option<Vec<u8>>> {
    let file = match File::open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        other => other.map_err(Error::file("read", path))?,
    };
    let mut text = Vec::new();
    let length = io::Read::read_to_end(&mut io::Read::take(file, FILE_MAX + 1), &mut text)
        .map_err(Error::file("read", path))?;
    if length as u64 > FILE_MAX {
        let error = io::Error::new(ErrorKind::FileTooLarge, "larger than 16 MiB");
        return Err(Error::file("read", path)(error));
    }
    Ok(Some(text))
}

fn make_folder(folder: &Path) -> Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(Error::file("write", folder))
}

fn digest(context: &str) -> String {
    hex::encode(Sha256::digest(context.as_bytes()))
}
