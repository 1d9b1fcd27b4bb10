//! The file that `tritbench tune` leaves for this machine, and who reads it.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use trit_kernels::TuneTable;

use crate::exit::Failure;
use crate::out::say;

/// A table of every kernel at dozens of situations takes some hundred kilobytes.
const MAX_BYTES: u64 = 16 << 20;

/// Where the program keeps what can be made again: `$XDG_CACHE_HOME/tritbench`, or `~/.cache/tritbench`.
pub(crate) fn cache_dir() -> Option<PathBuf> {
    let absolute = |name: &str| {
        std::env::var_os(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    absolute("XDG_CACHE_HOME")
        .or_else(|| Some(absolute("HOME")?.join(".cache")))
        .map(|cache| cache.join("tritbench"))
}

/// The file of this machine.
pub(crate) fn default_file(fingerprint: &str) -> Option<PathBuf> {
    let short = fingerprint.get(..16).unwrap_or(fingerprint);
    Some(cache_dir()?.join(format!("tune-{short}.json")))
}

/// Reads a table.
pub(crate) fn read(path: &Path) -> Result<TuneTable, Failure> {
    let name = path.display();
    let io =
        |error| Failure::failed(anyhow::Error::new(error).context(format!("cannot read `{name}`")));
    let mut text = String::new();
    fs::File::open(path)
        .map_err(io)?
        .take(MAX_BYTES + 1)
        .read_to_string(&mut text)
        .map_err(|error| match error.kind() {
            std::io::ErrorKind::InvalidData => Failure::unusable(anyhow::anyhow!(
                "`{name}` is not UTF-8 text; hint: is it a file of `tritbench tune`?"
            )),
            _ => io(error),
        })?;
    if text.len() as u64 > MAX_BYTES {
        return Err(Failure::unusable(anyhow::anyhow!(
            "`{name}` is longer than {MAX_BYTES} bytes; hint: is it a file of `tritbench tune`?"
        )));
    }
    TuneTable::parse(&text)
        .map_err(|error| Failure::unusable(anyhow::Error::new(error).context(format!("`{name}`"))))
}

/// The table to choose kernels by: none with `off`; the file that is named, whatever it was made by; else this machine's, where there is one
/// that this version measured.
pub(crate) fn table(asked: Option<&str>) -> Result<Option<Arc<TuneTable>>, Failure> {
    match asked {
        Some("off") => Ok(None),
        Some(path) => read(Path::new(path)).map(|table| Some(Arc::new(table))),
        None => {
            let machine = trit_measure::machine().fingerprint();
            let Some(path) = default_file(&machine).filter(|path| path.is_file()) else {
                return Ok(None);
            };
            let table = read(&path)?;
            if table.machine != machine || table.version != env!("CARGO_PKG_VERSION") {
                say(&format!(
                    "`{}` was measured by another version or machine and is left out; hint: run `tritbench tune` again",
                    path.display()
                ));
                return Ok(None);
            }
            Ok(Some(Arc::new(table)))
        }
    }
}
