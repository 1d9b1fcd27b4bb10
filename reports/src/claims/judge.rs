//! Verdicts on claims.

use trit_core::{
    Cell, Claim, ModelShape, Quantity, ShapeRef, Status, Suite, SummaryRow, Workload,
    embedded_shape, embedded_suite,
};
use trit_stats::Interval;

use super::{ClaimVerdict, Judged, Ours, published};
use crate::arithmetic::published_pass_j;
use crate::compose::{Linears, Token, dense_format};
use crate::facts;
use crate::markdown::ranked;
use crate::record::Record;
use crate::summary::LEVEL;
use crate::units::{show_bytes, three};

/// Bits of a weight below which no kernel of this program goes: the least that a model needs in memory.
const LEAST_BITS: f64 = 1.6;

/// Judges every claim; without a run none can be.
pub(crate) fn judge<'a>(claims: &'a [Claim], run: Option<&Record>) -> Vec<Judged<'a>> {
    let Some(run) = run else {
        let none = |claim| Judged {
            claim,
            ours: Vec::new(),
            verdict: ClaimVerdict::NotMeasurable,
            reason: "no run given".to_owned(),
        };
        return claims.iter().map(none).collect();
    };
    let linears = Linears::new(&run.rows, &run.pairs);
    let judge = Judge { run, linears };
    claims.iter().map(|claim| judge.claim(claim)).collect()
}

struct Judge<'r> {
    run: &'r Record,
    linears: Linears<'r>,
}

/// Whether a figure is reached.
#[derive(Clone, Copy, PartialEq)]
enum Reach {
    Yes,
    No,
    /// The interval holds the limit.
    Open,
}

/// Whether a cell generates one token after the other with the model and threads of a claim.
fn decodes(cell: &Cell, claim: &Claim, shape: &ModelShape) -> bool {
    cell.workload == Workload::Decode
        && cell.linear_weights == Some(shape.linear_weights())
        && cell.batch.unwrap_or(1) == 1
        && (claim.threads.is_none() || cell.threads == claim.threads)
}

impl Ours {
    /// The rate or latency of a whole model, measured or projected.
    fn of_model(claim: &Claim, row: &SummaryRow) -> Option<Self> {
        let results = &row.results;
        let (median, rate) = (results.median_ns?, results.tokens_per_s.unwrap_or(0.0));
        let ends = results.lo_ns.zip(results.hi_ns).filter(|(lo, _)| *lo > 0.0);
        let (value, ends) = if claim.quantity == Quantity::DecodeRate {
            (
                rate,
                ends.map(|(lo, hi)| (rate * median / hi, rate * median / lo)),
            )
        } else {
            (median / 1e6, ends.map(|(lo, hi)| (lo / 1e6, hi / 1e6)))
        };
        let projected = row.cell.status == Status::Projected;
        let model = if projected {
            row.cell.reason.as_str()
        } else {
            "whole model with random weights or of a file"
        };
        Some(Self {
            value,
            interval: ends.map(interval),
            basis: format!(
                "{model}, `{}`, {}",
                row.cell.kernel,
                threads(row.cell.threads)
            ),
            projected,
        })
    }
}

impl Judge<'_> {
    fn claim<'a>(&self, claim: &'a Claim) -> Judged<'a> {
        let judged = |ours, verdict, reason: String| Judged {
            claim,
            ours,
            verdict,
            reason,
        };
        match claim.quantity {
            Quantity::Accuracy => {
                let reason = "a run holds speed, memory and energy, not answers: `tritbench eval` scores a model file";
                return judged(Vec::new(), ClaimVerdict::NotMeasurable, reason.to_owned());
            }
            Quantity::Arithmetic => return arithmetic(claim),
            _ => {}
        }
        let mut ours = Vec::new();
        let mut lacks: Vec<(&str, String)> = Vec::new();
        for model in &claim.models {
            let Some(shape) = embedded_shape(model) else {
                continue;
            };
            match self.measured(claim, shape) {
                Ok(found) => ours.push((model.as_str(), found)),
                Err(why) => lacks.push((model, why)),
            }
        }
        let unmeasurable = |ours, reason| judged(ours, ClaimVerdict::NotMeasurable, reason);
        if let Some(reason) = self.elsewhere(claim) {
            return unmeasurable(ours, reason);
        }
        if facts::debug_build(&self.run.session) {
            let reason = "the program was built with debug assertions: its times mean nothing";
            return unmeasurable(ours, reason.to_owned());
        }
        if let Some((_, first)) = lacks.first() {
            let reason = if lacks.len() == 1 || claim.models.len() == 1 {
                first.clone()
            } else {
                let names: Vec<&str> = lacks.iter().map(|(model, _)| *model).collect();
                format!("{first}; missing are {}", names.join(" "))
            };
            return unmeasurable(ours, reason);
        }
        if let Some((_, part)) = ours.iter().find(|(_, ours)| ours.projected) {
            let reason = format!(
                "ours is a projection ({}), not a measurement of the whole model",
                part.basis
            );
            return unmeasurable(ours, reason);
        }
        let (verdict, reason) = verdict(claim, &ours);
        judged(ours, verdict, reason)
    }

    /// Why a claim is about machines of another kind; nothing when it is about this one.
    fn elsewhere(&self, claim: &Claim) -> Option<String> {
        let machine = &self.run.session.machine;
        let text = |pointer: &str| {
            let text = machine.pointer(pointer).and_then(|value| value.as_str());
            text.unwrap_or("unknown")
        };
        let (model, architecture) = (text("/cpu/model"), text("/cpu/architecture"));
        if !claim.machine.is_empty() && !model.contains(&claim.machine) {
            return Some(format!(
                "another class of processor: published for {}, this is {model}",
                claim.machine
            ));
        }
        (!claim.architecture.is_empty() && claim.architecture != architecture).then(|| {
            format!(
                "another class of processor: published for {}, this is {architecture}",
                claim.architecture
            )
        })
    }

    /// What the run has of one model, or why it has nothing.
    fn measured(&self, claim: &Claim, shape: &ModelShape) -> Result<Ours, String> {
        match claim.quantity {
            Quantity::DecodeRate | Quantity::DecodeLatency => self
                .decode(claim, shape)
                .or_else(|| self.projected(claim, shape))
                .ok_or_else(|| self.no_cell(claim, shape)),
            Quantity::SpeedUp | Quantity::EnergySaving => self.against(claim, shape),
            Quantity::EnergyToken => self.energy(claim, shape),
            Quantity::WeightMemory => self.memory(shape).ok_or_else(|| {
                "the run has no verified ternary kernel: any suite measures one".to_owned()
            }),
            Quantity::Arithmetic | Quantity::Accuracy => Err("nothing is measured".to_owned()),
        }
    }

    /// Rows of a model that generate one token after the other.
    fn decodes(&self, claim: &Claim, shape: &ModelShape) -> impl Iterator<Item = &SummaryRow> {
        let rows = self.run.rows.iter();
        rows.filter(move |row| ranked(row) && decodes(&row.cell, claim, shape))
    }

    fn decode(&self, claim: &Claim, shape: &ModelShape) -> Option<Ours> {
        let rate = |row: &SummaryRow| row.results.tokens_per_s.unwrap_or(0.0);
        let row = self
            .decodes(claim, shape)
            .max_by(|a, b| rate(a).total_cmp(&rate(b)))?;
        Ours::of_model(claim, row)
    }

    /// A whole model projected from parts of its layers; where there is none, what the matrices of a token leave at most.
    fn projected(&self, claim: &Claim, shape: &ModelShape) -> Option<Ours> {
        let rows = self.run.rows.iter();
        let rows = rows
            .filter(|row| row.cell.status == Status::Projected)
            .filter(|row| decodes(&row.cell, claim, shape));
        let rate = |row: &SummaryRow| row.results.tokens_per_s.unwrap_or(0.0);
        let line = rows.max_by(|a, b| rate(a).total_cmp(&rate(b)));
        if let Some(ours) = line.and_then(|row| Ours::of_model(claim, row)) {
            return Some(ours);
        }
        let token = self.ternary(claim, shape)?;
        let ns = token.ns();
        Some(Ours {
            value: if claim.quantity == Quantity::DecodeRate {
                1e9 / ns
            } else {
                ns / 1e6
            },
            interval: None,
            basis: format!("{} alone", parts(&token)),
            projected: true,
        })
    }

    /// The fastest ternary kernel that has all matrices of a model.
    fn ternary(&self, claim: &Claim, shape: &ModelShape) -> Option<Token<'_>> {
        let tokens = self.linears.tokens(shape).into_iter();
        let mut tokens = tokens.filter(|token| claim.threads.is_none_or(|n| n == token.threads));
        tokens.find(|token| dense_format(token.kernel).is_none())
    }

    /// The factor between ternary weights and a baseline, for the matrices of a token.
    fn against(&self, claim: &Claim, shape: &ModelShape) -> Result<Ours, String> {
        let tokens = self.linears.tokens(shape).into_iter();
        let baseline = tokens
            .filter(|token| claim.threads.is_none_or(|n| n == token.threads))
            .find(|token| dense_format(token.kernel) == Some(claim.against.as_str()));
        let (Some(ternary), Some(baseline)) = (self.ternary(claim, shape), baseline) else {
            return Err(self.no_cell(claim, shape));
        };
        let factor = if claim.quantity == Quantity::SpeedUp {
            self.linears.speed_up(&ternary, &baseline)
        } else {
            self.linears.joules(&ternary, &baseline)
        };
        let Some(factor) = factor else {
            return Err(self.no_joules());
        };
        // A factor of five saves four fifths.
        let saving = |factor: f64| 100.0 * (1.0 - 1.0 / factor);
        let speed = claim.quantity == Quantity::SpeedUp;
        let of = |factor: f64| if speed { factor } else { saving(factor) };
        let ends = factor.interval.map(|i| (of(i.lo), of(i.hi)));
        let team = if ternary.threads == baseline.threads {
            threads(Some(ternary.threads))
        } else {
            format!("{} and {} threads", ternary.threads, baseline.threads)
        };
        Ok(Ours {
            value: of(factor.value),
            interval: ends.map(interval),
            basis: format!(
                "{}, `{}` against `{}`, {team}, {}",
                parts(&ternary),
                ternary.kernel,
                baseline.kernel,
                if factor.paired {
                    "from pairs"
                } else {
                    "from separate medians"
                }
            ),
            projected: false,
        })
    }

    fn energy(&self, claim: &Claim, shape: &ModelShape) -> Result<Ours, String> {
        let joules = |row: &SummaryRow| row.results.gross_j_per_token.unwrap_or(f64::INFINITY);
        let mut rows = self.decodes(claim, shape).peekable();
        if rows.peek().is_none() {
            return Err(if self.run.session.energy.status == "ok" {
                self.no_cell(claim, shape)
            } else {
                self.no_joules()
            });
        }
        let row = rows
            .filter(|row| row.results.gross_j_per_token.is_some())
            .min_by(|a, b| joules(a).total_cmp(&joules(b)))
            .ok_or_else(|| self.no_joules())?;
        let results = &row.results;
        let ends = results
            .gross_j_per_token_lo
            .zip(results.gross_j_per_token_hi);
        Ok(Ours {
            value: joules(row),
            interval: ends.map(interval),
            basis: format!(
                "gross energy of the {} by {}, `{}`, {}",
                results.energy_domain,
                results.energy_source,
                row.cell.kernel,
                threads(row.cell.threads)
            ),
            projected: false,
        })
    }

    /// Bytes of the weights in the smallest layout of a kernel that the run verified.
    fn memory(&self, shape: &ModelShape) -> Option<Ours> {
        let bits = |row: &SummaryRow| row.cell.weight_bits.unwrap_or(f64::INFINITY);
        let row = self
            .run
            .rows
            .iter()
            .filter(|row| ranked(row) && row.cell.kernel.starts_with('w'))
            .filter(|row| row.cell.weight_bits.is_some())
            .min_by(|a, b| bits(a).total_cmp(&bits(b)))?;
        Some(Ours {
            value: shape.linear_weights() as f64 * bits(row) / 8.0 / 1e9,
            interval: None,
            basis: format!(
                "{} ternary weights at the {} bits of the layout of `{}`, verified in this run",
                shape.linear_weights(),
                three(bits(row)),
                row.cell.kernel
            ),
            projected: false,
        })
    }

    /// Why there are no joules.
    fn no_joules(&self) -> String {
        let facts = &self.run.session.energy;
        match facts.status.as_str() {
            "" => "no meter: the run did not look for one".to_owned(),
            "ok" => "a meter was there, and no window of these cells counts: `--energy true` takes every cell".to_owned(),
            status => format!("no meter: {} (`{status}`)", facts.reason),
        }
    }

    /// Why a model has no cell, and what would measure it.
    fn no_cell(&self, claim: &Claim, shape: &ModelShape) -> String {
        let whole = !matches!(claim.quantity, Quantity::SpeedUp | Quantity::EnergySaving);
        let what = if whole {
            format!("no decode cell of {}", shape.name)
        } else {
            format!(
                "no gemv-cold cells of all matrices of {} by a ternary kernel and by {}",
                shape.name, claim.against
            )
        };
        let team = claim
            .threads
            .map_or_else(String::new, |n| format!(" on {}", threads(Some(n))));
        let cpus = self.number("/limits/default_threads");
        if let (Some(wanted), Some(cpus)) = (claim.threads, cpus)
            && wanted > cpus
        {
            return format!("the run has {what}{team}: this machine gives a process {cpus}");
        }
        let needs = shape.linear_weights() as f64 * LEAST_BITS / 8.0
            + 2.0 * shape.embedding_weights() as f64;
        if let Some(memory) = self.number("/memory/total_bytes")
            && whole
            && needs > memory as f64
        {
            return format!(
                "the run has {what}{team}: it takes at least {}, and this machine has {}",
                show_bytes(needs),
                show_bytes(memory as f64)
            );
        }
        format!("the run has {what}{team}: {}", remedy(claim, shape, whole))
    }

    fn number(&self, pointer: &str) -> Option<u64> {
        self.run.session.machine.pointer(pointer)?.as_u64()
    }
}

/// What a reader can run.
fn remedy(claim: &Claim, shape: &ModelShape, whole: bool) -> String {
    let name = claim.suite.as_str();
    let suite = embedded_suite(name).and_then(|text| Suite::parse(name, text).ok());
    let Some(suite) = suite else {
        return "a suite of your own can measure it (suites/FORMAT.md)".to_owned();
    };
    if whole {
        let model = format!("synth:{}", shape.name);
        if suite
            .generate
            .iter()
            .any(|entry| entry.models.contains(&model))
        {
            return format!("`tritbench run {name}` measures it");
        }
        return format!("`tritbench run {name} --model {model}` measures it");
    }
    let wanted = ShapeRef::Model(shape.name.clone());
    if suite
        .pair
        .iter()
        .any(|entry| entry.shapes.contains(&wanted))
    {
        format!("`tritbench run {name}` measures it")
    } else {
        format!(
            "`{name}` leaves it out; add `{}` to the shapes of its pairs",
            shape.name
        )
    }
}

/// What a token was put together from.
fn parts(token: &Token<'_>) -> &'static str {
    if token.head.is_some() {
        "linears and head of a token"
    } else {
        "linears of a token, without the head"
    }
}

fn threads(count: Option<u64>) -> String {
    count.map_or_else(|| "unknown threads".to_owned(), crate::labels::threads)
}

fn interval((lo, hi): (f64, f64)) -> Interval {
    Interval {
        lo,
        hi,
        level: LEVEL,
    }
}

/// The formula: reproduced where it gives the published digits.
fn arithmetic(claim: &Claim) -> Judged<'_> {
    let value = claim.arithmetic.as_ref().map(published_pass_j);
    let (want, _) = published(claim);
    let text = want.to_string();
    let digits = text.split_once('.').map_or(0, |(_, digits)| digits.len());
    let ours = Ours {
        value: value.unwrap_or(f64::NAN),
        interval: None,
        basis: "the published formula".to_owned(),
        projected: false,
    };
    let same = format!("{:.digits$}", ours.value) == format!("{want:.digits$}");
    Judged {
        claim,
        ours: vec![("", ours)],
        verdict: if same {
            ClaimVerdict::Reproduced
        } else {
            ClaimVerdict::NotReproduced
        },
        reason: if same {
            "the formula gives the published digits: arithmetic, not energy that anyone measured"
        } else {
            "the formula gives other digits"
        }
        .to_owned(),
    }
}

fn reach(claim: &Claim, ours: &Ours, figure: f64) -> Reach {
    let slack = claim.tolerance_percent / 100.0;
    let less = claim.quantity.less_is_better();
    let limit = figure * if less { 1.0 + slack } else { 1.0 - slack };
    let (worst, best) = match ours.interval {
        Some(interval) if less => (interval.hi, interval.lo),
        Some(interval) => (interval.lo, interval.hi),
        None => (ours.value, ours.value),
    };
    let enough = |value: f64| if less { value <= limit } else { value >= limit };
    match (enough(worst), enough(best)) {
        (true, _) => Reach::Yes,
        (_, false) => Reach::No,
        _ => Reach::Open,
    }
}

fn verdict(claim: &Claim, ours: &[(&str, Ours)]) -> (ClaimVerdict, String) {
    let by = |a: &&Ours, b: &&Ours| a.value.total_cmp(&b.value);
    let all = || ours.iter().map(|(_, ours)| ours);
    let Some((least, most)) = all().min_by(by).zip(all().max_by(by)) else {
        return (ClaimVerdict::NotMeasurable, "names no model".to_owned());
    };
    let (from, to) = published(claim);
    // Of a range over several models both ends have to be reached, of one over machines the nearer one.
    let reached = match to {
        Some(to) if ours.len() > 1 => [reach(claim, least, from), reach(claim, most, to)],
        Some(to) if claim.quantity.less_is_better() => [reach(claim, least, to); 2],
        _ => [reach(claim, least, from); 2],
    };
    let tolerance = three(claim.tolerance_percent);
    let bare = all().any(|ours| ours.interval.is_none());
    let exact = claim.quantity == Quantity::WeightMemory;
    let doubt = if bare && !exact {
        ", and there is no interval"
    } else {
        ""
    };
    if reached.contains(&Reach::No) {
        let reason = format!("ours is short of the figure by more than {tolerance} %{doubt}");
        (ClaimVerdict::NotReproduced, reason)
    } else if reached.contains(&Reach::Open) {
        let reason =
            "the 95 % interval of ours holds the limit: a longer run would tell".to_owned();
        (ClaimVerdict::NotMeasurable, reason)
    } else {
        let reason = format!("ours reaches the figure within {tolerance} % or exceeds it{doubt}");
        (ClaimVerdict::Reproduced, reason)
    }
}
