//! Packed weights that are kept: the same answers, and packed anew when the model file is another one.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use trit_engine::{CacheUse, Engine, EngineOptions, HeadType, PackedCache};
use trit_kernel::{Cpu, LayoutId};

const TOKENS: [u32; 5] = [1, 40, 300, 7, 11];

fn model(dir: &Path) -> PathBuf {
    let path = dir.join("model.gguf");
    let asset = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/shakespeare.gguf");
    fs::copy(asset, &path).unwrap();
    path
}

/// The logits behind a prompt, and what became of the cache.
fn load(model: &Path, kernel: &str, cache: Option<&Path>) -> (Vec<f32>, CacheUse, LayoutId) {
    load_head(model, kernel, HeadType::F16, cache)
}

fn load_head(
    model: &Path,
    kernel: &str,
    head: HeadType,
    cache: Option<&Path>,
) -> (Vec<f32>, CacheUse, LayoutId) {
    let mut options = EngineOptions::new(1, Cpu::from_env().unwrap());
    options.kernel = Some(kernel.to_owned());
    options.head = head;
    options.cache = cache.map(|dir| PackedCache::new(dir, model).unwrap());
    let engine = Engine::open(model, &options).unwrap();
    let mut session = engine.session(8).unwrap();
    let logits = session.prefill(&TOKENS).unwrap().to_vec();
    (logits, engine.cache_use().clone(), engine.layout())
}

#[test]
fn kept_weights_give_the_same_logits() {
    let dir = tempfile::tempdir().unwrap();
    let (model, cache) = (model(dir.path()), dir.path().join("cache"));
    let cpu = Cpu::from_env().unwrap();
    let available = trit_kernels::kernels().iter();
    let available = available.filter(|entry| (entry.open)(cpu).is_ok());
    let mut packed = Vec::new();
    for entry in available {
        let id = entry.info.id;
        let (plain, used, layout) = load(&model, id, None);
        assert_eq!(used, CacheUse::Unused);
        let (first, used, _) = load(&model, id, Some(&cache));
        // The file has this layout: it is read where it lies. Kernels of one layout share what is kept.
        let expected = match layout {
            LayoutId::I2S => CacheUse::Unused,
            _ if packed.contains(&layout) => CacheUse::Read,
            _ => CacheUse::Written,
        };
        assert_eq!(used, expected, "{id}");
        let (second, used, _) = load(&model, id, Some(&cache));
        if layout == LayoutId::I2S {
            assert_eq!(used, CacheUse::Unused, "{id}");
        } else {
            assert_eq!(used, CacheUse::Read, "{id}");
            packed.push(layout);
        }
        assert!(plain == first && plain == second, "{id}");
    }
    packed.sort();
    packed.dedup();
    let kept = fs::read_dir(&cache).map_or(0, Iterator::count);
    assert_eq!(kept, packed.len());
}

#[test]
fn another_file_is_packed_anew() {
    let dir = tempfile::tempdir().unwrap();
    let (model, cache) = (model(dir.path()), dir.path().join("cache"));
    let cpu = Cpu::from_env().unwrap();
    let mut kernels = trit_kernels::kernels().iter();
    let Some(kernel) =
        kernels.find(|entry| entry.info.accepts[0] != LayoutId::I2S && (entry.open)(cpu).is_ok())
    else {
        eprintln!("SKIPPED: every kernel of this machine reads the file as it is");
        return;
    };
    let kernel = kernel.info.id;
    assert_eq!(load(&model, kernel, Some(&cache)).1, CacheUse::Written);
    assert_eq!(load(&model, kernel, Some(&cache)).1, CacheUse::Read);
    let file = fs::File::options().write(true).open(&model).unwrap();
    let later = SystemTime::now() + Duration::from_secs(2);
    file.set_modified(later).unwrap();
    assert_eq!(load(&model, kernel, Some(&cache)).1, CacheUse::Written);
    // The same model elsewhere, unchanged: what was kept serves it.
    let copy = dir.path().join("copy.gguf");
    fs::copy(&model, &copy).unwrap();
    fs::File::options()
        .write(true)
        .open(&copy)
        .unwrap()
        .set_modified(later)
        .unwrap();
    assert_eq!(load(&copy, kernel, Some(&cache)).1, CacheUse::Read);
}

#[test]
fn heads_in_blocks_are_kept_beside_the_linears() {
    let dir = tempfile::tempdir().unwrap();
    let (model, cache) = (model(dir.path()), dir.path().join("cache"));
    // It reads the file as it is: what is kept is the head.
    let kernel = "w2a8-naive-scalar";
    let heads = [HeadType::Q6K, HeadType::Q4_0, HeadType::F16Top];
    for head in heads {
        let (plain, used, _) = load_head(&model, kernel, head, None);
        assert_eq!(used, CacheUse::Unused, "{head}");
        let (first, used, _) = load_head(&model, kernel, head, Some(&cache));
        assert_eq!(used, CacheUse::Written, "{head}");
        let (second, used, _) = load_head(&model, kernel, head, Some(&cache));
        assert_eq!(used, CacheUse::Read, "{head}");
        assert!(plain == first && plain == second, "{head}");
    }
    assert_eq!(load(&model, kernel, Some(&cache)).1, CacheUse::Unused);
    let kept: Vec<PathBuf> = fs::read_dir(&cache)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    assert_eq!(kept.len(), heads.len());
    for path in kept {
        // In a head with bounds it is one of them.
        let mut bytes = fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(&path, bytes).unwrap();
    }
    for head in heads {
        let (again, used, _) = load_head(&model, kernel, head, Some(&cache));
        assert!(matches!(used, CacheUse::Replaced(_)), "{head}: {used:?}");
        assert!(again == load_head(&model, kernel, head, None).0, "{head}");
    }
}
