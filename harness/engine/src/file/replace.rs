//! Files and folders that appear under their name when they are complete.

use std::fs::{File, Permissions};
use std::io::{BufWriter, Write};
use std::path::Path;

use super::error::{FileError, FileName};

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    }
}

/// Writes a file beside `path` and renames it when it is complete; what was there is replaced. On an error nothing is left
/// behind.
pub(crate) fn write_file(
    path: &Path,
    write: impl FnOnce(&FileName, &mut BufWriter<&mut File>) -> Result<(), FileError>,
) -> Result<(), FileError> {
    let file = FileName::of(path);
    let mut builder = tempfile::Builder::new();
    builder.prefix(".model-").suffix(".part");
    open_to_others(&mut builder, 0o666);
    let mut part = builder
        .tempfile_in(parent(path))
        .map_err(|e| file.io("create", e))?;
    let mut out = BufWriter::new(part.as_file_mut());
    write(&file, &mut out)?;
    out.flush().map_err(|e| file.io("write", e))?;
    drop(out);
    part.as_file().sync_all().map_err(|e| file.io("write", e))?;
    part.persist(path)
        .map_err(|e| file.io("rename the finished file to", e.error))?;
    Ok(())
}

/// Fills a folder beside `path` and renames it when it is complete. A folder that holds something is not replaced. On an error
/// nothing is left behind.
pub(crate) fn write_folder(
    path: &Path,
    fill: impl FnOnce(&Path) -> Result<(), FileError>,
) -> Result<(), FileError> {
    let file = FileName::of(path);
    if let Ok(mut entries) = std::fs::read_dir(path) {
        if entries.next().is_some() {
            return Err(file.unsupported(
                "folder",
                "holds something already",
                "name a new folder, or empty this one",
            ));
        }
    } else if path.exists() {
        return Err(file.unsupported(
            "folder",
            "is a file",
            "name a new folder: safetensors come with a config.json",
        ));
    }
    let mut builder = tempfile::Builder::new();
    builder.prefix(".model-").suffix(".part");
    open_to_others(&mut builder, 0o777);
    let part = builder
        .tempdir_in(parent(path))
        .map_err(|e| file.io("create", e))?;
    fill(part.path())?;
    // Over an empty folder where there is one.
    std::fs::rename(part.path(), path).map_err(|e| file.io("rename the finished folder to", e))?;
    // It is not there any more under the name that would be removed.
    let _ = part.keep();
    Ok(())
}

/// As anything new: what the umask leaves of it. The default of temporary files would lock others out.
fn open_to_others(builder: &mut tempfile::Builder<'_, '_>, mode: u32) {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(Permissions::from_mode(mode));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_left_of_what_failed_and_what_was_there_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m.gguf");
        std::fs::write(&path, "old").unwrap();
        let full = |file: &FileName| Err(file.io("write", std::io::ErrorKind::StorageFull.into()));
        let error = write_file(&path, |file, out| {
            out.write_all(b"new").map_err(|e| file.io("write", e))?;
            full(file)
        })
        .unwrap_err();
        assert!(error.is_io());
        assert_eq!(std::fs::read(&path).unwrap(), b"old");
        let folder = dir.path().join("model");
        let error = write_folder(&folder, |at| {
            std::fs::write(at.join("config.json"), "{}").unwrap();
            full(&FileName::of(at))
        })
        .unwrap_err();
        assert!(error.is_io());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        write_file(&path, |file, out| {
            out.write_all(b"new").map_err(|e| file.io("write", e))
        })
        .unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
        std::fs::create_dir(&folder).unwrap();
        let fill = |at: &Path| {
            std::fs::write(at.join("config.json"), "{}").unwrap();
            Ok(())
        };
        write_folder(&folder, fill).unwrap();
        assert!(folder.join("config.json").is_file());
        for taken in [&folder, &path] {
            let error = write_folder(taken, fill).unwrap_err().to_string();
            assert!(error.contains("hint: name a new folder"), "{error}");
        }
    }
}
