//! From a planned cell to what a worker is told.

use trit_core::{
    Plan, PlannedCell, ProgramOutput, Rng, Station, Workload, embedded_prompt, synthetic_shape,
};

use crate::protocol::{Job, Task};

/// The kernel whose answers count.
const REFERENCE_KERNEL: &str = "w2a8-naive-scalar";
/// The kernel whose answers count for large models, on which the naive one takes more than ten times as long. It is
/// portable code as well, and its own micro cells are compared with the definition.
const LARGE_REFERENCE_KERNEL: &str = "w2a8-swar-scalar";
/// Models of more ternary weights than this are large.
const LARGE_WEIGHTS: u64 = 500_000_000;

/// The kernel that answers for a model.
fn model_reference(model: &str) -> &'static str {
    // Of a file, four weights a byte at most.
    let of_file = || std::fs::metadata(model).map_or(0, |facts| facts.len().saturating_mul(4));
    let weights = synthetic_shape(model).map_or_else(of_file, |shape| shape.linear_weights());
    if weights > LARGE_WEIGHTS {
        LARGE_REFERENCE_KERNEL
    } else {
        REFERENCE_KERNEL
    }
}

/// What a worker has to know to set a cell up. `working_set_bytes` is that of the other side for a read probe.
pub(crate) fn task_of(plan: &Plan, planned: &PlannedCell) -> Task {
    let cell = &planned.cell;
    let job = match cell.workload {
        _ if planned.station == Station::Program => Job::Program,
        Workload::GemvCold | Workload::GemvWarm | Workload::Gemm => Job::Multiply,
        Workload::Prepare => Job::Prepare,
        Workload::Pack => Job::Pack,
        Workload::Dispatch if cell.subject == "dispatch:rayon" => Job::DispatchRayon,
        Workload::Dispatch => Job::DispatchTeam,
        Workload::Read => Job::Read,
        Workload::Peak => Job::Peak,
        // An imported benchmark is in no plan: suites have no word for it.
        Workload::Control | Workload::Bench => Job::Control,
        Workload::Prefill => Job::Prefill,
        Workload::Decode | Workload::Chat => Job::Decode,
    };
    let bytes_per_call = cell.bytes_per_call.unwrap_or(0);
    let working_set_bytes = match (cell.workload, cell.cache.as_str()) {
        (Workload::GemvCold, _) | (Workload::Read, "cold") => plan.cold_bytes,
        (Workload::Read, _) => bytes_per_call,
        _ => 0,
    };
    Task {
        job,
        kernel: cell.kernel.clone(),
        rows: cell.rows.unwrap_or(0),
        k: cell.k.unwrap_or(0),
        tokens: cell.tokens.unwrap_or(1),
        threads: cell.threads.unwrap_or(1),
        working_set_bytes,
        bytes_per_call: if job == Job::Read { bytes_per_call } else { 0 },
        seed: plan.seed,
        // Each kernel's worker has its own page offset; which one is seeded.
        page_seed: Rng::named(plan.seed, &cell.subject).next_u64(),
        symmetric: cell.kernel.contains("-dense-"),
        // A cell of a program may stand beside another file with the same weights.
        model: planned
            .program
            .as_ref()
            .map_or_else(|| cell.model.clone(), |program| program.model.clone()),
        kv: cell.kv.clone(),
        head: cell.head.clone(),
        ubatch: cell.ubatch.unwrap_or(0),
        prompt_tokens: cell.prompt_tokens.unwrap_or(0),
        gen_tokens: cell.gen_tokens.unwrap_or(0),
        depth: cell.depth.unwrap_or(0),
        batch: cell.batch.unwrap_or(1),
        page_cache: cell.page_cache.clone(),
        // Where, the master knows.
        packed_cache: String::new(),
        prompt_text: embedded_prompt(&cell.prompt).unwrap_or_default().to_owned(),
        added_work: 0.0,
        // Of our own workers the master knows; programs are watched by theirs.
        max_rss_bytes: plan
            .max_rss_bytes
            .filter(|_| job == Job::Program)
            .unwrap_or(0),
        program: planned.program.clone(),
    }
}

/// What the reference worker is asked for a task: the same answers, whatever kernel, threads and memory.
pub(crate) fn reference_task(task: &Task, threads: u64) -> Task {
    let mut reference = Task {
        kernel: REFERENCE_KERNEL.to_owned(),
        threads,
        page_seed: 0,
        added_work: 0.0,
        ..task.clone()
    };
    match task.job {
        Job::Multiply | Job::Prepare => {
            reference.job = Job::Multiply;
            // One matrix or one for each input set: how many copies there are makes no difference.
            reference.working_set_bytes = task.working_set_bytes.min(1);
        }
        Job::Prefill | Job::Decode => {
            model_reference(&task.model).clone_into(&mut reference.kernel);
            // Four tokens of one model: neither depth, chunks, sequences nor the amount of work make a difference.
            reference.job = Job::Decode;
            reference.prompt_tokens = 0;
            reference.gen_tokens = 0;
            reference.depth = 0;
            reference.ubatch = 0;
            reference.batch = 0;
            reference.page_cache.clear();
            reference.packed_cache.clear();
            reference.prompt_text.clear();
        }
        // The engine on as portable a kernel as models of that size permit, with everything in f32.
        Job::Program => {
            // Its own file may have a form that only it reads; ours has the same weights, or the check will show that it has not.
            let like = task.program.as_ref().map(|program| &program.like);
            if let Some(like) = like.filter(|like| !like.is_empty()) {
                reference.model.clone_from(like);
            }
            model_reference(&reference.model).clone_into(&mut reference.kernel);
            for float in [&mut reference.kv, &mut reference.head] {
                "f32".clone_into(float);
            }
            reference.max_rss_bytes = 0;
            // What is asked is the same text, whatever the rest of the cell measures.
            if let Some(program) = &mut reference.program {
                program.command.clear();
                program.model.clear();
                program.like.clear();
                program.output = ProgramOutput::default();
                program.prefill = false;
                if let Some(check) = &mut program.check {
                    check.command.clear();
                    check.model.clear();
                    check.same_as.clear();
                }
            }
            reference.prompt_tokens = 0;
            reference.gen_tokens = 0;
            reference.depth = 0;
        }
        _ => {}
    }
    reference
}

/// Whether what a task answers is compared with the reference's.
pub(crate) fn has_reference(task: &Task) -> bool {
    let checked = || {
        let program = task.program.as_ref();
        program.is_some_and(|program| program.check.is_some())
    };
    match task.job {
        Job::Multiply | Job::Prepare | Job::Pack | Job::Prefill | Job::Decode => true,
        Job::Program => checked(),
        _ => false,
    }
}
