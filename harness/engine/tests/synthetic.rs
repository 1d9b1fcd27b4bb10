//! Synthetic models: a file and the same model in memory hold the same weights.

use std::path::Path;

use trit_engine::file::{Checkpoint, FileOptions, Linear, LinearScale, Norm, TokenizerSource};
use trit_engine::inspect::{describe, inspect};
use trit_engine::synth::{Shape, checkpoint, file_bytes, write_gguf};

fn codes(checkpoint: &Checkpoint, layer: usize, linear: Linear) -> Vec<i8> {
    let source = checkpoint.linear(layer, linear).expect("it is there");
    let mut out = vec![9; source.rows() * source.k()];
    source
        .read_codes(0..source.rows(), &mut out)
        .expect("codes mean something");
    out
}

#[test]
fn a_file_and_memory_hold_the_same_model() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tiny.gguf");
    let shape = Shape::named("tiny").unwrap();
    write_gguf(&shape, 42, &path).unwrap();
    let file = Checkpoint::open(&path, &FileOptions::default()).unwrap();
    let memory = checkpoint(&shape, 42).unwrap();
    assert_eq!(file.config(), memory.config());
    let config = file.config();
    for layer in 0..config.layers {
        for linear in Linear::ALL {
            assert!(codes(&file, layer, linear) == codes(&memory, layer, linear));
            let (a, b) = (
                file.linear(layer, linear).unwrap(),
                memory.linear(layer, linear).unwrap(),
            );
            assert_eq!((a.scale(), a.name()), (b.scale(), b.name()));
            assert!(a.packed_i2s().is_some() && b.packed_i2s().is_none());
        }
        for norm in [Norm::Attn, Norm::AttnSub, Norm::Ffn, Norm::FfnSub] {
            assert_eq!(
                file.norm(Some(layer), norm).unwrap(),
                memory.norm(Some(layer), norm).unwrap()
            );
        }
    }
    assert_eq!(
        file.norm(None, Norm::Final).unwrap(),
        memory.norm(None, Norm::Final).unwrap()
    );
    let (a, b) = (file.embedding().unwrap(), memory.embedding().unwrap());
    assert!(a.f16().unwrap() == b.f16().unwrap());
    let (TokenizerSource::GgufBpe { tokens, .. }, TokenizerSource::GgufBpe { tokens: again, .. }) =
        (file.tokenizer().unwrap(), memory.tokenizer().unwrap())
    else {
        panic!("synthetic models have byte-level BPE");
    };
    assert_eq!(tokens, again);
    assert_eq!(file.tokenizer().unwrap(), memory.tokenizer().unwrap());
    // Sizes, types and roles are those that the generator announces.
    let seen = inspect(&path, &FileOptions::default()).unwrap();
    let mut announced = describe(&memory).unwrap();
    announced.tensors.sort_by(|a, b| a.name.cmp(&b.name));
    assert_eq!(seen.tensors, announced.tensors);
    assert_eq!(seen.types, announced.types);
    assert_eq!(seen.file_bytes, Some(file_bytes(&shape).unwrap()));
    assert_eq!(seen.bytes.unused, 0);
}

#[test]
fn seed_and_shape_decide_everything() {
    let shape = Shape::named("tiny").unwrap();
    let (one, two) = (
        checkpoint(&shape, 1).unwrap(),
        checkpoint(&shape, 2).unwrap(),
    );
    let again = checkpoint(&shape, 1).unwrap();
    assert!(codes(&one, 0, Linear::Q) == codes(&again, 0, Linear::Q));
    assert!(codes(&one, 0, Linear::Q) != codes(&two, 0, Linear::Q));
    assert!(codes(&one, 0, Linear::Q) != codes(&one, 1, Linear::Q));
    assert!(codes(&one, 0, Linear::Q) != codes(&one, 0, Linear::O));
    // A shorter model is the first layers of the longer one, but for the share of each layer in the residual stream.
    let short = checkpoint(&Shape::named("tiny:layers=1").unwrap(), 1).unwrap();
    assert_eq!(short.config().layers, 1);
    assert!(codes(&one, 0, Linear::Down) == codes(&short, 0, Linear::Down));
    // Known values: what a seed means must not change from version to version.
    assert_eq!(codes(&one, 0, Linear::Q)[..16], KNOWN);
}

/// The first weights of `tiny`, seed 1, layer 0, q, as another implementation of the definition gives them.
const KNOWN: [i8; 16] = [1, 1, 1, -1, 0, -1, -1, 0, 1, -1, 0, -1, 0, 0, 0, -1];

#[test]
fn activations_keep_their_size() {
    let shape = Shape::named("2b4t:layers=1").unwrap();
    let model = checkpoint(&shape, 7).unwrap();
    let source = model.linear(0, Linear::Down).unwrap();
    let LinearScale::Multiply(scale) = source.scale() else {
        panic!("synthetic scales multiply")
    };
    // Inputs of ±1: the variance of a sum is the number of weights that are not zero.
    let mut row = vec![0; source.k()];
    source.read_codes(5..6, &mut row).unwrap();
    let variance = row.iter().filter(|w| **w != 0).count() as f32 * scale * scale;
    assert!((variance * 2.0 - 1.0).abs() < 0.1, "{variance}");
}

#[test]
fn a_file_that_cannot_be_written_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let shape = Shape::named("tiny").unwrap();
    let error = write_gguf(&shape, 1, &dir.path().join("no/such/folder/m.gguf")).unwrap_err();
    assert!(
        error.is_io() && error.to_string().contains("no/such/folder/m.gguf"),
        "{error}"
    );
    // A folder stands where the file should be: everything is written and cannot take its name.
    let path = dir.path().join("taken");
    std::fs::create_dir_all(path.join("inside")).unwrap();
    let error = write_gguf(&shape, 1, &path).unwrap_err();
    assert!(
        error.is_io() && error.to_string().contains("taken"),
        "{error}"
    );
    let left: Vec<_> = std::fs::read_dir(dir.path()).unwrap().collect();
    assert_eq!(left.len(), 1, "{left:?}");
}

#[test]
fn a_file_replaces_what_was_there() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m.gguf");
    std::fs::write(&path, b"old").unwrap();
    let shape = Shape::named("tiny").unwrap();
    write_gguf(&shape, 1, &path).unwrap();
    let first = trit_engine::file::sha256(&path).unwrap();
    write_gguf(&shape, 1, Path::new(&path)).unwrap();
    assert_eq!(first, trit_engine::file::sha256(&path).unwrap());
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
}
