//! Cells of programs that are not ours.

use trit_core::{Cell, PlannedCell, Program, Station, Workload};

/// What a program of others is taken to need: to start, to load its file, and to read it for a token on one thread. Only
/// the order of magnitude matters, as for all estimates.
const PROGRAM_START_NS: u64 = 300_000_000;
const PROGRAM_LOAD_BYTES_PER_NS: u64 = 2;
const PROGRAM_READ_BYTES_PER_NS: u64 = 8;
/// Tokens of a prompt that take as long as one token alone.
const PROGRAM_SHARED_TOKENS: u64 = 6;

/// The cell of a program, one of its models of that many bytes and a number of threads.
pub(crate) fn program_cell(
    entry: &Program,
    index: usize,
    bytes: u64,
    threads: usize,
) -> PlannedCell {
    let model = entry.models[index].as_str();
    let decode = entry.workload == Workload::Decode;
    let subject = format!("program:{}", entry.name);
    let amount = if decode {
        format!("g{}", entry.gen_tokens)
    } else {
        format!("p{}", entry.prompt_tokens)
    };
    let depth = if entry.depth > 0 {
        format!("/d{}", entry.depth)
    } else {
        String::new()
    };
    let head = if entry.head.is_empty() || entry.head == "f16" {
        String::new()
    } else {
        format!("/head-{}", entry.head)
    };
    let workload = entry.workload;
    // It loads the file each time, and reads it for every token; many tokens at once share what is read.
    let loads_ns = PROGRAM_START_NS + bytes / PROGRAM_LOAD_BYTES_PER_NS;
    let reads = if decode {
        entry.gen_tokens
    } else {
        entry.prompt_tokens.div_ceil(PROGRAM_SHARED_TOKENS)
    };
    let token_ns = bytes / (PROGRAM_READ_BYTES_PER_NS * threads as u64);
    let visit_ns = loads_ns.saturating_add(reads.saturating_mul(token_ns));
    PlannedCell {
        cell: Cell {
            cell: format!("{subject}/{workload}/{model}/{amount}{depth}{head}/t{threads}"),
            subject,
            model: entry
                .same_as
                .get(index)
                .map_or(model, String::as_str)
                .to_owned(),
            workload,
            threads: Some(threads as u64),
            prompt_tokens: (!decode).then_some(entry.prompt_tokens),
            gen_tokens: decode.then_some(entry.gen_tokens),
            head: entry.head.clone(),
            depth: Some(entry.depth),
            batch: Some(1),
            answer: entry.answer(),
            ..Cell::default()
        },
        station: Station::Program,
        memory_bytes: bytes.saturating_mul(13) / 10 + (256 << 20),
        // Its check and ours, on slow kernels.
        setup_ns: if entry.check.is_some() {
            4 * visit_ns
        } else {
            0
        },
        visit_ns,
        program: Some(entry.task(model, threads)),
        ..PlannedCell::default()
    }
}
