//! Suites: what is read, and that every mistake is named with file and key.
use std::time::Duration;

use trit_core::{
    EnergyMode, EnergySettings, MeterChoice, PairSubject, Selector, ShapeRef, Suite, ThreadCount,
    Workload,
};

fn parse(text: &str) -> Result<Suite, String> {
    Suite::parse("my.toml", text).map_err(|error| error.to_string())
}

const HEAD: &str = "[suite]\nname = \"x\"\n";

#[test]
fn reads_every_key() {
    let suite = parse(
        r#"
[suite]
name = "mine"
description = "All keys"
seed = 9
budget = "1m30s"
[run]
energy = true
[energy]
source = "powercap"
window = "3s"
windows = 4
idle = "5s"
budget = "40s"
[[micro]]
workloads = ["gemv-cold", "gemm"]
kernels = ["available", "!best:2", "f16-dense-avx2"]
shapes = ["640x2560", "2b4t"]
tokens = [2, 32]
threads = [1, "all"]
[[generate]]
workloads = ["prefill", "decode"]
models = ["synth:125m", "some/model.gguf"]
kernels = ["best"]
threads = [2]
prompt_tokens = 5
gen_tokens = 6
depth = 7
batch = [1, 32]
kv = "f32"
head = ["f32", "i8"]
ubatch = 8
[[pair]]
workload = "gemv-warm"
subject = "best:1"
against = "probe:read"
shapes = ["8x16"]
"#,
    )
    .unwrap();
    assert_eq!((suite.name.as_str(), suite.seed), ("mine", 9));
    assert_eq!(suite.budget.unwrap().as_secs(), 90);
    assert_eq!(
        suite.energy,
        EnergySettings {
            mode: EnergyMode::All,
            source: MeterChoice::Powercap,
            window: Duration::from_secs(3),
            windows: 4,
            idle: Duration::from_secs(5),
            budget: Duration::from_secs(40),
            max_others: 0.02,
        }
    );
    let micro = &suite.micro[0];
    assert_eq!(micro.workloads, [Workload::GemvCold, Workload::Gemm]);
    assert_eq!(
        micro.kernels,
        [
            Selector::Available,
            Selector::Not(Box::new(Selector::Best(2))),
            Selector::Id("f16-dense-avx2".into())
        ]
    );
    assert_eq!(micro.shapes[0], ShapeRef::Matrix { rows: 640, k: 2560 });
    assert_eq!(micro.shapes[1].matrices().len(), 4);
    assert_eq!(micro.tokens, [2, 32]);
    assert_eq!(micro.threads, [ThreadCount::Count(1), ThreadCount::All]);
    assert_eq!(micro.threads[1].on(64), 64);
    let generate = &suite.generate[0];
    assert_eq!(generate.kernels, [Selector::Best(1)]);
    assert_eq!(
        (
            &generate.prompt_tokens[..],
            &generate.gen_tokens[..],
            &generate.depth[..],
            &generate.ubatch[..],
            &generate.batch[..],
        ),
        (&[5][..], &[6][..], &[7][..], &[8][..], &[1, 32][..])
    );
    assert_eq!(
        (generate.kv.join(" "), generate.head.join(" ")),
        ("f32".to_owned(), "f32 i8".to_owned())
    );
    assert_eq!(suite.pair[0].against, PairSubject::Read);
    assert_eq!(suite.pair[0].threads, [ThreadCount::All]);
}

#[test]
fn a_mistake_is_named_with_its_place() {
    for (text, want) in [
        ("", "my.toml:1:1: missing field `suite`"),
        ("[suite]\nname = 3\n", "my.toml:2:8: invalid type"),
        (
            "[suite]\nname = \"x\"\ncolour = 1\n",
            "my.toml:3:1: unknown field `colour`, expected one of `name`, `description`, `seed`, `budget`",
        ),
        (
            "[suite]\nname = \"x\"\nname = \"y\"\n",
            "my.toml:3:1: duplicate key",
        ),
        (
            "[[nano]]\n",
            "unknown field `nano`, expected one of `suite`, `run`, `energy`, `micro`, `generate`, `pair`",
        ),
        (
            "[suite]\nname = \"A b\"\n[[micro]]\nworkloads=[\"dispatch\"]\n",
            "suite.name: `A b`",
        ),
        (
            "[suite]\nname = \"x\"\nbudget = \"2 weeks\"\n",
            "suite.budget: `2 weeks` is not a duration",
        ),
        (
            "[suite]\nname = \"x\"\nseed = -1\n",
            "my.toml:3:8: invalid value",
        ),
        (HEAD, "suite: measures nothing"),
        ("[suite\n", "my.toml:1:"),
    ] {
        let error = parse(text).unwrap_err();
        assert!(error.contains(want), "{text:?}: {error}");
        assert!(!error.contains('\n'), "{error}");
    }
    for (entry, want) in [
        (
            "[run]\nenergy = \"maybe\"\n",
            "`maybe` is not one of auto true false",
        ),
        (
            "[energy]\nsource = \"rapl\"\n",
            "unknown variant `rapl`, expected one of `auto`, `perf`, `powercap`",
        ),
        (
            "[energy]\nwindow = \"500ms\"\n",
            "energy.window: is not in 1s..=10m",
        ),
        (
            "[energy]\nwindows = 0\n",
            "energy.windows: 0 is not in 1..=1000",
        ),
        (
            "[[micro]]\nworkloads = [\"gemv\"]\n",
            "unknown variant `gemv`, expected one of `gemv-cold`",
        ),
        (
            "[[micro]]\nworkloads = []\nshapes=[\"8x8\"]\n",
            "micro[0].workloads: is empty",
        ),
        (
            "[[micro]]\nworkloads = [\"decode\"]\nshapes=[\"8x8\"]\n",
            "micro[0].workloads: `decode` does not belong here",
        ),
        (
            "[[micro]]\nworkloads = [\"gemm\"]\n",
            "micro[0].shapes: is missing",
        ),
        (
            "[[micro]]\nworkloads = [\"gemm\"]\nshape = [\"8x8\"]\n",
            "unknown field `shape`",
        ),
        (
            "[[micro]]\nworkloads = [\"gemm\"]\nshapes = [\"0x8\"]\n",
            "each side must be in",
        ),
        (
            "[[micro]]\nworkloads = [\"gemm\"]\nshapes = [\"3b5t\"]\n",
            "unknown shape `3b5t`; hint",
        ),
        (
            "[[micro]]\nworkloads = [\"gemm\"]\nshapes = [\"99999999999999999999x8\"]\n",
            "unknown shape",
        ),
        (
            "[[micro]]\nworkloads = [\"gemm\"]\nshapes = [\"8x8\"]\ntokens = [0]\n",
            "micro[0].tokens: 0 is not in",
        ),
        (
            "[[micro]]\nworkloads = [\"gemm\"]\nshapes = [\"8x8\"]\nthreads = [0]\n",
            "thread count",
        ),
        (
            "[[micro]]\nworkloads = [\"gemm\"]\nshapes = [\"8x8\"]\nthreads = [\"some\"]\n",
            "thread count",
        ),
        (
            "[[micro]]\nworkloads = [\"gemm\"]\nshapes = [\"8x8\"]\nkernels = [\"best:0\"]\n",
            "best:3 takes the three fastest",
        ),
        (
            "[[micro]]\nworkloads = [\"gemm\"]\nshapes = [\"8x8\"]\nkernels = [\"!!available\"]\n",
            "one `!` is enough",
        ),
        (
            "[[generate]]\nworkloads = [\"prefill\"]\nmodels = []\n",
            "generate[0].models: is empty",
        ),
        (
            "[[generate]]\nworkloads = [\"gemm\"]\nmodels = [\"m\"]\n",
            "generate[0].workloads: `gemm`",
        ),
        (
            "[[generate]]\nworkloads = [\"decode\"]\nmodels = [\"synth:9t\"]\n",
            "unknown shape in `synth:9t`",
        ),
        (
            "[[generate]]\nworkloads = [\"decode\"]\nmodels = [\"m\"]\nkv = \"f64\"\n",
            "generate[0].kv: `f64`",
        ),
        (
            "[[generate]]\nworkloads = [\"decode\"]\nmodels = [\"m\"]\nubatch = 0\n",
            "generate[0].ubatch: 0",
        ),
        (
            "[[generate]]\nmodels = [\"m\"]\n",
            "generate[0].workloads: is empty",
        ),
        (
            "[[generate]]\nworkloads = [\"decode\"]\nmodels = [\"m\"]\npage_cache = [\"warm\", \"tepid\"]\n",
            "generate[0].page_cache: `tepid` is not one of warm, cold",
        ),
        (
            "[[generate]]\nworkloads = [\"decode\"]\nmodels = [\"m\"]\npage_cache = []\n",
            "generate[0].page_cache: is empty",
        ),
        (
            "[[generate]]\nworkloads = [\"decode\"]\nmodels = [\"m\"]\npacked_cache = \"yes\"\n",
            "expected true, false, or a list of them",
        ),
        (
            "[[generate]]\nworkloads = [\"decode\"]\nmodels = [\"m\", \"synth:2b4t\"]\npage_cache = \"cold\"\n",
            "generate[0].page_cache: stands beside `synth:2b4t`",
        ),
        (
            "[[generate]]\nworkloads = [\"decode\"]\nmodels = [\"builtin:shakespeare\"]\npacked_cache = true\n",
            "generate[0].packed_cache: stands beside `builtin:shakespeare`",
        ),
        (
            "[[generate]]\nworkloads = [\"decode\"]\nmodels = [\"m\"]\nbatch = [1, 33]\n",
            "generate[0].batch: 33 is not in 1..=32",
        ),
        (
            "[[generate]]\nworkloads = [\"decode\"]\nmodels = [\"m\"]\nbatch = []\n",
            "generate[0].batch: is empty",
        ),
        (
            "[[generate]]\nworkloads = [\"decode\"]\nmodels = [\"m\"]\nbatch = \"all\"\n",
            "expected a whole number from 0, or a list of them",
        ),
        (
            "[[generate]]\nworkloads = [\"decode\"]\nmodels = [\"m\"]\ndepth = -1\n",
            "expected a whole number from 0, or a list of them",
        ),
        (
            "[[generate]]\nworkloads = [\"decode\"]\nmodels = [\"m\"]\nkv = 8\n",
            "expected a text, or a list of texts",
        ),
        (
            "[[generate]]\nworkloads = [\"decode\"]\nmodels = [\"m\"]\nprompts = [\"tea\"]\n",
            "generate[0].prompts: no prompt `tea`; hint: one of renewable-energy",
        ),
        (
            "[[generate]]\nmodels = [\"m\"]\ntests = [\"pp\"]\n",
            "`pp` is no test; hint: pp512",
        ),
        (
            "[[generate]]\nmodels = [\"m\"]\ntests = [\"tg1\"]\n",
            "generate[0].tests: is 1",
        ),
        (
            "[[generate]]\nmodels = [\"m\"]\ntests = [\"pp0\"]\n",
            "generate[0].tests: 0 is not in",
        ),
        (
            "[[generate]]\nmodels = [\"m\"]\ntests = [\"pp1 @ d9999999\"]\n",
            "generate[0].tests: 9999999 is above",
        ),
        (
            "[[generate]]\nworkloads = [\"decode\"]\nmodels = [\"m\"]\ntests = [\"pp1\"]\n",
            "generate[0].tests: stand beside",
        ),
        (
            "[[generate]]\nworkloads = [\"decode\"]\nmodels = [\"m\"]\ndepth = 99999999\n",
            "generate[0].depth",
        ),
        (
            "[[pair]]\nworkload = \"gemm\"\nsubject = \"best\"\nagainst = \"best:3\"\nshapes = [\"8x8\"]\n",
            "name one id, best:1, or dense:f16",
        ),
        (
            "[[pair]]\nworkload = \"gemm\"\nsubject = \"best\"\nagainst = \"dense:f8\"\nshapes = [\"8x8\"]\n",
            "unknown baseline `dense:f8`",
        ),
        (
            "[[pair]]\nworkload = \"gemm\"\nsubject = \"probe:read\"\nagainst = \"best\"\nshapes = [\"8x8\"]\n",
            "pair[0].subject: `probe:read` is a probe",
        ),
        (
            "[[pair]]\nworkload = \"gemm\"\nsubject = \"a\"\nagainst = \"a\"\nshapes = [\"8x8\"]\n",
            "pair[0].against: is the subject itself",
        ),
        (
            "[[pair]]\nworkload = \"gemm\"\nsubject = \"a\"\nagainst = \"probe:write\"\nshapes = [\"8x8\"]\n",
            "unknown probe `probe:write`",
        ),
        (
            "[[pair]]\nworkload = \"pack\"\nsubject = \"a\"\nagainst = \"b\"\nshapes = [\"8x8\"]\n",
            "pair[0].workload: `pack`",
        ),
    ] {
        let error = parse(&format!("{HEAD}{entry}")).unwrap_err();
        assert!(error.starts_with("my.toml"), "{error}");
        assert!(error.contains(want), "{entry:?}: {error}");
    }
}
