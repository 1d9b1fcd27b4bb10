//! Small text files that commands take: suites and limits.

use std::fs;
use std::io::Read;
use std::path::Path;

use trit_core::Limits;

use crate::exit::Failure;

/// The longest file that is read: a hundred times the longest that is shipped.
const MAX_BYTES: u64 = 1 << 20;

/// The text of a file; `what` it should be names it in errors.
pub(crate) fn text(what: &str, path: &Path) -> Result<String, Failure> {
    let name = path.display();
    let io = |error| {
        Failure::failed(anyhow::Error::new(error).context(format!("cannot read {what} `{name}`")))
    };
    let mut bytes = Vec::new();
    fs::File::open(path)
        .map_err(io)?
        .take(MAX_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(io)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(Failure::unusable(anyhow::anyhow!(
            "{what} `{name}` is longer than {MAX_BYTES} bytes; hint: is it a TOML file?"
        )));
    }
    String::from_utf8(bytes)
        .map_err(|_| Failure::unusable(anyhow::anyhow!("{what} `{name}` is not UTF-8 text")))
}

/// The limits in a file; without one, the defaults and no budget.
pub(crate) fn limits(path: Option<&Path>) -> Result<Limits, Failure> {
    let Some(path) = path else {
        return Ok(Limits::default());
    };
    let text = text("limits", path)?;
    Limits::parse(&path.display().to_string(), &text).map_err(Failure::unusable)
}
