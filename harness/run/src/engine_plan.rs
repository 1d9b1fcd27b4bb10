//! Cells of whole models.

use trit_core::{
    Cell, ModelOptions, ModelRequest, ModelShape, PlannedCell, Station, Workload, embedded_prompt,
    prompt_estimate, synthetic_shape,
};

use crate::estimate::{Estimate, kv_memory, model_memory};
use crate::planner::PlanContext;

/// What a cell of a whole model is of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EngineWork<'a> {
    pub(crate) model: &'a str,
    pub(crate) kernel: &'a str,
    pub(crate) threads: usize,
    pub(crate) options: ModelOptions<'a>,
    pub(crate) request: &'a ModelRequest,
}

/// The id of a cell: what differs from the usual is part of it.
fn id(work: &EngineWork<'_>) -> String {
    let EngineWork {
        model,
        kernel,
        threads,
        options,
        request,
    } = *work;
    let mut parts = vec![
        format!("engine:{kernel}"),
        request.workload.to_string(),
        model.to_owned(),
    ];
    parts.push(if request.prompt.is_empty() {
        format!("p{}", request.prompt_tokens)
    } else {
        request.prompt.clone()
    });
    let decode = request.workload == Workload::Decode;
    let unusual = [
        (decode, format!("g{}", request.gen_tokens)),
        (request.batch > 1, format!("b{}", request.batch)),
        (request.depth > 0, format!("d{}", request.depth)),
        (options.kv != "f16", format!("kv-{}", options.kv)),
        (options.head != "f16", format!("head-{}", options.head)),
        (options.ubatch != 512, format!("u{}", options.ubatch)),
        (
            !options.page_cache.is_empty(),
            format!("page-{}", options.page_cache),
        ),
        (options.packed_cache, "packed".to_owned()),
    ];
    let unusual = unusual.into_iter().filter(|(is, _)| *is);
    parts.extend(unusual.map(|(_, part)| part));
    parts.push(format!("t{threads}"));
    parts.join("/")
}

/// The cell of one kind of request to a model.
pub(crate) fn engine_cell(context: &PlanContext, work: &EngineWork<'_>) -> PlannedCell {
    let EngineWork {
        model,
        kernel,
        threads,
        options,
        request,
    } = *work;
    let decode = request.workload == Workload::Decode;
    let facts = context.facts(kernel);
    let shape = synthetic_shape(model);
    let file_bytes = context.model_bytes.get(model).copied();
    let estimate = Estimate::of(facts);
    let (weights, head) = match (&shape, file_bytes) {
        (Some(shape), _) => (shape.linear_weights(), shape.embedding_weights()),
        // A file is mostly two-bit weights.
        (None, Some(bytes)) => (bytes.saturating_mul(2), bytes / 4),
        (None, None) => (0, 0),
    };
    // How many tokens a text is, the model's tokenizer says when it is loaded.
    let text = embedded_prompt(&request.prompt);
    let prompt_tokens = text.map_or(request.prompt_tokens, prompt_estimate);
    let positions = request.depth + prompt_tokens + request.gen_tokens;
    let setup_ns = estimate.engine_setup_ns(weights, head, request.batch);
    let kv = |shape: &ModelShape| kv_memory(shape, positions).saturating_mul(request.batch);
    PlannedCell {
        cell: Cell {
            cell: id(work),
            subject: format!("engine:{kernel}"),
            kernel: kernel.to_owned(),
            layout: facts.map_or_else(String::new, |facts| facts.layout.clone()),
            weight_bits: facts.map(|facts| facts.weight_bits),
            isa: facts.map_or_else(String::new, |facts| facts.isa.clone()),
            model: model.to_owned(),
            workload: request.workload,
            threads: Some(threads as u64),
            head: options.head.to_owned(),
            kv: options.kv.to_owned(),
            prompt: request.prompt.clone(),
            prompt_tokens: text.is_none().then_some(request.prompt_tokens),
            gen_tokens: decode.then_some(request.gen_tokens),
            depth: Some(request.depth),
            batch: Some(request.batch),
            ubatch: Some(options.ubatch),
            page_cache: options.page_cache.to_owned(),
            packed_cache: if options.packed_cache { "yes" } else { "" }.to_owned(),
            ..Cell::default()
        },
        station: Station::Engine,
        memory_bytes: shape.as_ref().map_or_else(
            || file_bytes.unwrap_or(0).saturating_mul(13) / 10 + (256 << 20),
            |shape| model_memory(shape, estimate.weight_bits).saturating_add(kv(shape)),
        ),
        setup_ns,
        visit_ns: estimate
            .engine_visit_ns(
                weights,
                head,
                threads,
                prompt_tokens,
                request.gen_tokens,
                request.batch,
            )
            // Each visit loads the model.
            .saturating_add(if options.starts() { setup_ns } else { 0 }),
        ..PlannedCell::default()
    }
}
