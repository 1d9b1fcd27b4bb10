//! Names of cells for people.

use std::path::Path;

use trit_core::{Cell, Workload};

/// Tokens of a prefill chunk, and type of heads and caches, that go without saying.
const USUAL_UBATCH: u64 = 512;
const USUAL_TYPE: &str = "f16";

/// What is multiplied or generated, without the workload: `2560x2560`, `2560x2560, 32 tokens`, `synth:2b4t, 128 tokens`.
pub(crate) fn shape(cell: &Cell) -> String {
    let tokens = |count: Option<u64>| {
        count.map(|count| match count {
            1 => "1 token".to_owned(),
            _ => format!("{count} tokens"),
        })
    };
    let mut parts = Vec::new();
    if cell.model.is_empty() {
        let probe = cell.subject.starts_with("probe:");
        match (cell.rows, cell.k) {
            (Some(rows), Some(k)) if !probe => parts.push(format!("{rows}x{k}")),
            (None, Some(k)) if !probe => parts.push(format!("k {k}")),
            _ => {}
        }
        if matches!(cell.workload, Workload::Gemm | Workload::Prepare) {
            parts.extend(tokens(cell.tokens));
        }
    } else {
        parts.push(model(cell));
        if !cell.prompt.is_empty() {
            parts.push(cell.prompt.clone());
        }
        if cell.workload == Workload::Prefill {
            parts.extend(tokens(cell.prompt_tokens));
            let ubatch = cell.ubatch.filter(|ubatch| *ubatch != USUAL_UBATCH);
            parts.extend(ubatch.map(|ubatch| format!("ubatch {ubatch}")));
        }
        let depth = cell.depth.filter(|depth| *depth > 0);
        parts.extend(depth.map(|depth| format!("depth {depth}")));
        for (what, kind) in [("KV", &cell.kv), ("head", &cell.head)] {
            if !kind.is_empty() && kind != USUAL_TYPE {
                parts.push(format!("{what} {kind}"));
            }
        }
        parts.extend(
            cell.batch
                .filter(|batch| *batch > 1)
                .map(|batch| format!("batch {batch}")),
        );
        if !cell.page_cache.is_empty() {
            parts.push(format!("page cache {}", cell.page_cache));
        }
        if !cell.packed_cache.is_empty() {
            parts.push("packed cache".to_owned());
        }
    }
    parts.join(", ")
}

/// The model's name: of a path, the last part.
pub(crate) fn model(cell: &Cell) -> String {
    if cell.model.starts_with("synth:") {
        return cell.model.clone();
    }
    Path::new(&cell.model).file_name().map_or_else(
        || cell.model.clone(),
        |name| name.to_string_lossy().into_owned(),
    )
}

/// Who did it: the kernel, or the subject where there is none.
pub(crate) fn subject(cell: &Cell) -> &str {
    if cell.kernel.is_empty() {
        &cell.subject
    } else {
        &cell.kernel
    }
}

/// `1 thread`, `2 threads`.
pub(crate) fn threads(count: u64) -> String {
    if count == 1 {
        "1 thread".to_owned()
    } else {
        format!("{count} threads")
    }
}

/// The whole cell in one line.
pub(crate) fn full(cell: &Cell) -> String {
    let mut parts = vec![
        subject(cell).to_owned(),
        cell.workload.name().to_owned(),
        shape(cell),
    ];
    parts.extend(cell.threads.map(threads));
    parts.retain(|part| !part.is_empty());
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_have_short_names() {
        let gemm = Cell {
            kernel: "w2a8-mad-avx2".into(),
            rows: Some(640),
            k: Some(2560),
            tokens: Some(32),
            threads: Some(1),
            workload: Workload::Gemm,
            ..Cell::default()
        };
        assert_eq!(
            full(&gemm),
            "w2a8-mad-avx2, gemm, 640x2560, 32 tokens, 1 thread"
        );
        let prepare = Cell {
            rows: None,
            workload: Workload::Prepare,
            ..gemm.clone()
        };
        assert_eq!(shape(&prepare), "k 2560, 32 tokens");
        let one = Cell {
            tokens: Some(1),
            ..prepare
        };
        assert_eq!(shape(&one), "k 2560, 1 token");
        let dispatch = Cell {
            rows: None,
            k: None,
            workload: Workload::Dispatch,
            threads: Some(2),
            ..gemm
        };
        assert_eq!(full(&dispatch), "w2a8-mad-avx2, dispatch, 2 threads");
        let probe = Cell {
            subject: "probe:read".into(),
            rows: Some(1),
            k: Some(64),
            workload: Workload::Read,
            ..Cell::default()
        };
        assert_eq!(full(&probe), "probe:read, read");
        let model = Cell {
            model: "/models/a.gguf".into(),
            depth: Some(512),
            workload: Workload::Decode,
            ..Cell::default()
        };
        assert_eq!(shape(&model), "a.gguf, depth 512");
        let synth = Cell {
            model: "synth:125m".into(),
            prompt_tokens: Some(64),
            workload: Workload::Prefill,
            ..Cell::default()
        };
        assert_eq!(shape(&synth), "synth:125m, 64 tokens");
    }
}
