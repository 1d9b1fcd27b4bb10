//! What `generate`, `logits` and `eval` share: a model, opened as the flags ask.

use std::path::Path;

use trit_engine::{
    ActivationType, CacheUse, Engine, EngineError, EngineOptions, HeadType, KvType, ModelName,
    PackedCache,
};

use crate::args::{ComputeArgs, ExpectArg, FileArgs, PrecisionArgs};
use crate::cmd::file_failure;
use crate::exit::Failure;
use crate::out::say;
use crate::probe::{self, Verdict};
use crate::tuned;

/// Refuses a model whose file is not the one that was expected. It is read whole for that.
pub(crate) fn expect(model: &Path, expect: &ExpectArg) -> Result<(), Failure> {
    let Some(want) = &expect.expect_sha256 else {
        return Ok(());
    };
    let place = model.display();
    let found = ModelName::parse(model)
        .map_err(Failure::usage)?
        .sha256()
        .map_err(file_failure)?;
    let Some(found) = found else {
        return Err(Failure::usage(anyhow::anyhow!(
            "--expect-sha256, and `{place}` is no file; hint: leave it out"
        )));
    };
    if found != *want {
        return Err(Failure::unusable(anyhow::anyhow!(
            "`{place}` has the SHA-256 {found}, and not {want}; hint: it is another file, or was not downloaded whole"
        )));
    }
    Ok(())
}

/// Opens a model by its name. The kernel is probed in a process of its own before it is used here.
pub(crate) fn open(
    model: &Path,
    compute: &ComputeArgs,
    precision: &PrecisionArgs,
    file: &FileArgs,
    seed: u64,
) -> Result<Engine, Failure> {
    let activations = ActivationType::default();
    open_as(model, compute, precision, activations, file, seed)
}

/// As [`open`], with a choice of activations.
pub(crate) fn open_as(
    model: &Path,
    compute: &ComputeArgs,
    precision: &PrecisionArgs,
    activations: ActivationType,
    file: &FileArgs,
    seed: u64,
) -> Result<Engine, Failure> {
    let cpu = probe::cpu()?;
    let word = |error: EngineError| engine_failure(error);
    let mut options = EngineOptions::new(
        compute
            .threads
            .unwrap_or_else(trit_measure::default_threads),
        cpu,
    );
    options.kv = precision.kv.parse::<KvType>().map_err(word)?;
    if let Some(head) = &precision.head {
        options.head = head.parse::<HeadType>().map_err(word)?;
    }
    options.activations = activations;
    options.ubatch = compute.ubatch;
    options.max_memory_bytes = compute
        .max_memory
        .map(|mb| (mb as u64).saturating_mul(1_000_000));
    options.file = file.options();
    options.kernel = kernel(compute.kernel.as_deref())?;
    if options.kernel.is_none() {
        options.tune = tuned::table(compute.tune.as_deref())?;
    }
    let name = ModelName::parse(model).map_err(Failure::usage)?;
    let checkpoint = name.checkpoint(seed, &options.file).map_err(file_failure)?;
    if let (Some(dir), ModelName::File(path)) = (&compute.packed_cache, &name) {
        options.cache = Some(PackedCache::new(dir, path).map_err(file_failure)?);
    }
    let engine = Engine::load(&checkpoint, &options).map_err(word)?;
    let told = match engine.cache_use() {
        CacheUse::Unused | CacheUse::Read => None,
        CacheUse::Written => Some("kept the packed weights for the next time".to_owned()),
        CacheUse::Replaced(why) => Some(format!("packed the weights anew: what was kept {why}")),
        CacheUse::NotKept(why) => Some(format!("the packed weights could not be kept: {why}")),
    };
    if let Some(told) = told {
        say(&told);
    }
    Ok(engine)
}

/// The kernel to ask for; `None` lets the engine choose.
fn kernel(asked: Option<&str>) -> Result<Option<String>, Failure> {
    if let Some(id) = asked {
        trit_kernels::find(id).map_err(Failure::usage)?;
        return match probe::one_in_child(id)? {
            Verdict::Available => Ok(Some(id.to_owned())),
            Verdict::Unavailable(reason) | Verdict::Trapped(reason) => {
                Err(Failure::unusable(anyhow::anyhow!(
                    "kernel `{id}` is unavailable: {reason}; hint: `tritbench kernels` lists those that run here"
                )))
            }
        };
    }
    // The engine opens kernels until one fits. Should one of them trap, it must not be asked to choose.
    let mut trapped = false;
    let mut usable = None;
    for (id, verdict) in probe::in_child(&probe::ternary())? {
        match verdict {
            Verdict::Available => usable = Some(id.to_owned()),
            Verdict::Unavailable(_) => {}
            Verdict::Trapped(_) => trapped = true,
        }
    }
    Ok(usable.filter(|_| trapped))
}

/// The exit code of an error of the engine.
pub(crate) fn engine_failure(error: EngineError) -> Failure {
    match error {
        EngineError::File(error) => file_failure(error),
        EngineError::Team(_)
        | EngineError::UnknownKernel(_)
        | EngineError::Option { .. }
        | EngineError::NoTokens
        | EngineError::Token { .. }
        | EngineError::Positions { .. }
        | EngineError::Context { .. } => Failure::usage(error),
        EngineError::Allocation { .. } => Failure::failed(error),
        other => Failure::unusable(other),
    }
}
