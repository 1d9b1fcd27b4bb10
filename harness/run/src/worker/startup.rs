//! From a file to the first token: models whose way into memory is measured.

use std::fs::{File, read_dir};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use trit_engine::file::weight_files;
use trit_engine::{CacheUse, Engine, ModelName};
use trit_kernel::Cpu;
use trit_measure::sys::{FileMap, drop_file_pages, trim_heap};
use trit_measure::{Clock, MonotonicClock};

use super::Fault;
use super::engine::{fault, greedy, load, prompts};
use crate::protocol::Task;

/// Whether the task says how the model is to be loaded.
pub(super) fn counts(task: &Task) -> bool {
    !task.page_cache.is_empty() || !task.packed_cache.is_empty()
}

/// Loads a model whose files are in the page cache or not, as the task wants, and processes the first prompt. The time to load
/// it, and the time from then to the first token with it.
pub(super) fn start(task: &Task, cpu: Cpu) -> Result<(Engine, u64, Option<u64>), Fault> {
    let name = ModelName::parse(Path::new(&task.model)).map_err(Fault::unsupported)?;
    let ModelName::File(path) = name else {
        return Err(Fault::unsupported(format!(
            "`{}` is made in memory: only files are in a page cache or packed on disk",
            task.model
        )));
    };
    let mut files = weight_files(&path).map_err(|error| fault(&error.into()))?;
    if !task.packed_cache.is_empty() {
        keep_packed(task, cpu)?;
        files.extend(kept(Path::new(&task.packed_cache))?);
    }
    for file in &files {
        let done = match task.page_cache.as_str() {
            "" => Ok(()),
            "cold" => cool(file),
            _ => warm(file),
        };
        done.map_err(|error| match error {
            Pages::Io(error) => Fault::failed(format!("`{}`: {error}", file.display())),
            Pages::Other(reason) => Fault::unsupported(format!("`{}` {reason}", file.display())),
        })?;
    }
    let start = MonotonicClock.now_ns();
    let engine = load(task, cpu)?;
    let load_ns = MonotonicClock.now_ns() - start;
    if !task.packed_cache.is_empty() && *engine.cache_use() != CacheUse::Read {
        return Err(Fault::failed(format!(
            "the packed weights that were just kept were not read: {:?}",
            engine.cache_use()
        )));
    }
    let (prompts, _) = prompts(task, &engine, 0)?;
    let prompt = &prompts[0];
    let mut session = engine
        .session(prompt.len())
        .map_err(|error| fault(&error))?;
    let logits = session.prefill(prompt).map_err(|error| fault(&error))?;
    std::hint::black_box(greedy(logits));
    let first_token_ns = MonotonicClock.now_ns() - start;
    drop(session);
    Ok((engine, load_ns, Some(first_token_ns)))
}

/// Makes sure that packed weights of the model are on the disk.
fn keep_packed(task: &Task, cpu: Cpu) -> Result<(), Fault> {
    let engine = load(task, cpu)?;
    match engine.cache_use() {
        CacheUse::Read | CacheUse::Written | CacheUse::Replaced(_) => {}
        CacheUse::Unused => {
            return Err(Fault::unsupported(format!(
                "`{}` reads the model's file as it is: there is nothing to keep packed",
                engine.kernel_id()
            )));
        }
        CacheUse::NotKept(why) => {
            return Err(Fault::failed(format!(
                "the packed weights could not be kept: {why}"
            )));
        }
    }
    drop(engine);
    trim_heap();
    Ok(())
}

/// The files of packed weights in a directory.
fn kept(dir: &Path) -> Result<Vec<PathBuf>, Fault> {
    let entries = read_dir(dir).and_then(Iterator::collect::<io::Result<Vec<_>>>);
    let entries =
        entries.map_err(|error| Fault::failed(format!("`{}`: {error}", dir.display())))?;
    Ok(entries.into_iter().map(|entry| entry.path()).collect())
}

/// Why the page cache is not as it has to be.
enum Pages {
    /// A system call failed.
    Io(io::Error),
    /// It holds something else; what, behind the name of the file.
    Other(String),
}

impl From<io::Error> for Pages {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Takes a file out of the page cache.
fn cool(path: &Path) -> Result<(), Pages> {
    drop_file_pages(&File::open(path)?)?;
    let map = FileMap::open(path)?;
    match map.resident_bytes()? {
        0 => Ok(()),
        stayed => Err(Pages::Other(format!(
            "stayed in the page cache with {stayed} of {} bytes, so that nothing here is cold; hint: end the programs that have it \
             open, and keep it on a disk and not in memory",
            map.bytes().len()
        ))),
    }
}

/// How much of a file has to be in the page cache that is called warm, in percent: systems that reclaim on their own take single pages
/// away at any time.
const WARM_PERCENT: usize = 99;

/// Reads a file into the page cache, again where pages went meanwhile.
fn warm(path: &Path) -> Result<(), Pages> {
    let map = FileMap::open(path)?;
    let bytes = map.bytes().len();
    let mut there = 0;
    for _ in 0..3 {
        let mut file = File::open(path)?;
        let mut piece = vec![0; 1 << 20];
        while file.read(&mut piece)? > 0 {}
        there = map.resident_bytes()?;
        if there == bytes {
            break;
        }
    }
    if is_warm(there, bytes) {
        Ok(())
    } else {
        Err(Pages::Other(format!(
            "is in the page cache with {there} of {bytes} bytes only, though it was just read; hint: free memory for it"
        )))
    }
}

fn is_warm(there: usize, bytes: usize) -> bool {
    there >= bytes - bytes / 100 * (100 - WARM_PERCENT)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    /// A file beside the test's program: on a disk.
    fn on_disk(bytes: usize) -> tempfile::NamedTempFile {
        let program = std::env::current_exe().unwrap();
        let mut file = tempfile::NamedTempFile::new_in(program.parent().unwrap()).unwrap();
        file.write_all(&vec![7; bytes]).unwrap();
        file.flush().unwrap();
        file
    }

    #[test]
    fn a_file_is_warm_and_then_cold() {
        let file = on_disk(3_000_001);
        let resident = || {
            FileMap::open(file.path())
                .unwrap()
                .resident_bytes()
                .unwrap()
        };
        assert!(warm(file.path()).is_ok());
        assert_eq!(resident(), 3_000_001);
        assert!(cool(file.path()).is_ok());
        assert_eq!(resident(), 0);
    }

    #[test]
    fn a_page_may_be_missing_from_a_warm_file_and_no_more() {
        assert!(is_warm(0, 0) && is_warm(4096, 4096) && is_warm(1_000_000_000, 1_004_000_000));
        assert!(!is_warm(0, 4096) && !is_warm(980_000_000, 1_000_000_000));
    }

    #[test]
    fn a_file_that_somebody_maps_is_not_called_cold() {
        let file = on_disk(3_000_001);
        let map = FileMap::open(file.path()).unwrap();
        assert!(map.bytes().iter().all(|byte| *byte == 7));
        let Err(Pages::Other(reason)) = cool(file.path()) else {
            panic!("its pages are mapped");
        };
        assert!(
            reason.contains("of 3000001 bytes") && reason.contains("hint"),
            "{reason}"
        );
        drop(map);
        assert!(cool(file.path()).is_ok());
    }
}
